"""Points of a figure that a pointer drags: the browser's part of it, and where they were let go."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

# plotly's figures in Streamlit report clicks, not drags. The listeners stand on the page, since a figure is drawn anew
# while its point is dragged; places go through the figure's own axes. A new place is told at most every 120 ms, so the
# picture follows the pointer.
_SCRIPT = """
const NEAR = 20, PAUSE = 120;
let component = null, held = null, told = "", last = 0, later = null;
const figure = () => component && document.querySelector(`.st-key-${component.data.figure} .js-plotly-plot`);
const axes = (plot) => {
  const { xaxis, yaxis } = plot._fullLayout, box = plot.getBoundingClientRect();
  return { xaxis, yaxis, left: box.left + xaxis._offset, top: box.top + yaxis._offset };
};
const near = (event) => {
  const plot = figure();
  if (!plot || !plot._fullLayout || !plot.contains(event.target)) return null;
  const { xaxis, yaxis, left, top } = axes(plot);
  let best = null, least = NEAR;
  for (const [name, [x, y]] of Object.entries(component.data.points)) {
    const away = Math.hypot(left + xaxis.d2p(x) - event.clientX, top + yaxis.d2p(y) - event.clientY);
    if (away < least) { least = away; best = name; }
  }
  return best;
};
const place = (event) => {
  const plot = figure(), { reach, step } = component.data;
  const { xaxis, yaxis, left, top } = axes(plot);
  return [xaxis.p2d(event.clientX - left), yaxis.p2d(event.clientY - top)].map(
    (value) => Math.round(Math.min(Math.max(value, -reach), reach) / step) * step);
};
const tell = (name, at) => {
  clearTimeout(later);
  const now = JSON.stringify([name, at]);
  if (!component || now === told) return;
  const wait = last + PAUSE - Date.now();
  if (wait > 0) { later = setTimeout(() => tell(name, at), wait); return; }
  told = now; last = Date.now();
  component.setTriggerValue("dragged", { name, x: at[0], y: at[1] });
};
const down = (event) => {
  if (event.button !== 0) return;
  held = near(event);
  if (held === null) return;
  told = "";
  event.preventDefault(); event.stopPropagation();
};
const move = (event) => {
  if (held !== null) {
    event.preventDefault(); event.stopPropagation();
    if (figure()) tell(held, place(event));
    return;
  }
  const plot = figure(), over = plot && plot.querySelector(".nsewdrag");
  if (over && plot.contains(event.target)) over.style.cursor = near(event) === null ? "" : "grab";
};
const up = (event) => {
  if (held === null) return;
  if (event.type === "pointerup" && figure()) tell(held, place(event));
  held = null;
};
// plotly listens to the mouse events of the same press, and would take it for a click on the plane.
const quiet = (event) => { if (held !== null) { event.preventDefault(); event.stopPropagation(); } };
const listeners = [["pointerdown", down], ["pointermove", move], ["pointerup", up], ["pointercancel", up],
  ["mousedown", quiet], ["touchstart", quiet]];
for (const [name, listener] of listeners) document.addEventListener(name, listener, { capture: true, passive: false });
export default function (mounted) {
  component = mounted;
  return () => { component = null; held = null; };
}
"""


def drag(
    figure: str,
    points: Mapping[str, tuple[float, float]],
    reach: float,
    step: float,
    moved: Callable[[str, float, float], None],
) -> None:
    """Let the pointer drag `points`, by name, in the figure shown with the key `figure`.

    Places go from -`reach` to `reach` in steps of `step`. `moved` is called with name, x and y before the screen is
    drawn again, so it may set widgets.
    """
    key = f"drag_{figure}"

    def told() -> None:
        at = st.session_state[key].dragged
        if at is not None:
            moved(at["name"], float(at["x"]), float(at["y"]))

    mount = st.components.v2.component("strata_drag", js=_SCRIPT)
    data = {"figure": f"figure_{figure}", "points": dict(points), "reach": reach, "step": step}
    mount(key=key, data=data, on_dragged_change=told, height=1)
