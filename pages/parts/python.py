"""The lines of Python that compute anew, in a notebook, what a screen shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robustness_core import datasets
from robustness_core.datasets.own import SPLIT
from robustness_core.spec import SampleSpec, SearchSpec
from robustness_core.spec.audit import ALL_UP_TO, AuditSpec
from store.records import NetworkRecord


def lines(asked: Sequence[tuple[AuditSpec, NetworkRecord]], database: str) -> str:
    """A program for these questions and their networks; several end in a comparison.

    `database`: where networks and images lie that are not everybody's.
    """
    parts = ["import robustness_core as rc", *(_audit(*one, database) for one in asked)]
    if len(asked) > 1:
        parts[0] += "\n\nresults = []"
        parts = [part.replace("result = rc.audit(", "results.append(rc.audit(") for part in parts]
        parts = [f"{part})" if "results.append(" in part else part for part in parts]
    return "\n\n".join([*parts, "result" if len(asked) == 1 else "results[0].compare(*results[1:])"]) + "\n"


def _audit(spec: AuditSpec, network: NetworkRecord, database: str) -> str:
    sample, search = spec.sample, spec.search
    there = [("database", database)]
    own = sample.dataset in datasets.REGISTRY and SPLIT in datasets.get(sample.dataset).sizes
    usual = SampleSpec(sample.dataset, sample.classes, sample.size)
    images = [("classes", sample.classes), ("size", sample.size)]
    images += [(name, getattr(sample, name)) for name in ("split", "seed", "left_out") if _differ(sample, usual, name)]
    search_usual = SearchSpec(search.layers, pairs="needed")
    names = ["projections", "method", "preset", "sets", *(["pairs"] if sample.size > ALL_UP_TO else [])]
    settings = [(name, getattr(search, name)) for name in names if _differ(search, search_usual, name)]
    settings += [("seed", search.seed)] if search.seed != sample.seed else []
    settings += [("threat", search.threat.norm)] if search.threat.norm != search_usual.threat.norm else []
    settings += [("box", True)] if search.threat.box else []
    budgets = (spec.epsilon.start, spec.epsilon.stop, spec.epsilon.count)
    m = search.m[0] if len(search.m) == 1 else list(search.m)
    search_words = _call([("layers", list(search.layers)), ("m", m), *settings, ("epsilon", budgets)])
    return "\n".join(
        [
            f"network = rc.load({_call([(None, network.name), *([] if network.source == 'zoo' else there)])})",
            f"images = rc.sample({_call([(None, sample.dataset), *images, *(there if own else [])])})",
            f"result = rc.audit(network, images, {search_words})",
        ]
    )


def _differ(one: Any, usual: Any, name: str) -> bool:
    return bool(getattr(one, name) != getattr(usual, name))


def _call(arguments: Sequence[tuple[str | None, object]]) -> str:
    return ", ".join(f"{value!r}" if name is None else f"{name}={value!r}" for name, value in arguments)
