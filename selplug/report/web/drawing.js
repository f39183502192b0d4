// Draws a plot when it comes into view, the others when there is nothing else to do.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const config = {
  responsive: true,
  displaylogo: false,
  // Named one by one: by default plotly offers to upload the chart.
  modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
  showSendToCloud: false,
  plotlyServerURL: "",
};
const unpacked = new Map();
const drawn = new Map(); // id -> the figure drawn last, with all conditions
const VALUES = "layer-values"; // the table of one layer waits its turn like a plot
const waiting = new Set([...Object.keys(plots), ...(document.getElementById(VALUES) ? [VALUES] : [])]);
const inView = new Set();

// Large figures are stored deflated, as base64.
function unpack(key, stored) {
  if (typeof stored !== "string") return stored;
  if (!unpacked.has(key)) {
    const bytes = Uint8Array.from(atob(stored), (char) => char.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    unpacked.set(key, new Response(stream).json());
  }
  return unpacked.get(key);
}

const choiceOf = (id) => all(`[data-menu][data-plot="${id}"]`).map((menu) => menu.value).join("|");

// The figure of a choice: the base with the keys in which the choice differs.
async function figure(id, choice) {
  const base = await unpack(id, plots[id].base);
  const change = await unpack(`${id}|${choice}`, plots[id].choices[choice]);
  const data = change.traces || base.data.map((trace, i) => ({...trace, ...change.data[i]}));
  return {data, layout: {...base.layout, ...change.layout}};
}

const visible = (trace) => trace.legendgroup === undefined || chosen.shown.has(Number(trace.legendgroup));

function coloured(trace) {
  if (trace.legendgroup === undefined || !slots.size) return {...trace};
  const {color, symbol} = style(trace.legendgroup);
  const copy = {...trace};
  if (copy.line?.color) copy.line = {...copy.line, color};
  if (copy.marker) copy.marker = {...copy.marker, ...(copy.marker.color && {color}), ...(copy.marker.symbol && {symbol})};
  return copy;
}

function themed(layout, count) {
  const narrow = window.innerWidth < 640;
  const copy = structuredClone(layout); // plotly writes into what it gets
  delete copy.title; // the heading above says it
  copy.font = {color: css("--ink"), family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 12.5};
  copy.margin = {l: narrow ? 44 : 64, r: 16, t: copy.annotations ? 52 : 32, b: 44, ...layout.meta.margin};
  copy.hoverlabel = {align: "left", bgcolor: css("--panel"), bordercolor: css("--rule"), font: {color: css("--ink")}};
  copy.modebar = {bgcolor: "rgba(0,0,0,0)", color: css("--quiet"), activecolor: css("--ink")};
  copy.showlegend = false;
  for (const [name, axis] of Object.entries(copy)) {
    if (/^[xy]axis\d*$/.test(name)) {
      Object.assign(axis, {gridcolor: css("--grid"), zerolinecolor: css("--rule"), linecolor: css("--rule")});
    }
  }
  if (layout.meta.row_height) copy.height = 90 + layout.meta.row_height * count;
  if (layout.meta.pick?.x === "layer" && layers.length) {
    const edges = {type: "rect", yref: "paper", y0: 0, y1: 1, x0: chosen.layer - 0.5, x1: chosen.layer + 0.5};
    copy.shapes = [...(copy.shapes || []), {...edges, line: {color: css("--link"), width: 1.5}}];
  }
  return copy;
}

// At once, from what is at hand: for a change of conditions or colours, and before printing.
function paint(id) {
  const {data, layout} = drawn.get(id);
  const canvas = part(".canvas", id);
  const shown = data.filter(visible).map(coloured);
  for (const trace of shown) {
    if (trace.colorbar && window.innerWidth < 640) {
      const title = {...trace.colorbar.title, side: "top"};
      trace.colorbar = {...trace.colorbar, title, orientation: "h", y: 1, yanchor: "bottom", thickness: 10};
    }
    if (trace.type === "bar") trace.error_x = {...trace.error_x, color: css("--ink")};
  }
  part(".note", id).textContent = layout.meta.note;
  const first = !canvas.data;
  canvas.style.minHeight = ""; // which kept the place
  Plotly.react(canvas, shown, themed(layout, shown.length), config);
  if (first) canvas.on("plotly_click", ({points}) => pick(layout.meta.pick, points[0]));
  legend(id, data);
  facts(id, layout.meta);
  if (part(".numbers", id).open) numbers(id);
}

async function draw(id) {
  waiting.delete(id);
  if (id === VALUES) {
    await layerValues();
    return;
  }
  try {
    drawn.set(id, await figure(id, choiceOf(id)));
    paint(id);
  } catch (error) {
    part(".note", id).textContent = `This plot could not be drawn: ${error.message}`;
    throw error;
  }
}

const idle = () =>
  new Promise((resolve) => {
    // Not every browser has it, and a still page may wait for it for ever.
    if (window.requestIdleCallback) requestIdleCallback(resolve, {timeout: 100});
    else setTimeout(resolve, 30);
  });

// The section that the address names stays where it is while plots above it are drawn, until the reader moves.
let held = null;
function hold() {
  const [name, query] = location.hash.slice(1).split("?", 2);
  const section = document.getElementById(name);
  if (query) section?.scrollIntoView({behavior: "instant"}); // a browser does not know such an address
  held = waiting.size ? section : null;
}
for (const type of ["wheel", "touchmove", "pointerdown", "keydown"]) {
  window.addEventListener(type, () => (held = null), {passive: true});
}

let working = false;
async function work() {
  if (working) return;
  working = true;
  const urgent = () => [...waiting].find((id) => inView.has(id));
  try {
    while (waiting.size) {
      if (!urgent()) await idle();
      await draw(urgent() || waiting.values().next().value);
      held?.scrollIntoView({behavior: "instant"});
      document.documentElement.dataset.waiting = waiting.size;
    }
    held = null;
  } finally {
    working = false;
  }
}

function redraw(ids = Object.keys(plots)) {
  ids.forEach((id) => waiting.add(id));
  document.documentElement.dataset.waiting = waiting.size;
  work();
}

const watcher = new IntersectionObserver(
  (entries) => {
    for (const {target, isIntersecting} of entries) {
      if (isIntersecting) inView.add(target.dataset.plot);
      else inView.delete(target.dataset.plot);
    }
    work();
  },
  {rootMargin: "200px"},
);

// While a condition's button has the pointer or the focus, its lines stand out from the others.
function emphasize(place) {
  for (const id of inView) {
    if (!drawn.has(id)) continue;
    const canvas = part(".canvas", id);
    const groups = canvas.data?.map((trace) => trace.legendgroup) || [];
    if (!groups.some((group) => group !== undefined)) continue;
    const shown = drawn.get(id).data.filter(visible);
    const opacity = shown.map((trace) =>
      place === null || trace.legendgroup === undefined || Number(trace.legendgroup) === place
        ? (trace.opacity ?? 1)
        : 0.12,
    );
    Plotly.restyle(canvas, "opacity", opacity);
  }
}
