"""The optimal loss of a conflict graph, for one budget or a curve of them."""

from robustness_core.optimal_loss.sets import curve_of, least_ball, loss_with_sets, set_curves
from robustness_core.optimal_loss.solve import OptimalLoss, error_curve, loss_curve, loss_steps, optimal_loss
from robustness_core.optimal_loss.stakes import stakes

__all__ = [
    "OptimalLoss",
    "curve_of",
    "error_curve",
    "least_ball",
    "loss_curve",
    "loss_steps",
    "loss_with_sets",
    "optimal_loss",
    "set_curves",
    "stakes",
]
