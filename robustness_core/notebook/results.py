"""What `audit` gives in a notebook: numbers, tables and the dashboard's own figures of one audit."""

from __future__ import annotations

import html
import importlib
import importlib.util
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustness_core import datasets
from robustness_core.datasets import own
from robustness_core.engine.result import AuditResult, SeriesResult, from_text
from robustness_core.errors import StrataError
from robustness_core.files import write_whole
from robustness_core.found import Floats, Set
from robustness_core.optimal_loss import curve_of as loss_curve
from robustness_core.optimal_loss.statistics import half_budget

if TYPE_CHECKING:
    from robustness_core.notebook.networks import Loaded

M = int | str | None  # a projection dimension; None: no projection; "first": the first of the audit
_PARTS = {"audit": "audit.json", "network": "network.safetensors", "images": "images.npz"}  # of a file `save` makes


@dataclass(frozen=True, eq=False)
class Result:
    """An audit as far as it is known; Jupyter shows it as its figure.

    `found` holds all of it. `network` and `images` (as the file of one's own images) are what `publish` takes along:
    None where they are not at hand.
    """

    found: AuditResult
    network: Loaded | None = None
    images: bytes | None = None

    @property
    def layers(self) -> list[str]:
        """The layers, from the images to the logits."""
        return list(dict.fromkeys(one.series.layer for one in self.found.series))

    def distances(self, layer: str, *, m: M = "first", projection: int = 0) -> Floats:
        """The distances of one projection of a layer, NaN where unknown; upper bounds found by search.

        Of two classes (S, S), of more of them symmetric, with the images of one class after the other.

        `m`: by default the first of the audit. `projection` counts from 0. Raises StrataError.
        """
        group = self._group(layer, m)
        if not 0 <= projection < len(group):
            raise StrataError(f"Layer {layer} has the projections 0 to {len(group) - 1}, not {projection}.")
        return self._graph(group[projection])

    def loss(self, epsilon: float, *, m: M = "first") -> dict[str, float]:
        """The optimal loss of each layer at a budget, in nats, mean over its projections; lower bounds."""
        return self._means(m, lambda one: float(self._curve(one, [epsilon])[0]))

    def half(self, *, m: M = "first") -> dict[str, float]:
        """ε½ of each layer, the least budget at which the loss is half of log 2, mean over its projections."""
        return self._means(m, self._half)

    def table(self) -> Any:
        """A pandas DataFrame, a row a layer, m and projection: mean distance, ε½, how many pairs are known."""
        pandas = _extra("pandas")
        return pandas.DataFrame(
            {
                "layer": one.series.layer,
                "features": one.features,
                "m": one.series.m,
                "seed": one.series.seed,
                "known": int(one.found.known.sum()),
                "distance": float(np.nanmean(one.found.distance)) if one.found.known.any() else np.nan,
                "half_budget": self._half(one),
                "collided": float(one.found.collided[one.found.known].mean()) if one.found.known.any() else np.nan,
            }
            for one in self.found.series
        )

    def pairs(self) -> Any:
        """A pandas DataFrame, a row a pair of a layer, m and projection whose distance is known."""
        pandas = _extra("pandas")
        rows = []
        rows_of, columns_of = self.found.spec.sample.sides(self.found.indices)
        for one in self.found.series:
            for i, j in np.argwhere(one.found.known).tolist():
                left, right = int(rows_of[i]), int(columns_of[j])
                at = {name: getattr(one.found, name)[i, j].item() for name in ("distance", "residual", "collided")}
                series = {"layer": one.series.layer, "m": one.series.m, "seed": one.series.seed}
                rows.append({**series, "left": left, "right": right, **at})
        return pandas.DataFrame(rows)

    def plot(self, *, m: M = "first") -> Any:
        """The loss curves, layer by layer: the plotly figure that the dashboard shows."""
        _extra("plotly")
        from charts.document import panels_of

        document = self.found.to_json()
        chosen = self._m(m)
        document["layers"] = [one for one in document["layers"] if one["m"] == chosen]
        ((title, figure), *_) = panels_of(document)
        caption = html.escape(f"{title}{'' if not self.found.missing else f' ({self._known})'}")
        return figure.update_layout(
            title={"text": caption, "font": {"size": 14}, "y": 0.98, "yanchor": "top"}, margin={"t": 84}
        )

    def compare(self, *others: Result) -> Any:
        """The curves of several audits side by side, on the same axes: the figure of the screen Compare."""
        _extra("plotly")
        from charts.compare import small_multiples
        from charts.document import classes_of, curve_of, matrices_of

        panels: dict[str, Any] = {}
        classes = 2
        own = self.found.spec
        epsilon = own.epsilon.values()
        for one in (self, *others):
            if one.found.spec.search.threat != own.search.threat:
                raise StrataError("Audits under several norms have no axis in common; compare those of one norm.")
            series = tuple(replace(each, loss=one._curve(each, epsilon)) for each in one.found.series)
            document = replace(one.found, series=series).to_json()
            name, same = document["network"], sum(key.startswith(document["network"]) for key in panels)
            panels[f"{name} ({same + 1})" if name in panels else name] = [
                curve_of(document, layer, matrices_of(layer), epsilon)
                for layer in document["layers"]
                if layer["m"] == document["layers"][0]["m"]
            ]
            classes = max(classes, classes_of(document))
        return small_multiples(epsilon, panels, classes=classes, threat=own.search.threat)

    def save(self, path: Path | str) -> None:
        """Write the audit into a file: as .json what `audit --json` writes, else with the network and own images too.

        The second kind can be published elsewhere. Raises StrataError.
        """
        text = json.dumps(self.found.to_json()).encode()
        if Path(path).suffix == ".json":
            return write_whole(Path(path), text)
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr(_PARTS["audit"], text)
            if self.network is not None and self.network.content is not None:
                file.writestr(_PARTS["network"], self.network.content)
            if self.images is not None:
                file.writestr(_PARTS["images"], self.images)
        write_whole(Path(path), content.getvalue())

    def publish(self, database: str | None = None) -> str:
        """Put the audit, its network and its own images into a database; what it is there, in a sentence.

        `database`: a file or a URL, by default the dashboard's (STRATA_DATABASE). What is known there stays as it is.
        Raises StrataError, also where pairs are unknown that the audit asks for.
        """
        from robustness_core.notebook.database import publish

        return publish(self, database)

    @property
    def _known(self) -> str:
        return f"{self.found.known:,} of {self.found.total:,} pairs known"

    def _curve(self, one: SeriesResult, budgets: npt.ArrayLike) -> Floats:
        """The loss of one series at these budgets."""
        return loss_curve(self._graph(one), _sets(one), budgets)

    def _half(self, one: SeriesResult) -> float:
        return half_budget(self._graph(one), _sets(one))

    def _means(self, m: M, number: Callable[[SeriesResult], float]) -> dict[str, float]:
        """The mean over its projections of each layer that has this m."""
        chosen = self._m(m)
        return {
            layer: float(np.mean([number(one) for one in group]))
            for (layer, its), group in self.found.layers.items()
            if its == chosen
        }

    def _graph(self, one: SeriesResult) -> Floats:
        return self.found.spec.sample.graph(one.found.distance)

    def _m(self, m: M) -> int | None:
        there = list(dict.fromkeys(one.series.m for one in self.found.series))
        if m == "first":
            return there[0]
        if m not in there:
            raise StrataError(f"The audit has no m = {m}; it has {', '.join(map(str, there))}.")
        return m

    def _group(self, layer: str, m: M) -> list[SeriesResult]:
        found = self.found.layers.get((layer, self._m(m)))
        if found is None:
            raise StrataError(f"The audit has no layer {layer!r} at this m; it has {', '.join(self.layers)}.")
        return found

    def __repr__(self) -> str:
        spec = self.found.spec
        half = ", ".join(f"{layer} {value:.3g}" for layer, value in self.half().items())
        remarks = "".join(f" {remark}" for remark in self.found.remarks)
        return f"Audit of {spec.network} on {spec.sample.dataset}: {self._known}; ε½ of {half}.{remarks}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """What a notebook shows: the figure; the words alone where plotly is not there."""
        shown: dict[str, Any] = {"text/plain": repr(self)}
        if importlib.util.find_spec("plotly") is None:
            return shown
        figure: dict[str, Any] = self.plot()._repr_mimebundle_(include, exclude)
        below = "".join(f"<p>{html.escape(remark)}</p>" for remark in self.found.remarks)
        page = figure.get("text/html") or self.plot().to_html(full_html=False, include_plotlyjs=True)
        return {**figure, "text/html": page + below, **shown}


def read(path: Path | str) -> Result:
    """The audit of a file that `Result.save`, `audit --json` or a screen wrote. Raises StrataError."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StrataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return Result(from_text(content, path))
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            parts = {name: file.read(part) for name, part in _PARTS.items() if part in file.namelist()}
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise StrataError(f"{path} is damaged; save the audit again.") from error
    network = _network(parts["network"], path.stem) if "network" in parts else None
    found = from_text(parts.get("audit", b""), path)
    if network is not None:
        network.name = found.spec.network
        if network.sha256 != found.network_sha256:
            raise StrataError(f"{path} holds another network than the audit is of; save it again.")
    images = parts.get("images")
    if images is not None:
        own.register(own.ImageSet.from_bytes(images))
    return Result(found, network, images)


def _sets(one: SeriesResult) -> dict[Set, float]:
    """The distances of the sets of three and more images of a series."""
    return {places: found.distance for places, found in one.sets.items()}


def _network(content: bytes, name: str) -> Loaded:
    """The network of a file that anybody may have made."""
    import tempfile

    from robustness_core.notebook.loading import load

    with tempfile.TemporaryDirectory(prefix="strata-") as folder:
        path = Path(folder) / "network.safetensors"
        path.write_bytes(content)
        return load(str(path))


def own_images(dataset: str) -> bytes | None:
    """The file of a data set of one's own; None for one that has a name everywhere, or is not known here."""
    entry = datasets.REGISTRY.get(dataset)
    if entry is None or own.SPLIT not in entry.sizes:
        return None
    data = entry.open(own.SPLIT)
    return own.ImageSet(entry.title, data.pixels, data.labels, entry.class_names).to_bytes()


def _extra(package: str) -> Any:
    """A package that only figures and tables need."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise StrataError(f"This needs {package}: pip install 'strata[dashboard]'.") from error
