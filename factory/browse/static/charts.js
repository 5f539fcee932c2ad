// Draws every .chart with Vega-Lite. Expressions are interpreted: the page forbids eval.
import { expressionInterpreter } from "vega-interpreter";

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function config() {
  const [text, soft, line] = [style("--text"), style("--soft"), style("--line")];
  return {
    background: null,
    font: "system-ui, sans-serif",
    view: { stroke: null },
    axis: { labelColor: soft, titleColor: soft, gridColor: line, domainColor: line, tickColor: line,
            labelFontSize: 11, titleFontSize: 11, titleFontWeight: 400 },
    legend: { labelColor: text, labelFontSize: 12, labelLimit: 260, symbolOpacity: 1 },
    range: { category: ["--kept", "--drop", "--good", "--mixed", "--only"].map(style) },
  };
}

async function draw(element) {
  const spec = JSON.parse(element.dataset.spec);
  element.textContent = "";
  const { view } = await vegaEmbed(element, spec, {
    mode: "vega-lite", ast: true, expr: expressionInterpreter, actions: false, renderer: "svg", defaultStyle: false,
    config: config(), tooltip: { disableDefaultStyle: true },
  });
  if (!element.dataset.at) return;
  view.addEventListener("click", (event, item) => {
    const datum = item && item.datum;
    if (!datum || datum.step === undefined) return;
    const query = new URLSearchParams({ run: datum.run, step: datum.step });
    htmx.ajax("GET", `${element.dataset.at}?${query}`, { target: "#rollouts", select: "#groups" })
      .then(() => document.querySelector("#rollouts").scrollIntoView({ block: "start" }));
  });
}

const all = (root) => root.querySelectorAll(".chart").forEach(draw);
all(document);
document.body.addEventListener("htmx:afterSettle", (event) => {
  if (event.target.id === "charts") all(event.target);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => all(document));
