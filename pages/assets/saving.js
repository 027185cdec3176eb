// SVG and PNG from every figure's own bar, fit for a paper: the browser's part of saving.
//
// plotly's bar has one button, which saves a figure as it stands: without a background, with the letters of the screen
// (another program has other ones, and then cuts the legend), in the dark theme in colours that vanish on paper. When a
// figure is entered with the pointer or the keyboard, two buttons take its place. They save a copy on white, in a font
// that every machine has or replaces by one of equal widths; text that is too light for white (below 4.5:1) becomes
// dark, and lines and markers that are too light (below 3:1) keep their hue and become darker.
{
  const PAPER = "#ffffff", INK = "#1f2430", FONT = "Arial, Helvetica, sans-serif";
  const brush = document.createElement("canvas").getContext("2d");
  const channels = (colour) => {  // red, green, blue and opacity; nothing where the text is no colour
    brush.fillStyle = "#010203";
    brush.fillStyle = colour;
    const text = brush.fillStyle;
    if (text === "#010203") return null;
    if (text[0] !== "#") return text.match(/[\d.]+/g).map(Number);
    return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16)).concat(1);
  };
  const linear = (value) => value <= 10 ? value / 3295 : ((value / 255 + 0.055) / 1.055) ** 2.4;
  const coded = (light) => Math.round(255 * (light <= 0.0031 ? light * 12.92 : 1.055 * light ** (1 / 2.4) - 0.055));
  const darker = (colour, most, ink) => {
    const [opacity, ...lights] = channels(colour)?.reverse() ?? [0];
    if (!opacity) return colour;
    const [blue, green, red] = lights.map(linear);
    const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    if (luminance <= most) return colour;
    if (ink && luminance > 0.6) return ink;
    const share = most / luminance;
    return `rgba(${[red, green, blue].map((light) => coded(light * share)).join()},${opacity})`;
  };
  const forPaper = (part, name, text) => {  // `text`: whether this part is about letters
    if (typeof part === "string") {
      if (name === "family") return FONT;
      const coloured = /color(way|scale)?$/i.test(name) && !/bgcolor$/.test(name);
      return coloured ? darker(part, text ? 0.18 : 0.29, text ? INK : null) : part;
    }
    if (Array.isArray(part)) return part.map((one) => forPaper(one, name, text));
    if (!part || typeof part !== "object" || ArrayBuffer.isView(part)) return part;
    const shades = part.type === "heatmap" || part.contours?.coloring === "fill";  // their scale stands for numbers
    return Object.fromEntries(Object.entries(part).map(([key, value]) => [
      key, shades && key === "colorscale" ? value : forPaper(value, key, text || /font$/.test(key)),
    ]));
  };
  const save = (plot, format) => {
    const { data, layout } = forPaper({ data: plot.data, layout: plot.layout }, "", false);
    layout.paper_bgcolor = PAPER;
    layout.font = { ...layout.font, family: FONT };
    const { width, height } = plot._fullLayout;
    window.Plotly.downloadImage({ data, layout }, { ...plot._context.toImageButtonOptions, width, height, format });
  };
  const equip = (event) => {
    const plot = event.target.closest?.(".js-plotly-plot");
    const button = plot?.querySelector(".modebar-btn[aria-label='Download plot']");
    if (!button || !window.Plotly) return;
    button.replaceWith(...["SVG", "PNG"].map((format) => {
      const one = button.cloneNode();
      one.classList.add("save");
      one.textContent = format;
      one.dataset.title = one.ariaLabel = `Save the figure as ${format}`;
      one.onclick = () => save(plot, format.toLowerCase());
      return one;
    }));
  };
  document.addEventListener("pointerover", equip);
  document.addEventListener("focusin", equip);
}
