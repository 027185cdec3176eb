"""Which reading of a file is right: architecture and normalisation, chosen by measured accuracy."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from robustness_core import datasets, layers, operations
from robustness_core.checkpoints import chain
from robustness_core.checkpoints.candidates import Candidate
from robustness_core.errors import CheckpointError, DatasetError, NetworkError
from robustness_core.networks import Network
from robustness_core.operations import USUAL

# Conventions beside the data sets' own, by the channels of an image.
_CONVENTIONS: dict[int, tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...]] = {
    1: (
        ("−1 to 1", (0.5,), (0.5,)),
        ("0 to 255", (0.0,), (1 / 255,)),
    ),
    3: (
        ("ImageNet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("CIFAR-10, per image", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        ("−1 to 1", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("ImageNet mean, 0.225", (0.485, 0.456, 0.406), (0.225, 0.225, 0.225)),
        ("CIFAR-10 mean", (0.4914, 0.4822, 0.4465), (1.0, 1.0, 1.0)),
        ("0 to 255", (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
    ),
}
_ROUND = 2e10  # multiplications that one round of comparisons may cost: about a second on two cores
_FINAL = 4e10  # and the last measurement
_BATCH = 250
_AT_ONCE = 1e10  # multiplications in one batch
_MOST_COMPARED = 5000  # images that the last few trials are compared on, if they are cheap
_SMALL = 2e6  # multiplications of networks up to which the likeliest is tried in all styles and normalisations
_LARGE = 5e7  # multiplications of networks beyond which ReLU is taken for granted
_TIE = 8e10  # multiplications that telling tied normalisations apart may cost: some seconds
_ALIKE = 0.5  # over the root of the number of images: accuracies nearer than this are those of a tie
_TURNED, _WELL = 500, 0.6  # images for which other orders are tried, and the accuracy that shows one
_FIRST = 1000
_PROBES = 5  # images on which gradients are looked at
_ROUNDING = 1e-4  # of features: a change below it is none
_STILL = 1e-3  # of the change of features between two images: gradients that foretell less have vanished
_COUNTED, _SHIFTED = 200, 0.4  # images that batch norms are compared on, and by how much a mean may be off
_SAID = 0.003  # of accuracy, between what a file says and what was measured of the right reading
_LIKELIEST = 21  # trials of the likeliest architectures that are held against what the file says
_ODD = 0.004  # of accuracy, by which a geometry must answer better for each unit of its cost
FEWEST = 100  # images on which normalisations must be compared to be told apart
_NEAR_CHANCE = 0.1  # of accuracy above that of chance, which is one over the number of classes
_FEW_ARCHITECTURES = 4  # that other styles are tried on
_MUCH_BETTER = 0.015  # of accuracy, by which another activation must beat ReLU to be believed
_ELDER = ("tanh", "sigmoid")  # activations beside which average pools are usual
_STYLES = 5  # that are held against the usual one on more images


@dataclass(frozen=True, eq=False)
class Images:
    """Test images, (N, C, H, W) float32 in [0, 1], and their labels (N,)."""

    name: str
    pixels: Tensor
    labels: Tensor


@dataclass(eq=False)
class Trial:
    """A candidate under one normalisation, with what was measured of it so far on the first `images` test images."""

    candidate: Candidate
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None
    convention: str
    cost: float = 1.0  # multiplications an image
    images: int = 0
    correct: int = 0
    surprise: float = 0.0  # sum of the cross-entropies, in nats
    spread: float = 0.0  # largest standard deviation of a logit over the images
    broken: int = 0  # images whose answer holds NaN or infinity
    history: dict[int, float] = field(default_factory=dict)  # images -> accuracy on them
    _network: list[Network] = field(default_factory=list)

    @property
    def accuracy(self) -> float:
        return self.correct / self.images if self.images else 0.0

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats; it tells normalisations apart that give the same accuracy."""
        mean = self.surprise / self.images if self.images else math.inf
        return mean if math.isfinite(mean) else math.inf

    def network(self) -> Network:
        if not self._network:
            self._network.append(self.candidate.network(*(self.normalisation or (None, None))))
        return self._network[0]

    def measure(self, data: Images, until: int, deadline: float = math.inf) -> None:
        """Go on until the first `until` images are measured, or the time is up."""
        network = self.network()
        batch = int(min(max(_AT_ONCE / self.cost, 1), _BATCH))
        with torch.no_grad():
            while self.images < min(until, len(data.labels)) and (time.process_time() < deadline or not self.images):
                stop = _FIRST if self.images < _FIRST else until  # authors often measure the first thousand
                part = slice(self.images, min(self.images + batch, until, stop, len(data.labels)))
                logits, labels = network(data.pixels[part]), data.labels[part]
                sound = logits.isfinite().all(1)
                self.correct += int(((logits.argmax(1) == labels) & sound).sum())
                self.surprise += float(F.cross_entropy(_scores(logits), labels, reduction="sum"))
                self.broken += int((~sound).sum())
                if int(sound.sum()) > 1:
                    self.spread = max(self.spread, float(logits[sound].std(0).max()))
                self.images += len(labels)
                if self.images == _FIRST:
                    self.history[self.images] = self.accuracy
        self.history[self.images] = self.accuracy


def _scores(answers: Tensor) -> Tensor:
    """Answers (N, K) as logits: the logarithms of those that are shares of 1, as a softmax at the end gives."""
    shares = bool((answers >= 0).all()) and bool((answers.sum(1) - 1).abs().max() < 1e-3)
    return answers.clamp_min(1e-30).log() if shares else answers


@dataclass(frozen=True, eq=False)
class Choice:
    """What the candidates of a file came to: the trials, the best first, measured on `dataset` (None: on nothing)."""

    trials: tuple[Trial, ...]
    dataset: str | None
    warnings: tuple[str, ...] = ()

    @property
    def by_chance(self) -> bool:
        """Whether the best trial answers hardly better than by chance."""
        if self.dataset is None:
            return False
        return self.trials[0].accuracy < 1 / len(datasets.get(self.dataset).class_names) + _NEAR_CHANCE


def choose(found: Sequence[Candidate], *, dataset: str | None = None) -> Network:
    """The network of the candidate and normalisation that answer test images best. Raises CheckpointError."""
    return compare(found, dataset=dataset).trials[0].network()


# ------------------------------------------------------------------------------------------------ comparing candidates


def compare(
    found: Sequence[Candidate],
    *,
    dataset: str | None = None,
    scores: Mapping[str, float] | None = None,
    deadline: float = math.inf,
) -> Choice:
    """Measure candidates under the usual normalisations, dropping the worse ones round by round.

    The best has the least cross-entropy of those near the best accuracy, or within one percent of it more accuracy;
    where nothing answers better than by chance, it is the likeliest by its shapes. `scores` are what the file says
    of its network: a trial that has such an accuracy goes before one that has not. Candidates for images of another
    shape are compared among themselves. Cost: a bounded number of multiplications, some seconds. Raises
    CheckpointError.
    """
    shapes = list(dict.fromkeys(candidate.input_shape for candidate in found))
    if dataset is None and len(shapes) > 1 and found[0].refill is not None:
        choices = [
            compare([c for c in found if c.input_shape == shape], scores=scores, deadline=deadline) for shape in shapes
        ]
        return max(choices, key=lambda one: 0.0 if one.dataset is None or one.by_chance else one.trials[0].accuracy)
    data, warnings = _images(found, dataset)
    trials = _trials(found, data)
    classes = _classes(trials[0].network())
    if data is not None and classes != (has := len(datasets.get(data.name).class_names)):
        warnings.append(f"The network has {classes} outputs, {data.name} has {has} classes: no accuracy was measured.")
        data = None
    if data is None:
        return Choice(tuple(sorted(trials, key=lambda t: t.candidate.cost)), None, tuple(warnings))
    early = _architectures(found, trials, data, deadline)
    if early:
        trials = _trials([early[0].candidate], data)
    ranked = _tournament(trials, data, deadline) + early
    rewrite, styles = _restyled(ranked, data, deadline)
    if rewrite is not None:  # then what was compared before was compared in the wrong style
        again = [_rewritten(candidate, rewrite(candidate.architecture)) for candidate in found]
        ranked = _tournament(_trials(again, data), data, deadline) + ranked
    ranked = _settled(ranked, data, deadline)
    read = {(trial.candidate.architecture, trial.convention) for trial in ranked}
    ranked += [one for one in styles if (one.candidate.architecture, one.convention) not in read]
    if Choice(tuple(ranked), data.name).by_chance:  # then accuracy says nothing, and the likeliest is as good
        first = next((trial for trial in trials if trial.candidate is found[0]), trials[0])
        first.measure(data, FEWEST, deadline)
        ranked = [first, *(trial for trial in ranked if trial is not first)]
    elif said := accuracies(scores or {}):
        ranked = _as_said(ranked, said, data, deadline)
    best = ranked[0]
    if best.accuracy < _WELL:
        warnings += _turned(ranked, data, deadline)
    if time.process_time() < deadline:
        best.measure(data, _final(best.cost, len(data.labels)), deadline)
    if best.broken == best.images:
        raise CheckpointError("The network answers NaN or infinity for every test image; it cannot be audited.")
    return Choice(tuple(ranked), data.name, tuple(warnings))


_CHANGES: dict[str, Callable[[Tensor], Tensor]] = {  # of images, as programs do before their networks
    "": lambda pixels: pixels,
    "the images transposed": lambda pixels: pixels.mT,
    "the images inverted": lambda pixels: 1 - pixels,
}


def _turned(ranked: Sequence[Trial], data: Images, deadline: float) -> list[str]:
    """What to say where a network answers well only on images that are transposed or inverted, or with its classes in
    another order."""
    labels = data.labels[:_TURNED]
    count = int(data.labels.max()) + 1
    best, said = max(_WELL, ranked[0].accuracy + 0.1), ""
    usual = sorted(ranked, key=lambda trial: trial.candidate.cost)[:_LIKELIEST]  # whatever they answered so far
    for trial in dict.fromkeys([*ranked[:3], *usual]):
        for way, change in _CHANGES.items():
            if time.process_time() > deadline:
                break
            pixels = change(data.pixels[:_TURNED])
            with torch.no_grad():
                answers = torch.cat([trial.network()(part).argmax(1) for part in pixels.split(_BATCH)])
            met = torch.bincount(labels * count + answers, minlength=count * count).reshape(count, count)
            _, order = linear_sum_assignment(-met.numpy())
            right = float(met[range(count), order].sum()) / len(labels)
            if right < best:
                continue
            best = right
            ways = [way] if way else []
            if list(order) != list(range(count)):
                ways.append(f"the outputs in the order {', '.join(map(str, order))}")
            said = (
                f"With {' and '.join(ways)}, {right:.3f} of the images are answered rightly by "
                f"{trial.candidate.architecture}: this network was trained with them so; export it for the usual ones."
            )
    return [said] if said else []


def _as_said(ranked: list[Trial], said: Sequence[float], data: Images, deadline: float) -> list[Trial]:
    """The trials, those before that have an accuracy which the file says, on all images or the first 1,000.

    Measured for that: the best, and all normalisations of the likeliest architectures.
    """

    def gap(trial: Trial) -> float:
        measured = [trial.accuracy, trial.history.get(_FIRST, trial.accuracy)] if trial.images >= _FIRST else []
        return min((abs(one - other) for one in said for other in measured), default=1.0)

    usual = sorted(ranked, key=lambda t: t.candidate.cost)[:_LIKELIEST]
    tried = list(dict.fromkeys([*ranked[:3], *usual]))
    for trial in tried:
        trial.measure(data, _FIRST, deadline)
    nearest = sorted(tried, key=gap)[:8]
    for trial in nearest:
        trial.measure(data, int(_TIE / sum(one.cost for one in nearest)), deadline)
    fits = sorted((t for t in nearest if gap(t) <= _SAID), key=lambda t: (t.candidate.cost, gap(t)))
    return [*fits, *(trial for trial in ranked if trial not in fits)]


def accuracies(scores: Mapping[str, float]) -> list[float]:
    """The accuracies that scores may mean: a fraction, per cent or per mille, right or (err) wrong; 0 says nothing."""
    found = []
    for name, value in scores.items():
        share = value if value <= 1 else value / 100 if value <= 100 else value / 1000
        if 0 < share <= 1:
            found.append(1 - share if "err" in name.lower() else share)
    return found


def _tournament(trials: Sequence[Trial], data: Images, deadline: float) -> list[Trial]:
    """The trials, the best first; each round measures those left on more images and keeps a quarter of them."""
    left = list(trials)
    out: list[Trial] = []
    while True:
        last = len(left) <= 3
        more = (3 if last else 1) * _ROUND / sum(trial.cost for trial in left)
        most = _MOST_COMPARED if last else 200 if len(left) > 30 else 600
        until = left[0].images + int(min(max(more, 20 if left[0].cost < 1e9 else 4), most))
        for trial in left:
            if time.process_time() < deadline or not left[0].images:
                trial.measure(data, until, deadline)
        left = _ranked(left)
        if last or time.process_time() > deadline:
            return left + out
        out = left[max(3, len(left) // 4) :] + out
        left = left[: max(3, len(left) // 4)]


def _settled(ranked: list[Trial], data: Images, deadline: float) -> list[Trial]:
    """The trials, those that tie with the best ranked again after as many more images as may be afforded."""
    tied = tied_with_best(ranked)
    if len(tied) < 2:
        return ranked
    until = tied[0].images + int(_TIE / sum(trial.cost for trial in tied))
    for trial in tied:
        trial.measure(data, until, deadline)
    return _ranked(tied) + [trial for trial in ranked if trial not in tied]


def tied_with_best(ranked: Sequence[Trial]) -> list[Trial]:
    """The best trial, and those of its architecture whose other normalisation answers as well on as many images."""
    best = ranked[0]
    images = max((n for n in best.history if any(n in t.history for t in ranked[1:])), default=0)
    return [best] + [
        t
        for t in ranked[1:]
        if t.candidate.architecture == best.candidate.architecture and t.images == images >= FEWEST
        and t.accuracy >= best.history[images] - _ALIKE / math.sqrt(images)
    ]  # fmt: skip


def _ranked(trials: Sequence[Trial]) -> list[Trial]:
    best = max(trial.accuracy for trial in trials)
    margin = 0.4 / math.sqrt(max(trials[0].images, 1))  # the accuracy of few images is uncertain
    order = sorted(trials, key=lambda t: (t.images == 0, t.accuracy < best - margin, t.loss, t.candidate.cost))
    close = [t for t in order if t.images and t.accuracy >= best - margin and t.loss <= 1.01 * order[0].loss]
    # A loss within one percent says nothing, and a wrong odd geometry may answer a little better than the right one.
    first = max(close, key=lambda t: t.accuracy - _ODD * t.candidate.oddity, default=order[0])
    return [first, *(t for t in order if t is not first)]


def _trials(found: Sequence[Candidate], data: Images | None) -> list[Trial]:
    """Every candidate that takes the images under every usual normalisation."""
    trials = [
        Trial(candidate, normalisation, convention)
        for candidate in found
        for convention, normalisation in _normalisations(candidate, data)
        if data is None or tuple(data.pixels.shape[1:]) == candidate.input_shape
    ]
    last, cost = None, 0.0
    for trial in trials:
        if trial.candidate is not last:
            last, cost = trial.candidate, _multiplications(trial.network())
        trial.cost = cost
    return trials


def _architectures(found: Sequence[Candidate], trials: Sequence[Trial], data: Images, deadline: float) -> list[Trial]:
    """Of costly networks, the likeliest architectures under the first two normalisations, the best first.

    Empty where there is but one, or where everything can be compared with everything.
    """
    if len(found) < 2 or sum(trial.cost for trial in trials) * 20 <= 2 * _ROUND:
        return []
    few = [
        Trial(trial.candidate, trial.normalisation, trial.convention, trial.cost)
        for candidate in found[:16]
        for trial in [t for t in trials if t.candidate is candidate][:2]
    ]
    for kept in (len(few), 8):  # a glance at many, a closer look at those that answer best
        few = few[:kept]
        until = few[0].images + int(min(max(2 * _ROUND / sum(trial.cost for trial in few), 4), 100))
        for trial in few:
            if time.process_time() < deadline or not few[0].images:
                trial.measure(data, until, deadline)
        few = _ranked(few)
    return few


def _restyled(
    ranked: Sequence[Trial], data: Images, deadline: float
) -> tuple[Callable[[str], str] | None, list[Trial]]:
    """How to rewrite the texts of guessed chains so that they answer better, beyond the noise; None where nothing does.

    Shapes tell neither activations apart nor where they and the pools stand. Gives the trials of the best ways too.
    """
    best = ranked[0]
    if best.candidate.refill is None or best.cost > _LARGE:
        return None, []
    firsts: dict[str, Trial] = {}
    for trial in ranked:
        firsts.setdefault(trial.candidate.architecture, trial)
    plain = min(ranked, key=lambda trial: trial.candidate.cost).candidate  # whatever it answers with ReLU
    likeliest = [trial for trial in ranked if trial.candidate is plain and best.cost <= _SMALL]
    ways: dict[str, Callable[[str], str]] = {"": lambda text: text}
    for word in USUAL:
        ways[word] = lambda text, word=word: re.sub(r"\brelu\b", word, text)  # type: ignore[misc]
    for word in _ELDER:
        ways[f"{word}, avgpool"] = lambda text, word=word: ways[word](text).replace("maxpool", "avgpool")  # type: ignore[misc]
    for place in range(chain.WAYS):
        ways[str(place)] = lambda text, place=place: chain.variant(text, place)  # type: ignore[misc]
    found: list[tuple[str, Trial]] = []
    for way, rewrite in ways.items():
        for trial in dict.fromkeys([*list(firsts.values())[:_FEW_ARCHITECTURES], *likeliest]):
            text = rewrite(trial.candidate.architecture)
            if time.process_time() > deadline or (way and text == trial.candidate.architecture):
                continue
            variant = Trial(_rewritten(trial.candidate, text), trial.normalisation, trial.convention, trial.cost)
            variant.measure(data, 200, deadline)
            found.append((way, variant))
    if not found:
        return None, []
    found.sort(key=lambda one: -one[1].accuracy)
    usual = next(variant for way, variant in found if way == "")
    nearest = [usual, *(variant for way, variant in found[:_STYLES] if way)]
    until = max(int(min(_FINAL / sum(one.cost for one in nearest), 2 * _FIRST)), 200)
    for variant in nearest:
        variant.measure(data, until, deadline)
    first = max(nearest, key=lambda one: one.accuracy)
    way = next(way for way, variant in found if variant is first)
    margin = 0.4 / math.sqrt(first.images) + (_MUCH_BETTER if way.split(",")[0] in USUAL else 0.0)
    better = first.images == usual.images and first.accuracy > usual.accuracy + margin
    return ways[way] if better else None, nearest


def _rewritten(candidate: Candidate, text: str) -> Candidate:
    if candidate.refill is None or text == candidate.architecture:
        return candidate
    made = candidate.refill(text)
    return replace(candidate, architecture=made.architecture, body=made.body)


def _final(cost: float, available: int) -> int:
    return int(min(max(_FINAL / cost, 1000), available))


def _normalisations(
    candidate: Candidate, data: Images | None
) -> list[tuple[str, tuple[tuple[float, ...], tuple[float, ...]] | None]]:
    """Those of papers, and that of the images; without any, of the first data set with as many channels."""
    if candidate.says_normalisation:
        return [("given", candidate.normalisation)]
    channels = candidate.input_shape[0]
    rows = datasets.REGISTRY.values()
    entries = [one for one in rows if data is not None and one.name == data.name] or rows
    own = next(({one.title: one.normalisation} for one in entries if one.input_shape[0] == channels), {})
    others = {name: (mean, std) for name, mean, std in _CONVENTIONS.get(channels, ())}
    said = {} if candidate.stated is None else {"that of the file's settings": candidate.stated}
    others = {name: one for name, one in (own | others).items() if one != candidate.stated}
    return [*said.items(), ("none", None), *others.items()]


def _images(found: Sequence[Candidate], dataset: str | None) -> tuple[Images | None, list[str]]:
    """Test images that fit the first candidate that any fit, and warnings where there are none."""
    if dataset is not None:
        names: tuple[str, ...] = (dataset,)
    else:
        first, fitting = next(((c, fits) for c in found if (fits := datasets.fitting(c.input_shape))), (found[0], []))
        if len({len(entry.class_names) for entry in fitting}) > 1:
            classes = _classes(first.network())
            fitting = [entry for entry in fitting if len(entry.class_names) == classes] or fitting
        # The whole one where it is on this machine, before its part.
        names = tuple(dict.fromkeys(name for entry in fitting for name in (entry.part_of, entry.name) if name))
    if not names:
        shape = "×".join(map(str, found[0].input_shape))
        return None, [f"No data set has images of {shape}: no accuracy was measured."]
    problem = ""
    for name in names:
        try:
            data = datasets.load(name, "test")
        except DatasetError as error:
            problem = str(error)
            continue
        if data.input_shape not in [candidate.input_shape for candidate in found]:
            have, want = ("×".join(map(str, s)) for s in (data.input_shape, found[0].input_shape))
            raise CheckpointError(f"The network wants images of {want}, but those of {name} are {have}.")
        order = np.arange(len(data))
        if (np.diff(data.labels) >= 0).all():  # sorted by class, and the first of them must stand for all
            order = np.random.default_rng(0).permutation(order)
        pixels = torch.from_numpy(datasets.to_float(data.pixels[order]))
        return Images(name, pixels, torch.from_numpy(data.labels[order])), []
    if dataset is not None:
        raise CheckpointError(problem)
    return None, [f"No accuracy was measured: {problem}"]


def _multiplications(network: Network) -> float:
    """Of one image, and what the steps without weights take in their place (`operations.effort`)."""
    total = [1.0]

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        total[0] += output[0].numel() * operations.effort(module)

    hooks = [m.register_forward_hook(count) for m in network.modules() if not any(m.children())]
    try:
        _classes(network)
    finally:
        for hook in hooks:
            hook.remove()
    return total[0]


def check_likeliest(network: Network) -> None:
    """Raises CheckpointError if the network cannot be run or cut into layers, or costs too much to be audited."""
    cost = _multiplications(network)
    if cost > operations.DEAREST:
        raise CheckpointError(
            f"The network takes {cost:.2g} multiplications an image; at most {operations.DEAREST:.2g} can be audited."
        )
    cuts(network)


def broken_on(network: Network) -> list[str]:
    """The plain images for which a network answers NaN or infinity."""
    plain = {"a black image": 0.0, "a grey image": 0.5, "a white image": 1.0}
    with torch.no_grad():
        answers = {name: network(torch.full((1, *network.input_shape), value)) for name, value in plain.items()}
    return [name for name, logits in answers.items() if not logits.isfinite().all()]


def still(network: Network, dataset: str | None = None) -> list[str]:
    """The main layers whose gradient says nothing of how their features change from image to image.

    Gradients of random sums of features, at a few images of the data set (random ones without), times the distance to
    the next image: where that is under a thousandth of the change, no search can move (signs, saturated sigmoids).
    """
    data = _few(dataset, network.input_shape).requires_grad_()
    apart = (data[1:] - data[:-1]).detach().flatten(1).norm(dim=1)
    found = []
    for name in layers.main_layers(network, network.input_shape):
        features = layers.extractor(network, name, network.input_shape)(data).flatten(1)
        sums = features @ torch.randn(features.shape[1], generator=torch.Generator().manual_seed(1))
        change = (sums[1:] - sums[:-1]).detach().abs()
        slope = torch.autograd.grad(sums.sum(), data)[0] if sums.requires_grad else torch.zeros_like(data)
        moved = change > _ROUNDING * features.detach()[1:].norm(dim=1)
        if bool((moved & (slope[:-1].flatten(1).norm(dim=1) * apart < _STILL * change)).any()):
            found.append(name)
    return found


def unlike(network: Network, dataset: str, cost: float) -> list[str]:
    """The batch norms whose stored statistics are not those of the data set's images in this reading.

    Of the channels the median counts, since training changes images a little: a mean is off by more than `_SHIFTED`
    standard deviations, or a variance by more than e. `cost` is in multiplications an image; empty where too few
    images can be afforded.
    """
    pixels = datasets.load(dataset, "test").pixels
    count = int(min(_FINAL / cost, _COUNTED))
    if count < _COUNTED // 4:
        return []
    found: dict[str, None] = {}
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):

            def compare(norm: Any, given: Any, _: Any, name: str = name) -> None:
                features = given[0].transpose(0, 1).flatten(1)
                shift = (features.mean(1) - norm.running_mean).abs() / (norm.running_var + norm.eps).sqrt()
                ratio = (features.var(1) + norm.eps).log() - (norm.running_var + norm.eps).log()
                if float(shift.median()) > _SHIFTED or float(ratio.abs().median()) > 1:
                    found[name.removeprefix("body.")] = None

            hooks.append(module.register_forward_hook(compare))
    try:
        if hooks:
            with torch.no_grad():
                network(torch.from_numpy(datasets.to_float(pixels[:: max(len(pixels) // count, 1)][:count])))
    finally:
        for hook in hooks:
            hook.remove()
    return list(found)


def _few(dataset: str | None, shape: Sequence[int]) -> Tensor:
    """A few images (B, C, H, W), those of a data set if it has that shape."""
    if dataset is not None and datasets.get(dataset).input_shape == tuple(shape):
        return torch.from_numpy(datasets.to_float(datasets.load(dataset, "test").pixels[:_PROBES]))
    return torch.rand((_PROBES, *shape), generator=torch.Generator().manual_seed(0))


def cuts(network: Network) -> list[layers.Cut]:
    try:
        return layers.cuts(network, network.input_shape)
    except NetworkError as error:
        raise CheckpointError(str(error)) from error


def _classes(network: Network) -> int:
    """The number of outputs for one image. Raises CheckpointError if the network cannot be run."""
    try:
        with torch.no_grad():
            logits = network(torch.full((1, *network.input_shape), 0.5))
    except RuntimeError as error:
        shape = "×".join(map(str, network.input_shape))
        raise CheckpointError(f"The network does not run on an image of {shape}; give another input shape.") from error
    if logits.dim() == 2 and logits.shape[1] == 1:
        raise CheckpointError(
            "The network gives one number, whose sign tells two classes apart; networks with one number for each "
            "class are accepted: make of its last layer one with two outputs, 0 and this number."
        )
    if logits.dim() != 2 or logits.shape[1] < 1:
        raise CheckpointError("The network does not give one number for each of two or more classes.")
    return int(logits.shape[1])
