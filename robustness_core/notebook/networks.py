"""Networks for a notebook: any module of torch."""

from __future__ import annotations

import copy
import hashlib
import html
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from robustness_core.checkpoints import clean_copy
from robustness_core.checkpoints.onnx.importer import Imported, convert
from robustness_core.errors import NetworkError
from robustness_core.layers import cuts, dominators, extractor, main_layers
from robustness_core.networks import Network, programs

NOT_PROVED = (
    "The network cannot be traced, so its layers are the outputs of its modules and not proved to be cuts: information "
    "may pass beside a layer."
)
_WRAPPINGS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
_SAME = 1e-4  # of the largest number of an answer: what float32 may differ by in another order of operations


class Loaded(Network):
    """A network with its `name`, what was `guessed` to get it, and the `content` of the file that the database takes.

    `content` is None for a network that no file of the project's own can hold.
    """

    name: str = ""
    guessed: tuple[str, ...] = ()
    content: bytes | None = None

    @classmethod
    def of(cls, network: Network, name: str) -> Loaded:
        own = cls(
            network.body, network.input_shape, architecture=network.architecture, mean=network.mean, std=network.std
        )
        own.name = name
        return own.eval()

    def keep(self, content: bytes) -> None:
        """The network is that of a safetensors file with these bytes."""
        self.content, self.format = content, "safetensors"
        self.sha256 = hashlib.sha256(content).hexdigest()

    @property
    def layers(self) -> list[str]:
        """The names of its layers, from the images to the logits: those that `audit` takes for all."""
        return main_layers(self, self.input_shape)

    def _repr_html_(self) -> str:
        remark = f"<br>{NOT_PROVED}" if self.by_hooks else ""
        layers = html.escape(", ".join(self.layers))
        return f"<b>{html.escape(self.name)}</b>, {_times(self.input_shape)} images; layers: {layers}{remark}"


def wrap(
    module: nn.Module,
    input_shape: Sequence[int],
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    name: str | None = None,
) -> Loaded:
    """Any module of torch as a network to audit: images (B, C, H, W) -> logits (B, classes).

    `input_shape` is (C, H, W). `mean` and `std` are the normalisation that its images go through, so that those of an
    audit stay in [0, 1]; without one pixels go in as they are. The module is copied, in evaluation mode and float32; it
    must answer each image by itself, always the same, and with a gradient. Where torch.fx can trace it its layers are
    cuts. Then, where the project's own files can hold it, the same steps are taken in their
    words, checked against the module, so that a database can keep it. Where control flow forbids tracing, layers are
    the outputs of its named modules, and `by_hooks` says so. Raises NetworkError.
    """
    shape = tuple(int(size) for size in input_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise NetworkError("The input shape must be three sizes (C, H, W), for example (3, 32, 32).")
    body = _copied(module)
    network = Loaded.of(
        Network(body, shape, architecture=type(module).__name__, mean=mean, std=std), name or type(module).__name__
    )
    probe = torch.rand((3, *shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answer = _answer(network, probe)
        network.by_hooks = not (_out_of_place(network, probe, answer) and _traced(network, probe, answer))
        stored = None if network.by_hooks else _storable(network, probe, answer)
    if stored is None:
        _check_gradients(network, probe)
        network.sha256 = _fingerprint(network)
        return network
    stored.keep(clean_copy(stored))
    return stored


def _copied(module: nn.Module) -> nn.Module:
    """The module itself, without what only runs it elsewhere, as a copy in float32 and in evaluation mode."""
    while isinstance(inner := getattr(module, _WRAPPINGS.get(type(module).__name__, ""), None), nn.Module):
        module = inner
    if not isinstance(module, nn.Module):
        raise NetworkError(f"Give a module of torch, an instance of nn.Module; this is {type(module).__name__}.")
    try:
        return copy.deepcopy(module).cpu().float().eval()
    except Exception as error:  # torch copies no module whose weights were computed, as its pruning leaves them
        raise NetworkError(f"The module cannot be copied: {_first_line(error)}") from error


def _answer(network: Loaded, probe: Tensor) -> Tensor:
    """The logits (B, classes) of the images `probe`. Raises NetworkError unless they are those of each image alone."""
    images = probe.clone()
    try:
        answer, again, without = network(images), network(probe.clone()), network(probe[1:].clone())
    except Exception as error:  # the module's own code may raise anything
        raise NetworkError(
            f"The module does not run on {_times(network.input_shape)} images: {_first_line(error)}"
        ) from error
    if not (isinstance(answer, Tensor) and answer.ndim == 2 and len(answer) == len(probe)) or answer.is_complex():
        raise NetworkError("The module must give one row of finite numbers, the logits, for each image.")
    if not torch.isfinite(answer).all():
        raise NetworkError("The module must give one row of finite numbers, the logits, for each image.")
    if not torch.equal(images, probe):
        raise NetworkError("The module changes its images in place, as `x -= 0.5` does; let it write `x = x - 0.5`.")
    if not _alike(again, answer):
        raise NetworkError(
            "The module answers the same images differently a second time, in evaluation mode too: noise, or a dropout "
            "that is always on."
        )
    if not _alike(without, answer[1:]):
        raise NetworkError(
            "The module's answer for an image depends on the others of its batch, in evaluation mode too: perhaps a "
            "batch norm without running statistics."
        )
    return answer


def _check_gradients(network: Loaded, probe: Tensor) -> None:
    last = cuts(network, network.input_shape)[-1].name
    try:
        pixels = probe.clone().requires_grad_()
        torch.autograd.grad(extractor(network, last)(pixels).sum(), pixels)
    except Exception as error:  # a step without a derivative, or one that overwrites what derivatives need
        raise NetworkError(
            f"The module gives no gradient from its logits to its images, which the search needs: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _out_of_place(network: Loaded, probe: Tensor, answer: Tensor) -> bool:
    """Let no module overwrite the layer before it; False, and all as it was, where the answer rests on that."""
    overwriting: list[Any] = [part for part in network.modules() if getattr(part, "inplace", False) is True]
    for part in overwriting:
        part.inplace = False
    if _alike(network(probe.clone()), answer):
        return True
    for part in overwriting:
        part.inplace = True
    return False


def _traced(network: Loaded, probe: Tensor, answer: Tensor) -> bool:
    """Whether the network can be traced, and what is traced answers as it does."""
    try:
        last = dominators.cuts(network, network.input_shape)[-1]
        return _alike(dominators.extractor(network, last.name)(probe.clone()), answer)
    except Exception:  # a trace runs the module's own code, which may raise anything
        return False


def _alike(got: Tensor, wanted: Tensor) -> bool:
    return got.shape == wanted.shape and bool((got - wanted).abs().max() <= _SAME * wanted.abs().max())


def _storable(network: Loaded, probe: Tensor, answer: Tensor) -> Loaded | None:
    """The same network as steps that a file of the project's own holds; None where it has no words for one of them."""
    graph: Any = io.BytesIO()
    try:
        with warnings.catch_warnings(), mock.patch.object(torch._C, "_jit_onnx_log", create=True):
            # torch warns of the older of its two exporters, which needs no package, and always switches its log on,
            # which prints the graph where it fails.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network.body, (probe,), graph, dynamo=False, input_names=["images"],
                dynamic_axes={"images": {0: "batch"}},
            )  # fmt: skip
        found = next(one for one in convert(graph.getvalue()) if one.input_shape == network.input_shape)
        body = _named(found, network).body()
        description = programs.describe(found.steps)
        stored = Loaded.of(
            Network(body, network.input_shape, architecture=description, mean=network.mean, std=network.std),
            network.name,
        )
        return stored if _alike(stored(probe), answer) else None
    except Exception:  # the exporter runs the module's own code, and refuses much
        return None


def _named(found: Imported, network: Loaded) -> Imported:
    """Its steps under the names that the layers have in the module, where the two have the same layers."""
    body = Network(found.body(), network.input_shape, architecture="")
    theirs, ours = ([one for one in cuts(net, network.input_shape) if one.main] for net in (body, network))
    if [one.shape for one in theirs] != [one.shape for one in ours]:
        return found
    steps = {step.name for step in found.steps}
    names: dict[str, str] = {}
    for their, our in zip(theirs, ours, strict=True):
        name = re.sub(r"\W", "_", our.name)
        if their.name in steps and name.isidentifier() and name not in {*steps, *names.values(), "logits", "softmax"}:
            names[their.name] = name
    return replace(
        found,
        steps=tuple(
            replace(one, name=names.get(one.name, one.name), inputs=tuple(names.get(i, i) for i in one.inputs))
            for one in found.steps
        ),
        weights={".".join([names.get(first, first), *rest]): tensor for first, *rest, tensor in _split(found.weights)},
    )


def _split(weights: Mapping[str, Tensor]) -> list[list[Any]]:
    return [[*name.split("."), tensor] for name, tensor in weights.items()]


def _fingerprint(network: Loaded) -> str:
    """What tells this network from others: its modules, its weights and its normalisation."""
    content = hashlib.sha256(repr((str(network), network.input_shape, network.mean, network.std)).encode())
    for name, tensor in network.state_dict().items():
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        content.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return content.hexdigest()


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
