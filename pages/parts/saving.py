"""SVG and PNG from every figure's own bar: the browser's part of saving."""

from __future__ import annotations

# plotly's bar has one button, for one format. When a figure is entered with the pointer or the keyboard, that button
# is named after its format and gets a neighbour for the other one.
SCRIPT = """<style>
.modebar:focus-within { opacity: 1 !important; }
.modebar-btn.save { font: 600 11px/22px system-ui, sans-serif !important; color: #fff !important; }
</style>
<script>
if (!window.strataSaves) {
  window.strataSaves = true;
  const name = (button, format) => {
    const words = `Save the figure as ${format}`;
    button.classList.add("save");
    button.textContent = format;
    button.dataset.title = words;
    button.ariaLabel = words;
  };
  const equip = (event) => {
    const plot = event.target.closest?.(".js-plotly-plot");
    const svg = plot?.querySelector(".modebar-btn[aria-label='Download plot']");
    if (!svg) return;
    const png = svg.cloneNode();
    name(svg, "SVG");
    name(png, "PNG");
    png.onclick = () => {
      const options = plot._context.toImageButtonOptions;
      options.format = "png";
      svg.click();
      options.format = "svg";
    };
    svg.after(png);
  };
  document.addEventListener("pointerover", equip);
  document.addEventListener("focusin", equip);
}
</script>"""
