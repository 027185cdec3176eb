"""Plain chains of convolutions and full connections: their architecture texts inferred from the shapes of weights."""

from __future__ import annotations

import heapq
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256

import torch
from torch import Tensor, nn

from robustness_core import datasets
from robustness_core.checkpoints.containers import shown
from robustness_core.errors import CheckpointError, NetworkError
from robustness_core.networks import Network, build
from robustness_core.operations import ACTIVATIONS

# The images of the data sets, by their channels and by their pixels; where two differ the first data set counts.
IMAGES: dict[int, datasets.Shape] = {}
FLAT: dict[int, datasets.Shape] = {}
for _entry in datasets.REGISTRY.values():
    IMAGES.setdefault(_entry.input_shape[0], _entry.input_shape)
    FLAT.setdefault(math.prod(_entry.input_shape), _entry.input_shape)
_MOST_STEPS = 200_000  # of the search
_POOLS = {  # that may stand behind every convolution, with what they cost
    "maxpool 2/2": 0.0, "avgpool 2/2": 0.7, "maxpool 3/3": 1.2, "maxpool 3/2": 1.2, "maxpool 2/2 ceil": 1.2,
    "avgpool 2/2 ceil": 1.7,
}  # fmt: skip
_FIRST_POOLS = ("maxpool 2/2", "avgpool 2/2")  # that may stand before the first convolution
_POOLED_FIRST = 2.0  # the cost of one there
# Networks that are no chains, by parts of the names of their tensors.
_FOREIGN = {
    r"cls_token|class_token|pos_emb\w*|position_embeddings?|relative_position_\w+|in_proj_weight|(to_)?qkv":
        "a transformer, whose attention",
    r"mlp_tokens|token_mix\w*": "an MLP-Mixer, whose mixing of places",
}  # fmt: skip
PRODUCTS = ("conv", "fc")  # kinds of layers that are more than a number to each feature


@dataclass(frozen=True)
class Part:
    """The weights of one layer in a state_dict: `name` is what the file calls it, `kind` conv, fc, bn, prelu or scale
    (a norm without running statistics)."""

    name: str
    kind: str
    tensors: Mapping[str, Tensor]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight: (outputs, inputs, height, width), (outputs, inputs) or (features,)."""
        return tuple(next(self.tensors[key] for key in ("weight", "running_mean") if key in self.tensors).shape)


@dataclass(frozen=True)
class Guess:
    """An architecture text that fits the shapes; `cost` is 0 for the most usual choices and grows with odd ones."""

    architecture: str
    input_shape: tuple[int, int, int]
    cost: float


def parts(tensors: Mapping[str, Tensor]) -> list[Part]:
    """The layers of a state_dict in the order of the file. Raises CheckpointError for a tensor of no known layer."""
    for kinds, what in _FOREIGN.items():
        if met := next((name for name in tensors if re.search(rf"(^|\.)({kinds})(\.|$)", name)), None):
            raise CheckpointError(f"The file holds {what} is not supported (it has {shown(met)}).")
    grouped: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        owner, _, key = name.rpartition(".")
        grouped.setdefault(owner, {})[key] = tensor
    return [_part(owner, group) for owner, group in grouped.items()]


def _part(owner: str, group: dict[str, Tensor]) -> Part:
    known = {"weight", "bias", "running_mean", "running_var"}
    weight = group.get("weight")
    if set(group) == {"bias"}:
        raise CheckpointError(f"The layer {shown(owner)} has a bias but no weight; save the whole state_dict again.")
    other = next((key for key in group if key not in known), "bias")
    if other.startswith("lora_") or owner.rpartition(".")[2].startswith("lora_"):
        raise CheckpointError("The file holds an adapter (LoRA) of a network, not the network; merge it and save that.")
    if not set(group) <= known or (weight is None and "running_mean" not in group):
        raise CheckpointError(
            f"The tensor {shown(f'{owner}.{other}'.removeprefix('.'))} belongs to no layer that is "
            f"known (convolution, full connection, batch norm); export the network as ONNX instead."
        )
    if weight is not None and weight.dim() == 4:
        kind = "conv"
    elif weight is not None and weight.dim() == 2:
        kind = "fc"
    elif "running_mean" in group and "running_var" in group:
        kind = "bn"
    elif weight is not None and weight.dim() == 1 and len(group) <= 2:
        kind = "scale" if "bias" in group else "prelu"
    else:
        raise CheckpointError(
            f"The layer {shown(owner)} is none of those that are known (convolution, full connection, batch norm); "
            f"export the network as ONNX instead."
        )
    if empty := next((key for key, tensor in group.items() if tensor.numel() == 0), None):
        raise CheckpointError(f"The tensor {shown(owner)}.{empty} is empty; save the network again.")
    outputs = (group["running_mean"] if weight is None else weight).shape[:1]
    if len(outputs) != 1 or any(t.shape != outputs for key, t in group.items() if key != "weight"):
        raise CheckpointError(
            f"The tensors of the layer {shown(owner)} have shapes that do not fit together; if the file is whole, "
            f"export the network as ONNX instead."
        )
    return Part(owner, kind, group)


# ---------------------------------------------------------------------------------------- weights into an architecture


def fill(
    architecture: str,
    input_shape: Sequence[int],
    layers: Sequence[Part],
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Network:
    """The network of an architecture text with the weights of a file, layer by layer in order.

    A layer without bias gets zeros. Raises CheckpointError if the text cannot be read or does not fit the weights.
    """
    try:
        with torch.device("meta"):
            skeleton = build(architecture, input_shape)
    except NetworkError as error:
        raise CheckpointError(str(error)) from error
    wanted = [(name, module) for name, module in skeleton.body.named_children() if _kind(module)]
    if len(wanted) != len(layers):
        raise CheckpointError(
            f"The architecture has {len(wanted)} layers with weights ({', '.join(name for name, _ in wanted[:12])}), "
            f"but the file has {len(layers)}."
        )
    state: dict[str, Tensor] = {}
    for (name, module), part in zip(wanted, layers, strict=True):
        state.update(_weights(name, module, part))
    skeleton.body.load_state_dict(state, assign=True)
    try:
        network = Network(skeleton.body, input_shape, architecture=skeleton.architecture, mean=mean, std=std)
    except NetworkError as error:
        raise CheckpointError(str(error)) from error
    return network.eval()


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        return "conv"
    if isinstance(module, nn.Linear):
        return "fc"
    if isinstance(module, nn.GroupNorm):
        return "scale"
    if isinstance(module, nn.PReLU):
        return "prelu"
    return "bn" if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) else ""


def _weights(name: str, module: nn.Module, part: Part) -> dict[str, Tensor]:
    state = {}
    for key, slot in module.state_dict().items():
        if key == "num_batches_tracked":
            tensor = torch.zeros((), dtype=torch.int64)
        elif key in part.tensors:
            tensor = part.tensors[key]
        else:
            tensor = torch.ones(slot.shape) if key in ("weight", "running_var") else torch.zeros(slot.shape)
        if _kind(module) != part.kind or tensor.shape != slot.shape:
            raise CheckpointError(
                f"The layer {name} of the architecture wants a {key} of {times(slot.shape)}, but {shown(part.name)} "
                f"in the file has {times(part.shape if key == 'weight' else tensor.shape)}."
            )
        state[f"{name}.{key}"] = tensor
    return state


def times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "1"


# ---------------------------------------------------------------------------------------- an architecture from weights


def in_order(layers: Sequence[Part]) -> list[Part] | None:
    """The layers so that each takes what the one before gives, or None if they form no chain.

    Tried: the order of the file, convolutions before full connections, and following the channels. A PReLU with one
    slope that stands alone in the file is taken for that of all layers.
    """
    convolutions_first = sorted(layers, key=lambda part: part.kind == "fc")
    for order in (_with_one_slope(layers), list(layers), convolutions_first, _by_channels(layers)):
        if order and _chains(order):
            return order
    once = list({_content(part): part for part in reversed(layers)}.values())[::-1]  # a module may have two names
    return in_order(once) if len(once) < len(layers) else None


def _content(part: Part) -> tuple[object, ...]:
    """What two names of one module share."""
    return tuple(
        (key, tensor.shape, sha256(tensor.numpy().tobytes()).digest()) for key, tensor in sorted(part.tensors.items())
    )


def _with_one_slope(layers: Sequence[Part]) -> list[Part]:
    """The layers with the only PReLU of the file, of one slope, behind all products but the last; else none."""
    slopes = [part for part in layers if part.kind == "prelu"]
    products = sum(part.kind in PRODUCTS for part in layers)
    if len(slopes) != 1 or slopes[0].shape != (1,) or slopes[0].name[-1:].isdecimal() or products < 3:
        return []
    return _by_channels([*(part for part in layers if part.kind != "prelu"), *slopes * (products - 1)])


def gap(layers: Sequence[Part]) -> str:
    """Where layers do not form a chain in the order of the file, in words; empty if they do."""
    for count in range(1, len(layers) + 1):
        part = layers[count - 1]
        if not _fit(layers[:count]):
            before = next((p for p in reversed(layers[: count - 1]) if p.kind in PRODUCTS), part)
            return (
                f"{shown(part.name)} ({times(part.shape)}) does not take what {shown(before.name)} "
                f"({times(before.shape)}) gives"
            )
    return "" if _chains(layers) else "there is no full connection at its end"


def _chains(order: Sequence[Part]) -> bool:
    return _fit(order) and any(part.kind == "fc" for part in order)


def _fit(order: Sequence[Part]) -> bool:
    """Whether each layer takes as many channels, or a multiple behind a flatten, as the one before gives."""
    width, flat = 0, False
    for before, part in zip((None, *order), order, strict=False):
        outputs = part.shape[0]
        if part.kind not in PRODUCTS:
            if width not in (0, outputs) and (part.kind, outputs) != ("prelu", 1):
                return False
            if part.kind == (before.kind if before else "prelu"):  # two alike belong to two layers
                return False
            width = width or outputs
            continue
        if before is not None and before is order[0] and before.kind == "bn" and part.shape[1] % width:
            return False
        inputs = part.shape[1]
        if part.kind == "conv":
            if flat or (width and (width % inputs or outputs % (width // inputs))):
                return False  # of fewer inputs than the width, it works on groups of channels
        elif flat and width != inputs:
            return False
        elif not flat and width and inputs % width:
            return False
        flat = flat or part.kind == "fc"
        width = outputs
    return True


def _by_channels(layers: Sequence[Part]) -> list[Part]:
    """Follow the channels from an image; each batch norm and PReLU goes behind the next layer of its width."""
    left = [part for part in layers if part.kind in PRODUCTS]
    others = [[part for part in layers if part.kind == kind] for kind in ("bn", "prelu")]
    if len(left) + sum(map(len, others)) < len(layers):
        return []
    order: list[Part] = []
    width = 0
    while left:
        following = next((part for part in left if _takes(part, width, left)), None)
        if following is None:
            return []
        left.remove(following)
        width = following.shape[0]
        order.append(following)
        order += [kind.pop(0) for kind in others if left and kind and kind[0].shape[0] in (width, 1)]
    return [] if any(others) else order


def _takes(part: Part, width: int, left: Sequence[Part]) -> bool:
    if part.kind == "conv":
        return part.shape[1] == width if width else part.shape[1] in IMAGES
    if any(other.kind == "conv" for other in left):
        return False
    return part.shape[1] % width == 0 if width else part.shape[1] in FLAT


@dataclass(frozen=True)
class _Choice:
    """What stands between one convolution and the next layer: its stride and padding, and a pool or none."""

    stride: int
    padding: str  # as in a text: "", " p1", " same"
    pool: str  # as in a text, "" for none
    after: int  # the size of the image behind both
    cost: float


def guesses(
    layers: Sequence[Part], input_shape: Sequence[int] | None = None, *, most: int = 24, activation: str = "relu"
) -> list[Guess]:
    """Architecture texts that fit a chain of layers, the most usual first, at most `most` of them.

    Strides, paddings and pools are searched so that the last image has the size that the first full connection wants.
    `layers` must be a chain (`in_order`). `input_shape` (C, H, W) where it is known.
    """
    first = next(part for part in layers if part.kind in PRODUCTS)
    if first.kind == "fc":
        shape = FLAT.get(first.shape[1]) if input_shape is None else tuple(input_shape)
        if shape is None or math.prod(shape) != first.shape[1]:
            shapes = IMAGES.values() if input_shape is None else [(input_shape[0], input_shape[1], input_shape[2])]
            return _behind_pools(layers, shapes, activation)
        return [Guess(_text(layers, (), activation), (shape[0], shape[1], shape[2]), 0.0)]
    shape = IMAGES.get(first.shape[1]) if input_shape is None else tuple(input_shape)
    if shape is None or shape[0] != first.shape[1]:
        return []
    image = (shape[0], shape[1], shape[2])
    found = [*itertools.islice(_search(layers, image[1]), most), *_regular(layers, image[1])]
    cheapest: dict[str, Guess] = {}
    for cost, choices in sorted(found, key=lambda one: one[0]):
        text = _text(layers, choices, activation)
        cheapest.setdefault(text, Guess(text, image, cost))
    for pool, (cost, choices) in itertools.product(_FIRST_POOLS, itertools.islice(_search(layers, image[1] // 2), 2)):
        text = f"{pool}, {_text(layers, choices, activation)}"
        cheapest.setdefault(text, Guess(text, image, cost + _POOLED_FIRST))
    return sorted(cheapest.values(), key=lambda guess: guess.cost)


def _behind_pools(layers: Sequence[Part], shapes: Iterable[datasets.Shape], activation: str) -> list[Guess]:
    """Full connections on images that a pool has made smaller."""
    wanted = next(part.shape[1] for part in layers if part.kind == "fc")
    return [
        Guess(f"{pool} {k}/{k}, {_text(layers, (), activation)}", shape, _POOLED_FIRST)
        for shape in shapes
        for k in (2, 4)
        for pool in ("avgpool", "maxpool")
        if wanted == shape[0] * (shape[1] // k) * (shape[2] // k)
    ]


def _search(layers: Sequence[Part], size: int) -> Iterator[tuple[float, tuple[_Choice, ...]]]:
    """All geometries that fit, cheapest first: A* with the exact cost to go as its guide."""
    convs = [part for part in layers if part.kind == "conv"]
    wanted = next(part.shape[1] for part in layers if part.kind == "fc")
    extras = [_parameter_free(part, layers) for part in convs]

    @cache
    def choices(place: int, size: int) -> tuple[_Choice, ...]:
        part = convs[place]
        last = place == len(convs) - 1
        widens = last or convs[place + 1].shape[0] > part.shape[0]
        grew = part.shape[0] > part.shape[1]
        return tuple(_choices(part.shape[2:], size, widens, grew, extras[place], last))

    @cache
    def to_go(place: int, size: int) -> float:
        if place == len(convs):
            return 0.0 if convs[-1].shape[0] * size * size == wanted else math.inf
        return min((c.cost + to_go(place + 1, c.after) for c in choices(place, size)), default=math.inf)

    reached = [{size}]
    for place in range(len(convs)):
        reached.append({choice.after for inner in reached[-1] for choice in choices(place, inner)})
    for place in reversed(range(len(convs))):  # fills the cache from the back, so that no recursion is deep
        for inner in reached[place]:
            to_go(place, inner)
    count = itertools.count()
    heap: list[tuple[float, int, float, int, tuple[_Choice, ...]]] = []
    if to_go(0, size) < math.inf:
        heap.append((to_go(0, size), next(count), 0.0, size, ()))
    while heap:
        _, number, spent, inner, made = heapq.heappop(heap)
        if number > _MOST_STEPS:
            return
        if len(made) == len(convs):
            yield spent, made
            continue
        for choice in choices(len(made), inner):
            cost = spent + choice.cost + _inconsistency(convs, made, choice)
            ahead = cost + to_go(len(made) + 1, choice.after)
            if ahead < math.inf:
                heapq.heappush(heap, (ahead, next(count), cost, choice.after, (*made, choice)))


def _regular(layers: Sequence[Part], size: int) -> Iterator[tuple[float, tuple[_Choice, ...]]]:
    """Convolutions of one kind of padding with the same pool behind each, or behind those before a wider one.

    Where a mean over the image follows, the weights say nothing of pools, and the search would leave them out.
    """
    convs = [part for part in layers if part.kind == "conv"]
    wanted = next(part.shape[1] for part in layers if part.kind == "fc")
    wider = [i + 1 == len(convs) or convs[i + 1].shape[0] > part.shape[0] for i, part in enumerate(convs)]
    for everywhere, pool, half in itertools.product((True, False), _POOLS, (True, False)):
        made: list[_Choice] = []
        inner = size
        for part, wide in zip(convs, wider, strict=True):
            k = max(part.shape[2:])
            padding = (k - 1) // 2 if half else 0
            inner = inner + 2 * padding - k + 1
            chosen = pool if everywhere or wide else ""
            inner = _pooled(inner, chosen) if inner > 0 else 0
            made.append(_Choice(1, f" p{padding}" if padding else "", chosen, inner, 0.0))
        mean = wanted == convs[-1].shape[0] and inner > 1
        if mean and _POOLS[pool] > 1:
            continue  # where any size would do, unusual ones are too many
        if inner < 1 or (wanted != convs[-1].shape[0] * inner * inner and not mean):
            continue
        if mean:
            made[-1] = replace(made[-1], pool=f"{made[-1].pool}, gap".removeprefix(", "), after=1)
        held = [_parameter_free(part, layers) for part in convs]
        if any(free is not None and 0 < free < 2 and one.pool for free, one in zip(held, made, strict=True)):
            continue  # no room in the nn.Sequential
        yield _POOLS[pool] + 0.3 * (not half) + 0.2 * (not everywhere), tuple(made)


def _inconsistency(convs: Sequence[Part], made: Sequence[_Choice], choice: _Choice) -> float:
    """Networks repeat themselves: a choice unlike the one made for the same kernel and growth costs more."""
    place = len(made)
    cost = 0.0
    for i in reversed(range(place)):
        same_growth = (convs[i].shape[0] > convs[i].shape[1]) == (convs[place].shape[0] > convs[place].shape[1])
        if convs[i].shape[2:] == convs[place].shape[2:] and (same_growth or i == place - 1):
            cost += 0.4 * ((made[i].stride, made[i].padding) != (choice.stride, choice.padding))
            break
    pools = [c.pool for c in made if c.pool]
    if pools and choice.pool and pools[-1] != choice.pool:
        cost += 0.6
    return cost


def _choices(
    kernel: Sequence[int], size: int, widens: bool, grew: bool, extra: int | None, last: bool
) -> Iterator[_Choice]:
    k = max(kernel)
    for stride, padding, cost in _strides(k):
        before, after = ((k - 1) // 2, k // 2) if padding == " same" else (int(padding[2:] or 0),) * 2
        if before >= k or (stride > k and k > 1):
            continue
        inner = (size + before + after - k) // stride + 1
        if size + before + after < k or inner < 1:
            continue
        if stride > 1 and not grew:
            cost += 0.3
        for pool, pool_cost in _pools(inner, last):
            shrunk = _pooled(inner, pool)
            if shrunk < 1:
                continue
            more = pool_cost if pool == "" else pool_cost + (0.0 if widens else 0.5)
            if extra:  # the places between two layers of an nn.Sequential count its modules
                holds = extra - 1 - (1 if last else 0)
                if holds < 1 and pool:
                    continue
                more += 1.5 if holds >= 1 and not pool else 0.0
            yield _Choice(stride, padding, pool, shrunk, cost + more)


def _strides(k: int) -> list[tuple[int, str, float]]:
    """Stride, padding and cost of the choices for a kernel of k×k."""
    half = (k - 1) // 2
    usual: dict[tuple[int, str], float] = {}

    def offer(stride: int, padding: int | str, cost: float) -> None:
        text = padding if isinstance(padding, str) else (f" p{padding}" if padding else "")
        usual.setdefault((stride, text), cost)

    if k % 2:
        offer(1, half, 0.0 if k <= 3 else 0.2)
        offer(1, 0, 0.3 if k <= 3 else 0.0)
        offer(2, half, 0.6 if k < 7 else 0.1)
        offer(2, 0, 1.2)
        if k > 7:
            offer(4, half, 0.1)
            offer(4, 2, 0.2)
    else:
        offer(2, half, 0.0)
        offer(2, 0, 0.7)
        offer(1, 0, 0.9)
        offer(1, " same", 0.8)
        offer(1, half, 1.0)
        offer(1, k // 2, 1.4)
        offer(2, k // 2, 1.6)
    for padding in (1, 2, 3):
        offer(1, padding, 1.8)
        offer(2, padding, 2.2)
    for stride in (3, 4):
        offer(stride, 0, 2.2)
        offer(stride, half, 2.4)
    return [(stride, padding, cost) for (stride, padding), cost in usual.items()]


def _pools(size: int, last: bool) -> list[tuple[str, float]]:
    pools = [("", 0.4), ("maxpool 2/2", 0.4), ("avgpool 2/2", 1.2), ("maxpool 3/2", 1.5), ("maxpool 3/2 p1", 1.5)]
    pools += [("avgpool 3/2", 2.2), ("maxpool 3/3", 2.2), ("maxpool 4/4", 2.4), ("avgpool 4/4", 2.2)]
    if size % 2:
        pools.append(("maxpool 2/2 ceil", 2.0))
    if last and size > 1:
        pools.append(("gap", 0.4))
    return pools


def _pooled(size: int, pool: str) -> int:
    if pool in ("", "gap"):
        return size if pool == "" else 1
    kernel, stride, padding, up = re.fullmatch(r"\w+ (\d)/(\d)(?: p(\d))?( ceil)?", pool).groups()  # type: ignore[union-attr]
    room = size + 2 * int(padding or 0) - int(kernel)
    return (room + (int(stride) - 1 if up else 0)) // int(stride) + 1 if room >= 0 else 0


def _between(part: Part, following: Part) -> int | None:
    """How many modules stand between two layers of an nn.Sequential; None where the names do not say."""
    (parent, _, here), (other, _, there) = part.name.rpartition("."), following.name.rpartition(".")
    if parent != other or not (here.isdecimal() and there.isdecimal()):
        return None
    return int(there) - int(here) - 1


def _parameter_free(part: Part, layers: Sequence[Part]) -> int | None:
    """How many modules without weights stand behind a layer before the next product; None where nothing says it."""
    place = list(layers).index(part)
    following = next((p for p in layers[place + 1 :] if p.kind in PRODUCTS), None)
    if following is None or (between := _between(part, following)) is None:
        return None
    return between - (list(layers).index(following) - place - 1)


def _text(layers: Sequence[Part], choices: Sequence[_Choice], activation: str) -> str:
    """The architecture text of a chain: an activation behind every layer but the last, before any pool.

    It stands before the norm of its layer where the places in an nn.Sequential leave a module there.
    """
    words: list[str] = []
    left = list(choices)
    pool, flat, active, width = "", False, True, 0
    last = max(place for place, part in enumerate(layers) if part.kind == "fc")
    for place, part in enumerate(layers):
        if part.kind == "conv":
            choice = left.pop(0)
            groups = width // part.shape[1] if width else 1
            word = f"conv {part.shape[0]} {part.shape[2]}x{part.shape[3]}/{choice.stride}{choice.padding}"
            words.append(word + (f" g{groups}" if groups > 1 else ""))
            pool, active = choice.pool, False
        elif part.kind == "fc":
            words += [] if flat else ["flatten"]
            flat, active = True, False
            words.append(f"fc {part.shape[0]}")
        elif part.kind == "prelu":
            words.append(f"prelu {part.shape[0]}")
            active = True
        else:
            words.append("bn" if part.kind == "bn" else "gn 1")
            active = active or place == 0
        width = part.shape[0] if part.kind in PRODUCTS else width
        following = layers[place + 1] if place + 1 < len(layers) else None
        if following is None or place >= last:
            continue
        if following.kind in PRODUCTS or (_between(part, following) or 0) > 0:
            words += [] if active or following.kind == "prelu" else [activation]
            active = True
        if following.kind in PRODUCTS:
            words += [pool] if pool else []
            pool = ""
    return ", ".join(words)


_WORD, _POOLED = f"({'|'.join(ACTIVATIONS)})", r"((?:max|avg)pool [^,]+)"
# Other ways to order the same layers, which shapes do not tell apart: pattern and what stands in its place.
_WAYS = (
    (rf"\bbn, {_WORD}", r"\1, bn"),
    (rf"\bbn, {_WORD}, {_POOLED}", r"\2, bn, \1"),
    (rf"\bbn, {_WORD}, {_POOLED}", r"\1, \2, bn"),
    (rf"\b{_WORD}, (avgpool [^,]+)", r"\2, \1"),
    (rf"(fc \d+), {_WORD}, (?=fc \d+$)", r"\1, "),
    (rf"(fc \d+), {_WORD}, (?=fc)", r"\1, "),
    (rf"(conv [^,]+), {_WORD}, (?=conv|flatten)", r"\1, "),
)
WAYS = len(_WAYS)


def variant(text: str, way: int) -> str:
    """An architecture text with its activations and pools in other places, or as it is where that changes nothing."""
    return re.sub(*_WAYS[way], text)
