"""The optimal loss of a conflict graph, for one budget or a curve of them."""

from robustness_core.optimal_loss.solve import OptimalLoss, error_curve, loss_curve, loss_steps, optimal_loss
from robustness_core.optimal_loss.stakes import stakes

__all__ = ["OptimalLoss", "error_curve", "loss_curve", "loss_steps", "optimal_loss", "stakes"]
