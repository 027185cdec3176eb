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

import torch
from torch import Tensor, nn

from robustness_core.checkpoints import clean_copy
from robustness_core.checkpoints.onnx.importer import Imported, convert
from robustness_core.errors import NetworkError
from robustness_core.layers import cuts, dominators, main_layers
from robustness_core.networks import Network, programs

NOT_PROVED = (
    "The network cannot be traced, so its layers are the outputs of its modules and not proved to be cuts: information "
    "may pass beside a layer."
)
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
    audit stay in [0, 1]; without one pixels go in as they are. The module is copied, in evaluation mode. Where torch.fx
    can trace it its layers are cuts. Then, where the project's own files can hold it, the same steps are taken in their
    words, checked against the module, so that a database can keep it. Where control flow forbids tracing, layers are
    the outputs of its named modules, and `by_hooks` says so. Raises NetworkError.
    """
    shape = tuple(int(size) for size in input_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise NetworkError("The input shape must be three sizes (C, H, W), for example (3, 32, 32).")
    body = copy.deepcopy(module).cpu().float().eval()
    part: Any
    for part in body.modules():
        if getattr(part, "inplace", False) is True:
            part.inplace = False  # it would overwrite the layer before it
    network = Loaded.of(
        Network(body, shape, architecture=type(module).__name__, mean=mean, std=std), name or type(module).__name__
    )
    with torch.no_grad():
        probe = torch.rand((3, *shape), generator=torch.Generator().manual_seed(0))
        try:
            answer = network(probe)
        except Exception as error:  # the module's own code may raise anything
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise NetworkError(f"The module does not run on {_times(shape)} images: {said[:200]}") from error
        if not (isinstance(answer, Tensor) and answer.ndim == 2 and torch.isfinite(answer).all()):
            raise NetworkError("The module must give one row of finite numbers, the logits, for each image.")
        if not _traced(network, probe, answer):
            network.by_hooks = True
        elif (stored := _storable(network, probe, answer)) is not None:
            stored.keep(clean_copy(stored))
            return stored
    network.sha256 = _fingerprint(network)
    return network


def _traced(network: Loaded, probe: Tensor, answer: Tensor) -> bool:
    """Whether the network can be traced, and what is traced answers as it does."""
    try:
        last = dominators.cuts(network, network.input_shape)[-1]
        return _alike(dominators.extractor(network, last.name)(probe), answer)
    except Exception:  # a trace runs the module's own code, which may raise anything
        return False


def _alike(got: Tensor, wanted: Tensor) -> bool:
    return got.shape == wanted.shape and bool((got - wanted).abs().max() <= _SAME * wanted.abs().max())


def _storable(network: Loaded, probe: Tensor, answer: Tensor) -> Loaded | None:
    """The same network as steps that a file of the project's own holds; None where it has no words for one of them."""
    graph: Any = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about the older of its two exporters, which needs no package
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
