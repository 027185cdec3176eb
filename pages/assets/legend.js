// Legends and zooms of the figures, with the keyboard too and kept when a figure is drawn anew: the browser's part.
//
// Streamlit names a figure by a hash of all it shows, so whenever that changes (a budget moves, an audit goes on) it
// throws the figure away and makes a new one, and what the reader had hidden by the legend or zoomed into is lost.
// Here it is noted, by the figure's key, and done again to the new figure while the question is the same: the address
// without the words that only say what is drawn of it. Streamlit gives a new figure to plotly more than once, each time
// as the server made it, hence `plotly_react`. plotly's legend also knows nothing of the keyboard, so its entries become
// buttons; and its bar lies over the legend, so it moves to the bottom (but where the legend is there).
{
  const drawing = ["at", "single", "input", "bars", "attacks", "gap", "layer", "projection", "pair", "relative", "minus"];
  const kept = {};  // by figure: the question, the names that are hidden, and the ranges of its axes
  let focused = "";  // the figure and the entry at which the keyboard is
  const figure = (plot) => plot.closest("[class*=st-key-figure_]")?.className.match(/st-key-figure_\S+/)[0];
  const entry = (trace) => trace.legendgroup || trace.name;
  const traceOf = (toggle) => toggle.parentNode.__data__[0].trace;
  const place = (toggle) => `${figure(toggle)} ${entry(traceOf(toggle))}`;
  const asked = () => {
    const query = new URLSearchParams(location.search);
    // Explore's and Compare's axes mean other things by these two words, so that a zoom is another one too.
    const axes = query.get("relative") + query.get("minus");
    for (const word of drawing) query.delete(word);
    query.sort();
    return { question: `${location.pathname}?${query}`, axes };
  };
  const memory = (plot) => {
    const { question, axes } = asked(), name = figure(plot);
    if (kept[name]?.question !== question) kept[name] = { question, hidden: new Set(), zooms: {} };
    const { hidden, zooms } = kept[name];
    return { hidden, zoom: zooms[axes] ??= {} };
  };
  const hid = (plot) => {
    const { hidden } = memory(plot);
    for (const trace of plot._fullData)
      if (trace.visible === "legendonly") hidden.add(entry(trace)); else hidden.delete(entry(trace));
  };
  const zoomed = (plot, changes) => {
    const { zoom } = memory(plot);
    for (const change of Object.keys(changes)) {
      const [, axis, end] = change.match(/^([xy]axis\d*)\.(?:auto)?range(\[)?/) ?? [];
      if (end) zoom[axis] = [...plot._fullLayout[axis].range];
      else delete zoom[axis];  // a whole range or an automatic one is plotly's way back
    }
  };
  const again = (plot) => {
    const { hidden, zoom } = memory(plot), layout = plot._fullLayout;
    const wanted = (trace) => hidden.has(entry(trace)) ? "legendonly" : true;
    const traces = plot._fullData.filter((trace) => trace.visible && trace.visible !== wanted(trace));
    if (traces.length)
      Plotly.restyle(plot, { visible: traces.map(wanted) }, traces.map((trace) => trace.index));
    const axes = Object.entries(zoom).filter(([axis, range]) => layout[axis] && `${layout[axis].range}` !== `${range}`);
    const ends = axes.flatMap(([axis, range]) => range.map((end, side) => [`${axis}.range[${side}]`, end]));
    if (ends.length) Plotly.relayout(plot, Object.fromEntries(ends));
  };
  const equip = (plot) => {
    for (const toggle of plot.querySelectorAll(".legendtoggle")) {
      toggle.tabIndex = 0;
      toggle.role = "button";
      toggle.ariaLabel = toggle.parentNode.querySelector(".legendtext").textContent;
      toggle.ariaPressed = traceOf(toggle).visible === true;
    }
  };
  // Streamlit keeps a figure that is replaced as long as the keyboard is in it, beside the new one; and a figure that
  // goes takes the keyboard with it. Either way it goes to the same entry of the new figure.
  const leaving = (toggle) => toggle.closest("[data-retained]");
  const refocus = () => {
    const at = document.activeElement;
    if (!focused || (at?.matches(".legendtoggle") && !leaving(at))) return;
    for (const toggle of document.querySelectorAll(".legendtoggle"))
      if (!leaving(toggle) && place(toggle) === focused) toggle.focus({ preventScroll: true });
  };
  const met = new WeakSet();
  new MutationObserver(() => {
    for (const plot of document.querySelectorAll(".js-plotly-plot")) {
      if (met.has(plot) || !plot._fullData || !figure(plot)) continue;
      met.add(plot);
      plot.on("plotly_restyle", () => hid(plot));
      plot.on("plotly_relayout", (changes) => zoomed(plot, changes));
      plot.on("plotly_react", () => again(plot));
      plot.on("plotly_afterplot", () => { equip(plot); refocus(); });  // an entry takes the focus once it is a button
      again(plot);
      equip(plot);
    }
    refocus();
  }).observe(document.body, { childList: true, subtree: true });
  setInterval(refocus, 200);  // a figure may be hidden while it is made, and takes no focus then
  const look = (event) => {
    const toggle = event.target.closest?.(".legendtoggle");
    focused = toggle ? place(toggle) : "";
  };
  document.addEventListener("focusin", look);
  document.addEventListener("pointerdown", look);
  document.addEventListener("keydown", (event) => {
    const toggle = event.target.closest?.(".legendtoggle");
    if (!toggle || !["Enter", " "].includes(event.key) || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    if (event.repeat) return;
    const plot = toggle.closest(".js-plotly-plot"), pressed = traceOf(toggle);
    const group = plot._fullData.filter((trace) => entry(trace) === entry(pressed)).map((trace) => trace.index);
    Plotly.restyle(plot, { visible: pressed.visible === true ? "legendonly" : true }, group);
  });
}
