"""Learn: the ideas on small pictures that react, for a reader who has not read the paper."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from numpy.typing import NDArray

from charts import learn
from pages.parts import dragging, screen, toy
from pages.parts.question import BOUND
from robustness_core.optimal_loss import loss_curve, optimal_loss

# Of each point: key, name and start of its two sliders.
POINTS = {
    "x": (("x1", "x, across", -0.9), ("x2", "x, up", -0.5)),
    "x′": (("y1", "x′, across", 0.9), ("y2", "x′, up", 0.6)),
}
REACH = 1.5  # of the plane on which the points move
MET = 1e-4  # features that differ by no more agree, as in an audit
IDEAS = ("Features", "Distance", "Search", "Conflicts")


def main() -> None:
    screen.begin("Learn", watched=False)
    idea = st.segmented_control("Idea", IDEAS, default=IDEAS[0], key="idea", bind=BOUND, required=True)
    left, right = st.columns([1, 1.5], gap="large")
    {"Features": _features, "Distance": _distance, "Search": _search, "Conflicts": _conflicts}[idea](left, right)
    screen.link_button({"idea": idea})


def _features(left: st.delta_generator.DeltaGenerator, right: st.delta_generator.DeltaGenerator) -> None:
    with left:
        st.markdown(
            "A network turns an image into *features*, layer by layer. A feature is robust if a small change of the "
            "image changes it little. Draw the lines along which a feature does not change, its *level sets*: where "
            "they lie far apart, an adversary must move far to get from one to another."
        )
        st.markdown(
            "A few good features give calm level sets. Add many weak ones, which vary quickly though faintly, and a "
            "random mix of all of them becomes cluttered: tiny moves reach every value. This is why Strata looks at "
            "random mixtures $A f(x)$ of a layer's features, with few rows, instead of all features at once."
        )
        st.latex(
            r"\begin{gathered} x \;\mapsto\; A f(x) \\ "
            r"A \in \mathbb{R}^{m \times n_j},\; A_{ik} \sim \mathcal{N}(0, 1) \end{gathered}"
        )
        st.markdown(
            "Such a reading may be harder to move at a deeper layer than at an earlier one, or than the image seen "
            "through as many mixtures: it says how easily features are *used* robustly. What no classifier on a layer "
            "can undo is read off all features at once, and only grows with depth."
        )
        weak = st.slider("Weak features added", 0, 200, 0, 5, key="weak", bind=BOUND)
        seed = st.number_input("Seed of the mixture", 0, 1000, 3, key="mix", bind=BOUND, width=160)
    axis, points = toy.grid()
    values = toy.many_features(int(weak), int(seed))(points)
    with right:
        figure = learn.level_sets(axis, values, dark=screen.dark())
        screen.show(figure, "levels", "strata-levels", f"Level sets of a mixture with {weak} weak features")
        st.caption(
            f"Level sets of a random mixture of 4 good and {weak} weak features; the colour stands for its value."
        )


def _distance(left: st.delta_generator.DeltaGenerator, right: st.delta_generator.DeltaGenerator) -> None:
    with left:
        st.markdown(
            "Two images *collide* when their features are equal: nothing after this layer can tell them apart. The "
            "distance of x and x′ is the least budget with which both can be moved so that they collide. Both move, "
            "each at most by the distance, and meet on the highlighted level set."
        )
        st.latex(
            r"\begin{gathered} d_f(x, x') = \min_{f(\tilde x) = f(\tilde x')} \\ "
            r"\max\left(\lVert \tilde x - x\rVert_2, \lVert \tilde x' - x'\rVert_2\right) \end{gathered}"
        )
        st.markdown(
            "For a linear feature the answer is a formula: half of that part of x − x′ which the feature can see. "
            "For a network with ReLUs the level sets have corners, and the distance must be searched for. Images that "
            "meet need not be valid: their pixels may leave [0, 1]."
        )
        kind = st.segmented_control(
            "Feature", ["linear", "piecewise linear"], default="linear", key="kind", bind=BOUND, required=True
        )
        degrees = st.slider("Direction of the feature (degrees)", 0, 180, 75, key="degrees", bind=BOUND)
        x, other = _points()
    feature = toy.linear(degrees) if kind == "linear" else toy.piecewise_linear(degrees)
    axis, points = toy.grid()
    found = toy.meet_linear(degrees, x, other) if kind == "linear" else toy.meet(feature, x, other)
    with right:
        figure = learn.meeting(
            axis,
            feature(points),
            (x, other),
            (found.left, found.right),
            found.distance,
            found.level,
            reach=REACH,
            dark=screen.dark(),
        )
        _show_plane(figure, "meeting", "strata-distance", "Level sets with two points, their balls and their collision")
        st.caption(
            "Level sets of the feature. The radius of each ball is the distance; x moves to x̃ and x′ to x̃′, both on "
            "the highlighted level."
        )
        st.markdown(
            f"Distance **{found.distance:.2f}**; without a feature it would be "
            f"{float(np.linalg.norm(x - other)) / 2:.2f}, half the way between the points."
        )


def _points() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sliders for the two points, and which of them a click on the plane moves."""
    values = []
    for names in (POINTS["x"], POINTS["x′"]):
        with st.container(horizontal=True):
            for key, name, start in names:
                values.append(st.slider(name, -REACH, REACH, start, 0.1, key=key, bind=BOUND, width=160))
    st.segmented_control(
        "A click on the picture moves", list(POINTS), default="x", key="moves", required=True,
        help="Or drag the points, or move the sliders, with the arrow keys too.",
    )  # fmt: skip
    return np.array(values[:2], dtype=np.float64), np.array(values[2:], dtype=np.float64)


def _show_plane(figure: go.Figure, key: str, filename: str, alt: str) -> None:
    """A picture of the plane on which the points can be dragged, and a click puts the chosen one."""

    def put(point: str, *place: float) -> None:
        for (name, _, _), value in zip(POINTS[point], place, strict=True):
            st.session_state[name] = round(min(max(float(value), -REACH), REACH), 1)

    def clicked() -> None:
        points = st.session_state[f"figure_{key}"].selection.points
        if points:
            put(st.session_state["moves"], points[0]["x"], points[0]["y"])

    screen.show(figure, key, filename, alt, on_select=clicked, selection_mode="points")
    now = {point: (st.session_state[names[0][0]], st.session_state[names[1][0]]) for point, names in POINTS.items()}
    dragging.drag(key, now, REACH, 0.1, put)


def _search(left: st.delta_generator.DeltaGenerator, right: st.delta_generator.DeltaGenerator) -> None:
    with left:
        st.markdown(
            "Algorithm 1 starts where a collision is certain: at the midpoint, where both images are the same. There "
            "it replaces the feature by its tangent, for which all collisions form a plane, and projects the original "
            "pair onto that plane: the first pull α is 1."
        )
        st.latex(
            r"\begin{gathered} z_{i+1} = \mathrm{proj}\left((1 - \alpha_i)\, z_i + \alpha_i\, (x, x'),\; "
            r"\mathcal{H}_i\right) \\ \alpha_{i+1} = \gamma\, \alpha_i \end{gathered}"
        )
        st.markdown(
            "Then it repeats: pull the iterate back towards the originals by a share α, which shrinks, and project "
            "again onto the new tangent plane. The pull keeps the moves small, the projection makes them collide. Once "
            "the features agree it has found a collision, whose distance is an upper bound of the true one."
        )
        steps = st.slider("Steps", 0, 20, 12, key="steps", bind=BOUND)
        gamma = st.slider("Decay γ", 0.5, 0.95, 0.8, 0.05, key="gamma", bind=BOUND)
        x, other = _points()
    axis, points = toy.grid()
    path = toy.algorithm1(toy.smooth, x, other, int(steps), gamma=float(gamma))
    mismatch = abs(float(toy.smooth(path[-1, 0]) - toy.smooth(path[-1, 1])))
    moved = max(float(np.linalg.norm(path[-1, 0] - x)), float(np.linalg.norm(path[-1, 1] - other)))
    with right:
        figure = learn.steps(axis, toy.smooth(points), (x, other), path, dark=screen.dark())
        _show_plane(figure, "steps", "strata-search", "The steps of Algorithm 1 over the level sets of a feature")
        st.caption(
            "Level sets of a curved feature. Each path leads from the midpoint back towards its point, a dot a step."
        )
        st.markdown(
            f"After {steps} {'step' if steps == 1 else 'steps'}: larger move **{moved:.3f}**, features differ by "
            f"{mismatch:.1e}: {'a collision' if mismatch <= MET else 'not yet a collision'}."
        )


def _conflicts(left: st.delta_generator.DeltaGenerator, right: st.delta_generator.DeltaGenerator) -> None:
    with left:
        st.markdown(
            "Given a budget ε, two images of different classes are in *conflict* if their distance is at most ε: an "
            "adversary can make them equal, and whatever a classifier answers there is wrong for one of them. All "
            "conflicts together are the conflict graph; it grows with ε."
        )
        st.latex(
            r"\begin{gathered} L^*(\varepsilon) = \min_q \frac{1}{|V|}\sum_{v \in V} \log \frac{1}{q_v} \\ "
            r"0 \le q_v \le 1,\quad q_u + q_v \le 1 \text{ on every edge} \end{gathered}"
        )
        st.markdown(
            "The best any classifier can do is to share its confidence along the edges. The least loss, in nats, is 0 "
            "without conflicts and log 2 where nothing does better than guessing. Drawn over ε it is the curve of "
            "Explore, a lower bound there, since only conflicts that were found count; the points here are their own "
            "features."
        )
        epsilon = st.slider("Budget ε", 0.0, 1.5, 0.3, 0.05, key="budget", bind=BOUND)
        count = st.slider("Points a class", 3, 30, 12, key="points", bind=BOUND)
    first, second = toy.two_classes(int(count), seed=1)
    distances = np.linalg.norm(first[:, None] - second[None], axis=-1) / 2
    best = optimal_loss(distances <= epsilon)
    grid = np.linspace(0, 1.5, 151)
    with right:
        graph = learn.conflict_graph(
            first, second, distances <= epsilon, (best.left, best.right), float(epsilon), dark=screen.dark()
        )
        screen.show(graph, "graph", "strata-conflicts", f"Conflict graph of two classes at ε = {epsilon:g}")
        st.caption(
            "Each point with its ball of radius ε; a line joins points of different classes whose balls meet. The "
            "larger a point, the surer the best classifier is of its class."
        )
        count = int((distances <= epsilon).sum())
        st.markdown(
            f"{count} {'conflict' if count == 1 else 'conflicts'}, optimal loss **{best.cross_entropy:.4f}** nats."
        )
        curve = learn.loss_so_far(grid, loss_curve(distances, grid), float(epsilon), dark=screen.dark())
        screen.show(curve, "so_far", "strata-loss", "Optimal loss over the budget with the present one marked")
        st.caption("The optimal loss over the budget. The dot is the present ε, the dashed line log 2.")


main()
