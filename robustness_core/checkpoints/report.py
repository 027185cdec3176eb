"""What an upload is, as JSON: the reading that was chosen, its rivals, its layers and what is in doubt."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robustness_core import datasets, layers
from robustness_core.checkpoints import containers
from robustness_core.checkpoints.candidates import Candidate, candidates, sha256
from robustness_core.checkpoints.identify import (
    FEWEST,
    Choice,
    Trial,
    accuracies,
    broken_on,
    check_likeliest,
    compare,
    cuts,
    still,
    tied_with_best,
    unlike,
)
from robustness_core.files import check_normalisation
from robustness_core.networks import Network

_LARGEST_AUDITED = 2e7  # multiplications an image of a network whose layers a quick audit takes about a second each
_FAR_FROM_SAID = 0.02  # of accuracy, between what was measured and what the file says

# Distances of a few pairs in two readings of a file, on images of a data set, as JSON (sandbox.rivals).
Audit = Callable[[Network, Network, str], list[dict[str, Any]]]


@dataclass(frozen=True)
class Hints:
    """What somebody knows of a file: an architecture text or name, one of the data sets, mean and std, (C, H, W), one
    of several state_dicts or outputs of a graph; and whether to measure the usual normalisations also where the file
    says one."""

    architecture: str | None = None
    dataset: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    input_shape: Sequence[int] | None = None
    stage: str | None = None
    measure_normalisations: bool = False


NO_HINTS = Hints()


def inspect(
    path: Path,
    hints: Hints = NO_HINTS,
    *,
    largest: int = containers.LARGEST_FILE,
    deadline: float = math.inf,
    understood: Callable[[], None] = lambda: None,
    audit: Audit | None = None,
) -> tuple[dict[str, Any], Network]:
    """What a file is, as JSON (see `report`), and the network. Raises CheckpointError with one sentence.

    `deadline` is a time.process_time(), in CPU seconds, after which no further comparison is begun; `understood` is
    called once the file is parsed and only measuring is left. `audit` compares two readings that are not told apart.
    """
    check_normalisation(hints.mean, hints.std)
    contents = containers.read(path, largest=largest)
    found = candidates(contents, architecture=hints.architecture, input_shape=hints.input_shape, stage=hints.stage)
    if hints.mean is not None and hints.std is not None:
        given = (tuple(float(v) for v in hints.mean), tuple(float(v) for v in hints.std))
        found = [replace(candidate, normalisation=given, says_normalisation=True) for candidate in found]
    elif hints.measure_normalisations:
        found = [replace(candidate, normalisation=None, says_normalisation=False) for candidate in found]
    check_likeliest(found[0].network())
    understood()
    dataset = hints.dataset or _named_dataset(contents, found)
    chosen = compare(found, dataset=dataset, scores=contents.scores, deadline=deadline)
    network = chosen.trials[0].network()
    network.format, network.sha256 = contents.format, sha256(path)
    return report(contents, chosen, network, hints.stage, audit), network


def report(
    contents: containers.Contents, chosen: Choice, network: Network, stage: str | None, audit: Audit | None = None
) -> dict[str, Any]:
    """The JSON of `inspect`. Names out of the file appear only escaped, in `stages` and `warnings`."""
    best = chosen.trials[0]
    found_cuts = cuts(network)
    stages = best.candidate.outputs or [state.path for state in contents.states]
    states = [containers.shown(name) for name in stages]
    rival, flat = _rival_json(chosen, audit), still(network, chosen.dataset)
    return {
        "format": contents.format,
        "container": contents.container,
        "sha256": network.sha256,
        "architecture": network.architecture,
        "input_shape": list(network.input_shape),
        "classes": found_cuts[-1].features,
        "normalisation": _normalisation_json(best.normalisation),
        "normalisation_name": best.convention,
        "normalisation_doubt": _doubt(chosen),
        "architecture_doubt": _architecture_doubt(chosen),
        "rival": rival,
        "vanishing": flat,
        "accuracy": best.accuracy if chosen.dataset else None,
        "images": best.images,
        "dataset": chosen.dataset,
        "parameters": sum(p.numel() for p in network.parameters()),
        "stage": (used := containers.shown(stage) if stage is not None else next(iter(states), "")),
        "stages": states,
        "layers": _layers_json(found_cuts, network.input_shape),
        "candidates": [_trial_json(trial) for trial in _distinct(chosen.trials)[:8]] if chosen.dataset else [],
        "scores": {containers.shown(name): value for name, value in contents.scores.items()},
        "warnings": [
            *chosen.warnings,
            *_warnings(chosen, network, rival, flat),
            *_strange(chosen, network),
            *_several(contents.format, states, used),
            *_said(chosen, contents),
            *_named_otherwise(chosen, contents),
        ],
    }


def _normalisation_json(value: tuple[tuple[float, ...], tuple[float, ...]] | None) -> dict[str, list[float]] | None:
    return None if value is None else {"mean": list(value[0]), "std": list(value[1])}


def _trial_json(trial: Trial) -> dict[str, Any]:
    return {
        "architecture": trial.candidate.architecture,
        "input_shape": list(trial.candidate.input_shape),
        "normalisation": _normalisation_json(trial.normalisation),
        "normalisation_name": trial.convention,
        "accuracy": trial.accuracy,
        "images": trial.images,
    }


def _distinct(trials: Sequence[Trial]) -> list[Trial]:
    """The best of each architecture first, then the other normalisations of the best."""
    firsts: dict[str, Trial] = {}
    for trial in trials:
        if trial.images:
            firsts.setdefault(trial.candidate.architecture, trial)
    best = trials[0]
    others = [
        t for t in trials if t.images and t is not best and t.candidate.architecture == best.candidate.architecture
    ]
    return [best, *others[:4], *(t for t in firsts.values() if t is not best)]


def _layers_json(cuts: Sequence[layers.Cut], input_shape: Sequence[int]) -> list[dict[str, Any]]:
    """`ratio` is how many times smaller a layer is than the main layer before it (the pixels before the first)."""
    before = math.prod(input_shape)
    rows = []
    for cut in cuts:
        rows.append(
            {
                "name": cut.name,
                "shape": list(cut.shape),
                "features": cut.features,
                "ratio": before / cut.features,
                "affine": cut.affine,
                "main": cut.main,
            }
        )
        before = cut.features if cut.main else before
    return rows


def _doubt(chosen: Choice) -> str:
    """Why the normalisation is not settled, as a clause; empty where it is, or was given."""
    best = chosen.trials[0]
    if best.candidate.says_normalisation:
        return ""
    if chosen.dataset is None:
        return "no accuracy was measured"
    if chosen.by_chance:
        return "none of the usual ones answers better than by chance"
    if len(tied := tied_with_best(chosen.trials)) > 1:
        names = ", ".join(trial.convention for trial in tied[1:])
        return f"others answer as well within the noise ({names})"
    rivals = [t.images for t in chosen.trials[1:] if t.candidate.architecture == best.candidate.architecture]
    if max(rivals, default=0) < FEWEST:
        return f"the usual ones were compared on {max(rivals, default=0)} images only"
    return ""


def _architecture_doubt(chosen: Choice) -> str:
    """Why the architecture is not settled, as a clause; empty where it is."""
    return _other_architecture(chosen)[0]


def _other_architecture(chosen: Choice) -> tuple[str, Trial | None]:
    """A reading in another architecture that is not told apart from the best, and the clause that says so."""
    best = chosen.trials[0]
    if not chosen.dataset or chosen.by_chance:
        return "", None
    shared = [t for t in chosen.trials[1:] if t.images >= FEWEST and t.images in best.history]
    better = max(shared, key=lambda t: t.accuracy - best.history[t.images], default=None)
    if better is not None and better.accuracy > best.history[better.images]:
        return (
            f"another reading answers more of {better.images} images rightly, {better.accuracy:.4f} against "
            f"{best.history[better.images]:.4f}: {better.candidate.architecture} ({better.convention})"
        ), better
    others = [t for t in shared if t.candidate.architecture != best.candidate.architecture]
    if near := [t for t in others if t.accuracy >= best.history[t.images] - 0.01]:
        return f"another architecture fits the weights nearly as well: {near[0].candidate.architecture}", near[0]
    return "", None


def _rival_json(chosen: Choice, audit: Audit | None) -> dict[str, Any] | None:
    """The reading that is not told apart from the best, with distances in both; None where nothing is in doubt.

    `words` say by what the mean distances of the first layers are multiplied.
    """
    best, other = chosen.trials[0], _other_architecture(chosen)[1]
    if other is None and _doubt(chosen):
        other = next((t for t in chosen.trials[1:] if t.candidate.architecture == best.candidate.architecture), None)
    if other is None or audit is None or chosen.dataset is None or best.cost > _LARGEST_AUDITED:
        return None
    found = audit(best.network(), other.network(), chosen.dataset)
    if not found:
        return None
    times = ", ".join(f"{sum(one['other']) / sum(one['distance']):.2f} ({one['name']})" for one in found)
    pairs = len(found[0]["distance"])
    words = f"the mean distance of {pairs} pairs is {times} times what it is here"
    return {**_trial_json(other), "layers": found, "words": words}


def _alike(dataset: str | None) -> str:
    """Other images of the same shape that are often meant."""
    shape = None if dataset is None else datasets.get(dataset).input_shape
    return {(1, 28, 28): ", such as Fashion-MNIST", (3, 32, 32): ", such as SVHN"}.get(shape or (0, 0, 0), "")


def _said(chosen: Choice, contents: containers.Contents) -> list[str]:
    """What to say of a score stored beside the weights that is not the accuracy measured."""
    best, said = chosen.trials[0], accuracies(contents.scores)
    if not chosen.dataset or not said or min(abs(best.accuracy - one) for one in said) <= _FAR_FROM_SAID:
        return []
    names = ", ".join(f"{containers.shown(name)} = {value:.4g}" for name, value in contents.scores.items())
    return [
        f"The file says {names}, and {best.accuracy:.4f} was measured: the score may be a robust one or one of other "
        f"images, or this reading is not the author's."
    ]


def _named(contents: containers.Contents) -> str:
    """The data set that the settings of a training name, in their words; empty without."""
    for key, value in contents.settings.items():
        text = isinstance(value, str) and len(value) < 30 and re.fullmatch("(?i)data(_?set)?(_?name)?", key)
        if text and re.search("mnist|cifar|svhn|usps|stl|imagenet", _plain(value)):
            return str(value)
    return ""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _named_dataset(contents: containers.Contents, found: Sequence[Candidate]) -> str | None:
    """That data set, where it is in the registry and on this machine and has the images that a reading takes."""
    shapes = [candidate.input_shape for candidate in found]
    named = [one for one in datasets.REGISTRY.values() if _plain(one.name) == _plain(_named(contents))]
    return next((one.name for one in named if one.input_shape in shapes and one.present("test")), None)


def _named_otherwise(chosen: Choice, contents: containers.Contents) -> list[str]:
    """What to say where the settings of a training name another data set than was measured on."""
    if chosen.dataset is None or not (named := _named(contents)):
        return []
    here = datasets.get(chosen.dataset)
    if _plain(named) in map(_plain, (here.name, here.part_of, here.title)):
        return []
    said = f"The file names the data set {containers.shown(named)}, and {here.name} was measured on"
    return [f"{said}: accuracy on other images says little."]


def _warnings(chosen: Choice, network: Network, rival: dict[str, Any] | None, flat: Sequence[str]) -> list[str]:
    best = chosen.trials[0]
    found = list(best.candidate.notes)
    zero = [name for name, p in network.named_parameters() if p.numel() and not p.any() and name.endswith("weight")]
    if zero:
        found.append(f"All weights of {', '.join(zero[:5])} are zero.")
    if best.broken:
        found.append(
            f"The network answers NaN or infinity for {best.broken} of {best.images} test images: nothing can be "
            f"measured there."
        )
    if strange := broken_on(network):
        found.append(f"The network answers NaN or infinity for {' and '.join(strange)}: a search may end there.")
    if flat:
        found.append(
            f"The gradient vanishes at {', '.join(flat[:5])} on images tried: a search finds nothing near there, which "
            f"says nothing of robustness."
        )
    if chosen.dataset and best.spread <= 1e-7:
        found.append("The network gives the same answer for every image: it is dead, and its curves will say nothing.")
    elif chosen.by_chance:
        found.append(
            f"The best accuracy found is {best.accuracy:.3f}, near chance: the architecture, the normalisation, the "
            f"orientation of the images or the order of the classes may be other than read, or the network was "
            f"trained on other images than {chosen.dataset}{_alike(chosen.dataset)}; give what you know, or bring its "
            f"images as a data set."
        )
    if doubt := _architecture_doubt(chosen):
        found.append(f"{doubt[:1].upper()}{doubt[1:]}; see the candidates and choose.")
    if doubt := _doubt(chosen):
        found.append(
            f"The normalisation ({best.convention}) is not settled: {doubt}; give the right one if you know it."
        )
    if rival is not None:
        found.append(
            f"A quick audit: as the other reading ({rival['architecture']}; {rival['normalisation_name']}), "
            f"{rival['words']}."
        )
    return found


def _strange(chosen: Choice, network: Network) -> list[str]:
    """What to say of batch norms that were trained on other features than this reading gives them."""
    if chosen.dataset is None or chosen.by_chance or network.format == "onnx":
        return []
    found = unlike(network, chosen.dataset, chosen.trials[0].cost)
    return found and [
        f"The statistics stored in {', '.join(found[:5])} are not those of {chosen.dataset} in this reading: an "
        f"activation, a shortcut, a stride, a pool or the normalisation may be other than read, or the network was "
        f"trained on other images; give the architecture, or export the network as ONNX."
    ]


def _several(kind: str, names: Sequence[str], used: str) -> list[str]:
    """What to say of a file with several sets of weights, or of a graph with several outputs."""
    what = "The graph has {} outputs" if kind == "onnx" else "The file holds {} state_dicts"
    return (
        [f"{what.format(len(names))} ({', '.join(names)}); {used} is used, and the others can be chosen."]
        if len(names) > 1
        else []
    )
