"""Audits from a notebook: with a progress bar, interrupted at will, and kept in a database where one is named."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from robustness_core import datasets
from robustness_core.engine.audit import Interrupted, run_audit
from robustness_core.engine.result import AuditResult
from robustness_core.errors import NetworkError
from robustness_core.layers import cuts
from robustness_core.networks import Network
from robustness_core.notebook.networks import NOT_PROVED, Loaded
from robustness_core.notebook.results import Result, own_images
from robustness_core.spec import AuditSpec, EpsilonGrid, SampleSpec, SearchSpec, Threat, too_large_words


def audit(
    network: Network,
    images: SampleSpec,
    *,
    layers: str | Sequence[str] = "all",
    m: int | Sequence[int | None] | None = 10,
    projections: int = 1,
    epsilon: tuple[float, float, int] | str | None = None,
    seed: int | None = None,
    method: str = "balanced",
    preset: str = "default",
    threat: str = "l2",
    box: bool = False,
    pairs: str = "needed",
    sets: int = 2,
    device: str = "auto",
    cache: Path | str | None = None,
    quiet: bool = False,
) -> Result:
    """Measure where a network loses its robustness: collisions of `images` (of `sample`) at each of its layers.

    `layers`: all, or names. `m`: mixtures of a layer's features, one number or several, None for all features as they
    are. `projections` (N) of each layer, drawn from `seed`, by default that of the images. `epsilon`: start, stop and
    number of the budgets of the curves, or the command line's text of them, whose default is the default here; they
    change nothing that is searched. `threat`: the norm, l2 or linf; `box`: images must stay in [0, 1]. `sets`: of
    three and more classes, collisions of up to so many images. `cache`: a database, a file or a URL; what it knows is
    not searched again, what is found is kept, and a dashboard opens it (STRATA_DATABASE). A progress bar unless
    `quiet`. Where it is interrupted the result holds what is known by then; with a `cache` the same call goes on from
    there. Raises StrataError. Cost: see `run_audit`.
    """
    if not isinstance(network, Loaded):
        raise NetworkError("Give a network that `load` or `wrap` made.")
    names = network.layers if layers == "all" else [layers] if isinstance(layers, str) else list(layers)
    dimensions = (m,) if m is None or isinstance(m, int) else tuple(m)
    first = images.seed if seed is None else seed
    search = SearchSpec(tuple(names), dimensions, projections, first, method, preset, Threat(threat, box), pairs, sets)
    if epsilon is None:
        usual = datasets.REGISTRY.get(images.dataset)
        budgets = EpsilonGrid.usual(search.threat, 8 / 255 if usual is None else usual.epsilon_linf)
    else:
        budgets = EpsilonGrid.parse(epsilon) if isinstance(epsilon, str) else EpsilonGrid(*epsilon)
    spec = AuditSpec(network.name, images, search, budgets)
    with _bar(quiet) as progress:
        found = _run(spec, network, device, cache, progress)
    sizes = {cut.name: cut.features for cut in cuts(network, network.input_shape)}
    remarks = (too_large_words(found.too_large, sizes), NOT_PROVED if network.by_hooks else "")
    found = replace(found, remarks=(*found.remarks, *filter(None, remarks)))
    if found.missing:
        print(f"Stopped: {found.known:,} of {found.total:,} distances are known.", file=sys.stderr)
    return Result(found, network, own_images(images.dataset))


def _run(
    spec: AuditSpec, network: Loaded, device: str, cache: Path | str | None, progress: Callable[[int, int], None]
) -> AuditResult:
    if cache is not None:
        from robustness_core.notebook import database  # sqlalchemy, which an audit without a cache does without

        return database.run(str(cache), spec, network, device, progress)
    try:
        return run_audit(spec, network, network.sha256, device=device, progress=progress)
    except Interrupted as stop:
        return stop.result


@contextmanager
def _bar(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    with tqdm(total=0, unit="pair", disable=quiet, file=sys.stderr) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress
