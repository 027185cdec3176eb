"""The ways to read a file as a network, the likeliest first: its own word, a graph, a known family, a plain chain."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustness_core.checkpoints import chain, containers, families
from robustness_core.checkpoints.containers import Contents, State, shown
from robustness_core.checkpoints.onnx import importer
from robustness_core.errors import CheckpointError, NetworkError
from robustness_core.files import Description, Values, check_shape
from robustness_core.networks import Network, build, programs
from robustness_core.operations import ACTIVATIONS

_MANY, _FEW = 24, 6  # guesses about a chain, and about one of over _DEEP convolutions: each costs more there
_DEEP = 7
_GREY = 0.5  # the cost of taking a network with three channels for one of grey images


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to read a file as a network. `cost` is 0 for a certain one and grows with the guessing it took.

    `normalisation` is (mean, std) where the file says it, None where it must be found out or given; `notes` are
    sentences for the user.
    """

    architecture: str
    input_shape: tuple[int, int, int]
    body: Callable[[], nn.Module]
    cost: float = 0.0
    normalisation: tuple[Values, Values] | None = None
    says_normalisation: bool = False  # True with normalisation None: the file says that there is none
    notes: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()  # of an ONNX graph, by name
    stated: tuple[Values, Values] | None = None  # a normalisation in the settings of the training, to be tried
    refill: Callable[[str], Candidate] | None = None  # the weights of a guessed chain in another architecture text

    @property
    def oddity(self) -> float:
        """How unusual the geometry of a guessed chain is; 0 for what was not guessed."""
        return self.cost if self.refill is not None else 0.0

    def network(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> Network:
        """The network, with a normalisation of pixels in [0, 1] if mean and std are given."""
        try:
            network = Network(
                self.body(), self.input_shape, architecture=self.architecture, mean=_list(mean), std=_list(std)
            )
        except NetworkError as error:
            raise CheckpointError(str(error)) from error
        return network.eval()


def _list(values: Sequence[float] | None) -> list[float] | None:
    return None if values is None else [float(value) for value in values]


def sha256(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal. Raises CheckpointError."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"The file cannot be read: {error.strerror or 'unknown error'}.") from error


# ---------------------------------------------------------------------------------------------- ways to read a file


def candidates(
    contents: Contents,
    *,
    architecture: str | None = None,
    input_shape: Sequence[int] | None = None,
    stage: str | None = None,
) -> list[Candidate]:
    """The ways to read a file as a network, the likeliest first, never none. Reads no images.

    In this order: the project's own file, an ONNX graph, the `architecture` given, a known family, a plain chain.
    Raises CheckpointError.
    """
    shape = None if input_shape is None else check_shape(input_shape)
    if contents.format == "onnx":
        return _from_onnx(contents.onnx, architecture, stage)
    state = _state(contents, stage)
    said = Description.of(contents.metadata)
    if said is not None and (architecture is None or said.program is not None):
        return [_own(said, state)]
    if said is not None:  # weights that are stored here, to be read as another architecture
        shape = said.input_shape
    tensors, normalisation = _split_normalisation(state.tensors)
    units: tuple[str, ...] = ()
    if normalisation is not None and max(*normalisation[0], *normalisation[1]) > _LARGEST_OF_PIXELS:
        normalisation = tuple(v / 255 for v in normalisation[0]), tuple(v / 255 for v in normalisation[1])
        units = ("The normalisation in the file is in units of 0 to 255; it was divided by 255.",)
    try:
        found = _from_weights(tensors, architecture, shape)
    except CheckpointError as error:
        if not contents.whole:
            raise
        held = ", ".join(f"{shown(name)} {chain.times(one.shape)}" for name, one in list(state.tensors.items())[:12])
        raise CheckpointError(
            f"The file holds a whole module ({shown(contents.whole)}), whose tensors ({held}, …) were read as data; "
            f"{str(error)[:1].lower()}{str(error)[1:].rstrip('.')}, or save torch.save(model.state_dict(), …)."
        ) from error
    found = [*_activated(found, contents.settings), *found]
    says = normalisation is not None
    notes = (*contents.notes, *state.notes, *units)
    stated = _stated(contents.settings, found[0].input_shape[0])
    return [
        replace(c, normalisation=normalisation, says_normalisation=says, stated=stated, notes=(*notes, *c.notes))
        for c in found
    ]


_ACTIVATION = re.compile(r"(?i)(act|activation|non_?linearity)(_(fn|func|function|name|type))?")


def _activated(found: Sequence[Candidate], settings: Mapping[str, Any]) -> list[Candidate]:
    """The likeliest guessed chains with the activation that the settings of the training name."""
    said = [value for key, value in settings.items() if isinstance(value, str) and _ACTIVATION.fullmatch(key)]
    words = {re.sub(r"[^a-z0-9]", "", value.lower()) for value in said}
    named = [word for word in ACTIVATIONS if word != "relu" and word in words]
    guessed = [(candidate, candidate.refill) for candidate in found[:_FEW] if candidate.refill is not None]
    return [
        replace(candidate, architecture=made.architecture, body=made.body, cost=candidate.cost - 1.0)
        for word in named[:1]
        for candidate, refill in guessed
        for made in [refill(re.sub(r"\brelu\b", word, candidate.architecture))]
    ]


def _stated(settings: Mapping[str, Any], channels: int) -> tuple[Values, Values] | None:
    """The mean and std of a normalisation among the settings of a training; None without."""

    def values(names: Sequence[str]) -> list[float]:
        found: Any = next((settings[name] for name in names if name in settings), [])
        numbers = list(found) if isinstance(found, list | tuple) else [found]
        plain = all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers)
        return [float(one) for one in numbers] if plain and len(numbers) in (1, channels) else []

    mean, std = values(("mean", "norm_mean", "data_mean")), values(("std", "norm_std", "data_std"))
    if not mean or not std or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 1e-6:
        return None
    if max(*mean, *std) > _LARGEST_OF_PIXELS:
        mean, std = [one / 255 for one in mean], [one / 255 for one in std]
    return tuple(mean), tuple(std)


def _state(contents: Contents, stage: str | None) -> State:
    if stage is None:
        return contents.states[0]
    for state in contents.states:
        if stage in (state.path, shown(state.path)):
            return state
    names = ", ".join(shown(state.path) for state in contents.states)
    raise CheckpointError(f"The file has no state_dict at {shown(stage)}; it has {names}.")


def _from_onnx(data: bytes, architecture: str | None, output: str | None) -> list[Candidate]:
    found = [
        Candidate(
            programs.describe(imported.steps), imported.input_shape, imported.body, i * 1.0, notes=imported.notes,
            outputs=imported.outputs,
        )
        for i, imported in enumerate(importer.convert(data, output))
    ]  # fmt: skip
    same = [candidate for candidate in found if candidate.architecture == architecture]
    return same or found


def _own(said: Description, state: State) -> Candidate:
    """The network of a file of the project's own."""
    shape = said.input_shape
    if said.program is not None:
        made = _program(said.program, state.tensors, shape)
    else:
        try:
            tensors = _in_named_order(state.tensors, said.architecture, shape)
            made = _from_weights(tensors, said.architecture, shape)[0]
        except CheckpointError as error:  # whose text would quote the file
            raise CheckpointError(
                "The architecture that the file names cannot be built, or does not fit its weights; save it again."
            ) from error
    normalisation = None if said.mean is None or said.std is None else (said.mean, said.std)
    return replace(made, cost=0.0, normalisation=normalisation, says_normalisation=True, notes=state.notes)


def _in_named_order(tensors: dict[str, Tensor], text: str, shape: tuple[int, int, int]) -> dict[str, Tensor]:
    """The weights in the order of the architecture that they are named after, where they are."""
    try:
        with torch.device("meta"):
            names = list(build(text, shape).body.state_dict())
    except NetworkError:
        return tensors  # the name of a family
    if not set(tensors) <= set(names):
        return tensors
    return {name: tensors[name] for name in names if name in tensors}


def _program(text: str, tensors: Mapping[str, Tensor], shape: tuple[int, int, int]) -> Candidate:
    try:
        steps = programs.from_json(text)
        with torch.device("meta"):
            body = programs.build(steps).eval()
            body(torch.empty(1, *shape))  # costs nothing, and shows whether the steps fit together
            slots = body.state_dict()
    except Exception as error:  # a NetworkError, or what torch says of settings that nothing here has written
        raise CheckpointError(
            f"The steps that the file names cannot be run on an image of {chain.times(shape)}; the file is damaged, "
            f"upload the original again."
        ) from error
    counters = {k: torch.zeros((), dtype=torch.int64) for k in slots if k.endswith("num_batches_tracked")}
    state = {**tensors, **counters}
    if set(state) != set(slots) or any(state[name].shape != slot.shape for name, slot in slots.items()):
        raise CheckpointError("The weights in the file do not fit the steps that it names; upload the original again.")
    imported = importer.Imported(steps, state, shape, ())
    return Candidate(programs.describe(steps), shape, imported.body)


_LARGEST_OF_PIXELS = 1.5  # a mean or std above it is meant for pixels up to 255
# Keys under which robust-training code keeps the normalisation inside the network.
_MEANS, _STDS = ("mean", "mu", "means", "new_mean"), ("std", "sigma", "stds", "sd", "sds", "new_std")


def _split_normalisation(
    tensors: dict[str, Tensor],
) -> tuple[dict[str, Tensor], tuple[Values, Values] | None]:
    """The weights without a stored normalisation of one or three channels, and that normalisation."""

    # MadryLab's `robustness` keeps the network a second time within the attacker of its training.
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("attacker.")}

    def find(names: Sequence[str]) -> str | None:
        return next((k for k, t in tensors.items() if k.split(".")[-1] in names and t.numel() in (1, 3)), None)

    mean, std = find(_MEANS), find(_STDS)
    if mean is None or std is None or bool((tensors[std] <= 0).any()):
        return tensors, None
    values = tuple(tuple(float(v) for v in tensors[key].reshape(-1)) for key in (mean, std))
    rest = {name: tensor for name, tensor in tensors.items() if name not in (mean, std)}
    return containers.without_prefix(rest), (values[0], values[1])


def _from_weights(
    tensors: Mapping[str, Tensor], architecture: str | None, shape: tuple[int, int, int] | None
) -> list[Candidate]:
    """Candidates from names and shapes; with `architecture` only those of that name or text."""
    matched = families.matches(tensors)
    if architecture is None:
        if matched:
            return [Candidate(m.name, shape or m.input_shape, m.body, float(i)) for i, m in enumerate(matched)]
        return _chains(tensors, shape)
    return [replace(one, refill=None) for one in _as_told(tensors, matched, architecture, shape)]


def _as_told(
    tensors: Mapping[str, Tensor],
    matched: Sequence[families.Match],
    architecture: str,
    shape: tuple[int, int, int] | None,
) -> list[Candidate]:
    for match in matched:
        if match.name == architecture:
            return [Candidate(match.name, shape or match.input_shape, match.body)]
    layers = chain.parts(tensors)
    order = _without_repeats(chain.in_order(layers) or layers, shape)
    known = next((t for t in families.texts(order) if t[0] == architecture), None)
    if known is not None:
        return [_chain_candidate(known[2], known[1], order)]
    if shape is not None:
        return [_chain_candidate(architecture, shape, order)]
    return [_typed(architecture, order)]


def _without_repeats(order: list[chain.Part], shape: tuple[int, int, int] | None) -> list[chain.Part]:
    return families.without_repeats(order) if shape is None or shape[1:] == (32, 32) else order


def _typed(architecture: str, layers: Sequence[chain.Part]) -> Candidate:
    """An architecture text on the images that have as many channels as its first layer wants."""
    first = next((part for part in layers if part.kind in chain.PRODUCTS), None)
    channels = first.shape[1] if first is not None and first.kind == "conv" else 0
    shapes = [shape for shape in chain.IMAGES.values() if channels in (0, shape[0])]
    if not shapes:
        raise CheckpointError(f"The first layer takes {channels} channels; give the input shape C, H, W of the images.")
    for shape in shapes[:-1]:
        try:
            return _chain_candidate(architecture, shape, layers)
        except CheckpointError:
            continue
    return _chain_candidate(architecture, shapes[-1], layers)


def _chain_candidate(
    text: str, shape: tuple[int, int, int], layers: Sequence[chain.Part], cost: float = 0.0
) -> Candidate:
    network = chain.fill(text, shape, layers)
    return Candidate(
        network.architecture, shape, lambda: network.body, cost,
        refill=lambda other: _chain_candidate(other, shape, layers, cost),
    )  # fmt: skip


def _chains(tensors: Mapping[str, Tensor], shape: tuple[int, int, int] | None) -> list[Candidate]:
    layers = chain.parts(tensors)
    if (norm := next((part for part in layers if part.kind == "scale"), None)) is not None:
        raise CheckpointError(
            f"The layer {shown(norm.name)} has a scale and a shift but no running statistics: if it is a group or "
            f"layer norm, give the architecture with the word gn and its number of groups (1 for a layer norm), or "
            f"export the network as ONNX; a batch norm without them depends on the batch and cannot be audited."
        )
    order = chain.in_order(layers)
    if order is None:
        raise CheckpointError(
            f"The weights form neither a known family ({families.KNOWN}) nor a plain chain, since "
            f"{chain.gap(layers)}; export the network as ONNX instead."
        )
    order = _without_repeats(order, shape)
    named = [chain.Guess(text, size, -1.0) for _, size, text in families.texts(order) if shape in (None, size)]
    deep = sum(part.kind == "conv" for part in order) > _DEEP
    guesses = chain.guesses(order, shape, most=_FEW if deep else _MANY)
    texts = {guess.architecture: guess for guess in (*guesses, *named)}
    if not texts:
        raise CheckpointError(
            "No strides, paddings and pools were found that fit the sizes of the layers to images of 28×28 or 32×32; "
            "give the architecture as a text, or export the network as ONNX."
        )
    ranked = sorted(texts.values(), key=lambda guess: guess.cost)
    found = [_chain_candidate(guess.architecture, guess.input_shape, order, guess.cost) for guess in ranked]
    return found if shape is not None or deep else sorted([*found, *_on_grey(order)], key=lambda one: one.cost)


def _on_grey(order: Sequence[chain.Part]) -> list[Candidate]:
    """A chain for colour images as one for grey images that are repeated on its channels: the kernels are summed."""
    if order[0].kind != "conv" or order[0].shape[1] != 3:
        return []
    summed = order[0].tensors["weight"].sum(1, keepdim=True)
    grey = [replace(order[0], tensors={**order[0].tensors, "weight": summed}), *order[1:]]
    note = "The network takes three channels; grey images are repeated on them, so its first kernels were summed."
    return [
        replace(_chain_candidate(one.architecture, one.input_shape, grey, one.cost + _GREY), notes=(note,))
        for one in chain.guesses(grey, chain.IMAGES[1], most=_FEW)
    ]
