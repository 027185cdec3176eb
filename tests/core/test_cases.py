"""The files beside STRATA_DATA that were once misread or refused wrongly: each is answered rightly, or named truly."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from robustness_core.checkpoints import CheckpointError
from robustness_core.checkpoints.report import inspect

CASES = Path(os.environ.get("STRATA_DATA", "/nowhere")).parent / "uploads" / "cases"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="the cases beside STRATA_DATA are not here")

# The accuracy on the official test images, and the first words of the architecture.
READ = {
    "denograd__mnist.safetensors": (0.988, "conv 32 5x5/1, relu, conv 32 5x5/1, relu, bn, maxpool 2/2"),
    "rv1126_mnist__model_Mnist.pth": (0.9723, "conv 10 5x5/1, relu, maxpool 2/2, conv 20 5x5/1, relu, maxpool 2/2"),
    "rv1126_mnist__mnist.onnx": (0.9723, "conv 10 5x5/1, relu, maxpool 2/2"),
    "alpha-beta-CROWN__cifar_conv_small_pgd.pth": (0.6292, "conv 16 4x4/2, relu, conv 32 4x4/2, relu, flatten, fc 100"),
    "oval-bab__cifar_madry_8px.pth": (0.3524, "conv 16 4x4/2 p1, relu, conv 32 4x4/2 p1, relu, flatten, fc 100"),
    "cifar10_pytorch_quantization_demo__checkpoint.pth.tar": (0.804, "conv 64 3x3/1, bn, relu, maxpool 2/2, conv 64"),
}
# What is said of a file: a refusal, or a warning.
SAID = {
    "DLCV_2021_hw2__svhn.pth": r"whole module \(__main__.DANN\), whose tensors \(main.0.weight 28×3×4×4",
    "bn_no_running_stats.pt": "depends on the batch",
    "groupnorm.pt": "group (or layer )?norm",
    "argmax_output.onnx": "ends in a class and not in scores",
    "bn_training_mode.onnx": "evaluation mode",
    "gdrive_quota.pt": "web page, so the download failed",
    "utf8_bom.onnx": "Three bytes of a text mark",
    "one_logit.pt": "whose sign tells two classes apart",
    "max_bn_issue__best.pth.tar": "trained for quantisation",
    "optimizer_object.pth.tar": "torch.optim.adam.Adam",
    "torch_fashion_mnist_onnx__fashion_mnist.onnx": "such as Fashion-MNIST",
    "mnist_three_channels.pt": "grey images are repeated",
    "norm_in_255_units.pt": "divided by 255",
    "uint8_input.onnx": "pixels from 0 to 255",
    "extra_counter.pt": "ignored: steps",
    "extra_rng.pt": "ignored: rng_state",
    "lightning_loss_weight.ckpt": "ignored: criterion.weight",
    "weight_norm_old.pt": "Folded from weight norm",
    "weight_norm_new.pt": "Folded from weight norm",
    "spectral_old.pt": "Folded from spectral norm",
    "spectral_new.pt": "Folded from spectral norm",
    "pruned_mask.pt": "Folded from pruning",
    "whole_module_sequential.pt": "read, as data",
    "fuzz/mul_one_input.onnx": "has 1 inputs",
    "fuzz/tensor_segment.onnx": "in segments",
    "fuzz/tensor_wrong_field.onnx": "declares 10 numbers but holds 0",
    "fuzz/prelu_c_no_w.onnx": "do not fit its input",
    "fuzz/log_black.onnx": "NaN or infinity for every test image",
    "fuzz/own_huge_weights.safetensors": "NaN or infinity for every test image",
    "fuzz/own_nan_norm.safetensors": "NaN or infinity for every test image",
    "fuzz/elementwise_slow.onnx": "multiplications an image",
    "fuzz/pk_dict_copies.pt": "far more entries",
    "fuzz/pk_huge_int_key.pt": "over 64 bits",
    "fuzz/st_zero_kernel.safetensors": "is empty",
    "fuzz/st_scalar_running_mean.safetensors": "shapes that do not fit together",
}
ACCEPTED = (
    "nodes_reversed.onnx", "opset_twice.onnx", "opset_other_domains.onnx", "onnx-parser__mnist-sm.onnx", "depthwise.pt",
    "prelu.pt", "dynamic_height.onnx", "reshape_batch1_fixed_dynamic_input.onnx", "zero_batch_dim.onnx",
    "fuzz/alias_bias_identity.onnx", "fuzz/batch_2e20.onnx", "fuzz/batch_20k_conv.onnx", "fuzz/cast_bool.onnx",
    "fuzz/clip_equal.onnx", "fuzz/exp_const.onnx", "fuzz/greater_abs.onnx", "fuzz/greater_add_bool.onnx",
    "fuzz/int_div_negative.onnx", "fuzz/max_const.onnx", "fuzz/nan_black.onnx", "fuzz/prelu_last_axis.onnx",
    "fuzz/reduceprod_axes.onnx", "fuzz/selu_alpha.onnx", "fuzz/selu_default_elu.onnx", "fuzz/pk_dots_name.pt",
    "fuzz/concat_const.onnx", "fuzz/softmax_opset12_4d.onnx",
)  # fmt: skip


@needs_cases
@pytest.mark.slow
@pytest.mark.parametrize("name", READ)
def test_a_file_is_read_as_its_author_meant_it(name: str) -> None:
    accuracy, architecture = READ[name]
    report, _ = inspect(CASES / name)
    assert report["architecture"].startswith(architecture)
    few = 0.01 if report["images"] < 10_000 else 0.001
    assert report["accuracy"] == pytest.approx(accuracy, abs=few)


@needs_cases
@pytest.mark.slow
@pytest.mark.parametrize("name", SAID)
def test_what_is_the_matter_is_said(name: str) -> None:
    try:
        report, _ = inspect(CASES / name)
        said = " ".join(report["warnings"])
    except CheckpointError as refusal:
        said = str(refusal)
    assert re.search(SAID[name], said), said


@needs_cases
@pytest.mark.slow
@pytest.mark.parametrize("name", ACCEPTED)
def test_a_sound_file_is_accepted(name: str) -> None:
    inspect(CASES / name)
