"""The question of Explore: widgets, bound to the address of the view, that make an AuditSpec or say why not."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from pages.parts import screen
from robustness_core import datasets
from robustness_core.errors import SpecError, StrataError
from robustness_core.spec import PAPERS, AuditSpec, EpsilonGrid, Threat, too_large_words
from robustness_core.spec.fields import BUDGETS, FIELDS, Field, is_usual
from store import audits
from store.database import Database
from store.records import NetworkRecord

BOUND: Final = "query-params"
FULL_HELP = "Reads all nj features of a layer, as Bhagoji et al. 2023 do: what no classifier on it can undo. Slower."


ALONE_HELP = (
    "Leaves out collisions of three and more images at once. Pairs alone tell of a loss of at most log 2, sets of up "
    "to K images of log K."
)
BOTH_HELP = "Draws each network twice: where colliding images may leave the pixel range [0, 1], and where they may not."
CLASSES_HELP = "Each image is an example of one of these; the network is asked among them all."
HALF, LOSS = "ε½", "loss at ε"  # a number of each layer

# The numbers that an address may give, by their words there; those of _FRACTIONS need not be whole.
_NUMBERS = {
    field.keys[0]: field
    for field in (*FIELDS.values(), *BUDGETS.values())
    if field.least is not None and len(field.keys) == 1
}
_FRACTIONS = ("from", "to")
_USUAL = (EpsilonGrid().start, EpsilonGrid().stop, EpsilonGrid().count)
SHIPPED = ("mnist-medium-pgd2", "mnist-medium-trades2")  # of zoo/first-look.npz


@dataclass(frozen=True)
class Question:
    """What is asked, of which network."""

    network: NetworkRecord
    spec: AuditSpec


def forget(key: str, options: Collection[Any], label: Callable[[Any], str] | None = None) -> None:
    """Let a widget start anew whose value is none of its options any more; a list loses what is none of them.

    Of what the address of a link names and the widget does not offer it is said that it is not here. `label`: how an
    option stands in the address, where that is not the option itself.
    """
    written = label or (lambda option: f"{option:g}" if isinstance(option, float) else str(option))
    offered = {written(option) for option in options}
    strange = [word for word in st.query_params.get_all(key) if word not in offered]
    if strange and key not in st.session_state:
        st.warning(f"The address names {screen.escape(', '.join(strange))}, which is not here; another is shown.")
    kept = st.session_state.get(key)
    if isinstance(kept, list):
        if not all(value in options for value in kept):
            st.session_state[key] = [value for value in kept if value in options]
    elif kept is not None and kept not in options:
        del st.session_state[key]


def choose_network(available: Sequence[NetworkRecord]) -> NetworkRecord:
    names = {network.name: network for network in available}
    forget("network", names)
    (first,) = shown_first(list(names), 1)
    chosen = st.selectbox(
        "Network",
        list(names),
        list(names).index(first),
        key="network",
        bind=BOUND,
        help="The bundled networks and those that you added on the screen Networks.",
    )
    return names[chosen]


def shown_first(names: Sequence[str], count: int) -> list[str]:
    """The networks of a screen that was asked for none: those with shipped audits, else the first of all."""
    shipped = [name for name in SHIPPED if name in names]
    return [*shipped, *(name for name in names if name not in shipped)][:count]


def choose_layer(network: NetworkRecord, key: str, first: str) -> str:
    """One layer of the network, bound to the address under `key`; `first` unless the address names another."""
    names = [layer.name for layer in network.layers]
    forget(key, names)  # a layer of the network that was chosen before
    return str(st.selectbox("Layer", names, names.index(first), key=key, bind=BOUND))


def ask(db: Database, available: Sequence[NetworkRecord]) -> Question | None:
    """Show all widgets of one network's question; None if it cannot be asked, with the reason beside the widget."""
    network = choose_network(available)
    _open_with_known_projections(db, network)
    layers = _choose_layers(network)
    form = Form(network.input_shape)
    spec = form.spec(network, layers)
    return None if spec is None else Question(network, spec)


def ask_classes(available: Sequence[NetworkRecord]) -> Question | None:
    """As `ask`, of three classes and more at all main layers."""
    network = choose_network(available)
    form = Form(network.input_shape, several=True)
    spec = form.spec(network, tuple(layer.name for layer in network.layers if layer.main))
    return None if spec is None else Question(network, spec)


def _open_with_known_projections(db: Database, network: NetworkRecord) -> None:
    """At first N is that of the finished curves that are otherwise shown, unless the address asks something."""
    (key,) = FIELDS["projections"].keys
    if key in st.session_state or not set(st.query_params) <= {"network"}:
        return
    known = [
        spec.search.projections
        for spec in audits.answered(db)
        if spec.network == network.name
        and len(spec.search.layers) > 1
        and is_usual(spec, datasets.get(spec.sample.dataset).pair)
    ]
    if (most := max(known, default=1)) > FIELDS["projections"].default:
        st.session_state[key] = most


def _say_if_no_number() -> None:
    """Say which numbers of an address cannot be; streamlit drops them when it makes their widgets."""
    given = {key: st.query_params.get(key) for key in _NUMBERS if key not in st.session_state}
    strange = {key: text for key, text in given.items() if text is not None and not _can_be(key, text)}
    if strange:
        told = ", ".join(f"{key} = {text}" for key, text in strange.items())
        st.warning(f"The address gives {screen.escape(told)}, which cannot be; another number is shown.")


def _can_be(key: str, text: str) -> bool:
    """Whether a number in an address is one, and within its limits."""
    try:
        value = float(text)
    except ValueError:
        return False
    return math.isfinite(value) and _NUMBERS[key].may_be(value) and (key in _FRACTIONS or text.isdecimal())


class Form:
    """The settings that every question has; `spec` makes a question of them or says why not, beside the widgets."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        one_m: bool = True,
        budgets: bool = True,
        several: bool = False,
        both: bool = False,
    ):
        """Show the widgets, for images of this shape; `one_m` also asks for m, `budgets` for the range of ε.

        `several`: of more than two classes, in ℓ2 without the box, and for sets of their images. `both`: offer to ask
        with and without the pixel range; then `both` says so, and the questions of `spec` have one of the two.
        """
        _say_if_no_number()
        self.several = several
        self.dataset = _choose_dataset(input_shape)
        self.both = False
        self.classes = _choose_classes(self.dataset) if several else _choose_pair(self.dataset)
        with st.container(horizontal=True, gap="small"):
            samples = _number(FIELDS["samples"], width=88)
            m = _number(FIELDS["m"], width=88) if one_m else 1
            projections = _number(FIELDS["projections"], width=88)
        if several:
            self.threat = PAPERS
            alone = st.toggle("Pairs alone", key="pairs_alone", bind=BOUND, help=ALONE_HELP)
            self.sets = 2 if alone else max(2, len(self.classes))
        else:
            with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
                norm = _choice(FIELDS["threat"], width=88)
                box = st.container()
            if both:
                self.both = st.toggle("Any and valid images side by side", key="both", bind=BOUND, help=BOTH_HELP)
            with box:
                self.threat = Threat(norm, box=_toggle(FIELDS["box"], disabled=self.both))
            self.sets = 2
        self._trouble = st.empty()
        with st.expander("Method, seed, ε range" if budgets else "Method, seed"):
            self.full = one_m and st.toggle("No projection", key="full", bind=BOUND, help=FULL_HELP)
            self.method = _choice(FIELDS["method"])
            self.preset = _choice(FIELDS["preset"])
            seed = _number(FIELDS["seed"])
            self.first = _text(FIELDS["projection_seed"], placeholder="the same")
            self.left_out = _text(FIELDS["left_out"], placeholder="none")
            self.pairs = _choice(FIELDS["pairs"]) if budgets and one_m else "all"
            self.split = _choice(FIELDS["split"], tuple(datasets.get(self.dataset).sizes))
            start, stop, count = _choose_range(self.dataset, self.threat) if budgets else _USUAL
            self._trouble_below = st.empty()
        self._too_large: list[str] = []
        self._numbers = (samples, m, projections, seed, start, stop, count)

    def spec(
        self, network: NetworkRecord, layers: tuple[str, ...], m: tuple[int | None, ...] | None = None
    ) -> AuditSpec | None:
        """The question about these layers, with `m` in place of the form's if given; None after saying why not."""
        samples, one_m, projections, seed, start, stop, count = self._numbers
        if any(number is None for number in self._numbers):
            return self._refuse("A number is missing; fill it in.")
        left_out = (self.left_out or "").replace(",", " ").split()
        if not all(number.isdecimal() for number in left_out):
            return self._refuse("Images are left out by their numbers, with spaces or commas between them.")
        if self.several and len(self.classes) < 3:
            return self._refuse("Choose three or more classes; Explore and Compare are for two.")
        first = (self.first or "").strip()
        if first and not (first.isdecimal() and len(first) < 11):
            return self._refuse("The seed of the projections must be a whole number of 0 or more, or left empty.")
        try:
            epsilon = EpsilonGrid(float(start), float(stop), int(count))
        except SpecError as error:
            self._trouble_below.error(screen.escape(str(error)))
            return self._refuse(str(error))
        try:
            spec = AuditSpec.of(
                network=network.name,
                dataset=self.dataset,
                classes=self.classes,
                samples=int(samples),
                layers=layers,
                m=m if m is not None else (None if self.full else int(one_m),),
                projections=int(projections),
                seed=int(seed),
                method=self.method,
                preset=self.preset,
                pairs=self.pairs,
                sets=self.sets,
                epsilon=epsilon,
                threat=self.threat,
                split=self.split,
                left_out=tuple(int(number) for number in left_out),
                projection_seed=int(first) if first else None,
            )
            too_large = spec.search.too_large(network.features)
            kept = tuple(one for one in layers if any((one, asked) not in too_large for asked in spec.search.m))
            spec = spec.replace(layers=kept)
            spec.search.check(network.features)
            spec.sample.check(datasets.counts(self.dataset, self.split))
        except StrataError as error:
            return self._refuse(str(error))
        if too_large:
            self._too_large.append(f"{network.name}: {too_large_words(too_large, network.features)}")
            self._trouble.info(screen.escape(" ".join(self._too_large)))
        return spec

    def _refuse(self, sentence: str) -> AuditSpec | None:
        self._trouble.error(screen.escape(sentence))
        return None


def _number(field: Field, **more: Any) -> Any:
    """A number, between the ends of its field; a fractional one moves by halves."""
    kind = type(field.default)
    for name, end in (("min_value", field.least), ("max_value", field.most)):
        more[name] = None if end is None else kind(end)
    more = {"step": 0.5 if kind is float else 1, "help": field.help or None, **more}
    if field.default != field.least:  # else min, so that the session may set it before
        more.setdefault("value", field.default)
    return st.number_input(field.label, key=field.keys[0], bind=BOUND, **more)


def _text(field: Field, placeholder: str) -> str:
    return st.text_input(field.label, key=field.keys[0], bind=BOUND, placeholder=placeholder, help=field.help)


def _toggle(field: Field, *, disabled: bool = False) -> bool:
    return st.toggle(field.label, key=field.keys[0], bind=BOUND, help=field.help, disabled=disabled)


def _choose_range(dataset: str, threat: Threat) -> tuple[Any, Any, Any]:
    """Start, stop and count of the budgets; with another norm the range begins anew, unless the address names it."""
    usual = EpsilonGrid.usual(threat, datasets.get(dataset).epsilon_linf)
    before = st.session_state.get("range_of", EpsilonGrid())
    st.session_state["range_of"] = usual
    for name, field in BUDGETS.items():
        (key,), value = field.keys, getattr(usual, name)
        if value != getattr(before, name) and (key in st.session_state or key not in st.query_params):
            st.session_state[key] = value
    # Where the session sets a value streamlit wants no default beside it.
    fine: dict[str, Any] = {} if threat.norm == "l2" else {"step": 0.01, "format": "%.4g", "value": "min"}
    start, stop, count = BUDGETS.values()
    return _number(start, **fine), _number(stop, **fine), _number(count)


def _choice(field: Field, options: Sequence[str] = (), **more: Any) -> str:
    """One of the field's options, or of those given in their place."""
    (key,) = field.keys
    offered = options or field.options
    forget(key, offered)
    place = offered.index(field.default) if field.default in offered else 0
    return str(st.selectbox(field.label, offered, place, key=key, bind=BOUND, help=field.help, **more))


def _choose_layers(network: NetworkRecord) -> tuple[str, ...]:
    """The layers, in the order of the network whatever the order of the clicks."""
    before = st.toggle(
        "Offer layers before their ReLU",
        key="pre",
        bind=BOUND,
        help="Adds the layers as they are before their activation, named .pre; the first is affine, so that its "
        "distances are exact.",
    )
    offered = [layer for layer in network.layers if layer.main or before]
    names = [layer.name for layer in offered]
    main = [layer.name for layer in offered if layer.main]
    last = st.session_state.get("layers_of")
    if last not in (None, network.sha256):  # another network was chosen: its own layers, all of them
        st.session_state["layers"] = main
    st.session_state["layers_of"] = network.sha256
    forget("layers", names)
    chosen = st.multiselect(
        "Layers", names, default=main, key="layers", bind=BOUND, placeholder="Choose at least one layer", wrap=True
    )
    _show_sizes(network, chosen)
    return tuple(name for name in names if name in chosen)


def _show_sizes(network: NetworkRecord, chosen: Sequence[str]) -> None:
    parts, before = [], None
    for layer in network.layers:
        if layer.name in chosen:
            parts.append(f"{screen.escape(layer.name)}: {layer.features:,}{ratio(before, layer.features)}")
            before = layer.features
    if parts:
        st.caption("nj, the number of features of a layer (ratio to the layer before): " + " · ".join(parts))


def ratio(before: int | None, features: int) -> str:
    """How the size changed, for example ` (÷4)` or ` (×1.5)`; nothing for the first layer."""
    if before is None:
        return ""
    if features == before:
        return " (same)"
    if features < before:
        return f" (÷{before / features:.3g})"
    return f" (×{features / before:.3g})"


def _choose_dataset(input_shape: tuple[int, ...]) -> str:
    # Where none fits all are offered: asking then says of which size their images are.
    names = [entry.name for entry in datasets.fitting(input_shape) or datasets.REGISTRY.values()]
    forget("dataset", names)
    dataset = st.selectbox("Data set", names, key="dataset", bind=BOUND)
    return dataset


def _choose_classes(dataset: str) -> tuple[int, ...]:
    """Three classes or more, all at first."""
    names = [datasets.class_label(dataset, number) for number in range(len(datasets.get(dataset).class_names))]
    forget("classes", names)
    chosen = st.multiselect("Classes", names, names, key="classes", bind=BOUND, wrap=True, help=CLASSES_HELP)
    return tuple(number for number, name in enumerate(names) if name in chosen)


def _choose_pair(dataset: str) -> tuple[int, int]:
    classes, (a, b) = range(len(datasets.get(dataset).class_names)), datasets.get(dataset).pair

    def label(number: int) -> str:
        return datasets.class_label(dataset, number)

    for key in ("a", "b"):
        forget(key, classes, label)
    with st.container(horizontal=True, gap="small"):
        left = st.selectbox("Class of x", classes, a, label, key="a", bind=BOUND, width=136)
        right = st.selectbox("Class of x′", classes, b, label, key="b", bind=BOUND, width=136)
    return int(left), int(right)


def choose_number() -> str:
    """Which number of each layer is drawn: HALF or LOSS."""
    return st.segmented_control(
        "Number of each layer",
        [HALF, LOSS],
        default=HALF,
        required=True,
        key="bars",
        bind=BOUND,
        help="ε½: the least budget at which the optimal loss reaches ½ log 2; larger is more robust. Or the loss at ε.",
    )


def choose_epsilon(epsilon: NDArray[np.float64], threat: Threat = PAPERS) -> float:
    """A slider over the budgets of the grid; a quarter of the way up at first."""
    options = [round(float(value), 6) for value in epsilon]
    forget("at", options)  # the range has changed
    chosen = st.select_slider(
        "Budget ε of the loss by layer",
        options,
        options[len(options) // 4],
        key="at",
        bind=BOUND,
        format_func=threat.budget,
    )
    return float(chosen)
