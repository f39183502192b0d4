// Draws the plots of the report from the data beside it, and answers to menus and condition buttons.
(() => {
  "use strict";
  const {conditions, plots} = JSON.parse(document.getElementById("report-data").textContent);
  const hidden = new Set(); // places of the conditions switched off, in all plots at once
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const part = (kind, id) => document.querySelector(`${kind}[data-plot="${id}"]`);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const config = {
    responsive: true,
    displaylogo: false,
    // Named one by one: by default plotly offers to upload the chart.
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
    showSendToCloud: false,
    plotlyServerURL: "",
  };

  // The figure of a choice: the base with the keys in which the choice differs.
  function figure(id) {
    const {base, choices} = plots[id];
    const menus = [...document.querySelectorAll(`select[data-plot="${id}"]`)];
    const choice = choices[menus.map((menu) => menu.value).join("|")];
    const data = choice.traces || base.data.map((trace, i) => ({...trace, ...choice.data[i]}));
    return {data, layout: {...base.layout, ...choice.layout}};
  }

  function themed(layout) {
    const narrow = window.innerWidth < 640;
    const copy = JSON.parse(JSON.stringify(layout)); // plotly writes into what it gets
    delete copy.title; // the heading above says it
    copy.font = {color: css("--ink"), family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 12.5};
    copy.margin = {l: narrow ? 44 : 64, r: 16, t: copy.annotations ? 52 : 32, b: 44};
    copy.hoverlabel = {align: "left", bgcolor: css("--panel"), bordercolor: css("--rule"), font: {color: css("--ink")}};
    copy.modebar = {bgcolor: "rgba(0,0,0,0)", color: css("--quiet"), activecolor: css("--ink")};
    copy.showlegend = false;
    for (const [name, axis] of Object.entries(copy)) {
      if (/^[xy]axis\d*$/.test(name)) {
        Object.assign(axis, {gridcolor: css("--grid"), zerolinecolor: css("--rule"), linecolor: css("--rule")});
      }
    }
    return copy;
  }

  function draw(id) {
    const {data, layout} = figure(id);
    const shown = data.map((trace) => ({...trace, visible: !hidden.has(trace.legendgroup)}));
    for (const trace of shown) {
      if (trace.type === "bar") trace.error_x = {...trace.error_x, color: css("--ink")};
    }
    part(".note", id).textContent = layout.meta.note;
    rows(part(".rows", id), layout.meta);
    return Plotly.react(part(".canvas", id), shown, themed(layout), config);
  }

  // The numbers of the plot as a table, where it has one; its first column is the place of the condition.
  function rows(parent, meta) {
    parent.replaceChildren();
    const lines = (meta.rows || []).filter((line) => !hidden.has(line[0]));
    if (!lines.length) return;
    const table = document.createElement("table");
    const row = (section, cells, tag) => {
      const tr = section.insertRow();
      cells.forEach((text, i) => {
        const cell = document.createElement(i === 0 ? "th" : tag);
        cell.scope = tag === "th" ? "col" : "row";
        if (i > 0) cell.className = "number";
        cell.textContent = text;
        tr.append(cell);
      });
    };
    table.createCaption().textContent = meta.caption;
    row(table.createTHead(), meta.columns, "th");
    const body = table.createTBody();
    lines.forEach((line) => row(body, line.slice(1), "td"));
    parent.append(table);
  }

  function swatch(condition) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
    const paths = {
      circle: "M6 1a5 5 0 1 0 .01 0z",
      square: "M1.5 1.5h9v9h-9z",
      diamond: "M6 0l6 6-6 6-6-6z",
      "triangle-up": "M6 1l6 10H0z",
    };
    svg.setAttribute("width", "12");
    svg.setAttribute("height", "12");
    svg.setAttribute("aria-hidden", "true");
    shape.setAttribute("d", paths[condition.symbol]);
    shape.setAttribute("fill", condition.color);
    svg.append(shape);
    return svg;
  }

  function button(parent, text, action) {
    const element = document.createElement("button");
    element.type = "button";
    element.append(text);
    element.addEventListener("click", () => {
      action();
      refresh();
    });
    parent.append(element);
    return element;
  }

  // Only for plots whose traces belong to conditions; one condition leaves nothing to choose.
  function legend(id) {
    const switchable = plots[id].base.data.some((trace) => trace.legendgroup !== undefined);
    if (!switchable || conditions.length < 2) return;
    const parent = part(".legend", id);
    conditions.forEach((condition, i) => {
      const place = String(i);
      const toggle = () => (hidden.has(place) ? hidden.delete(place) : hidden.add(place));
      const element = button(parent, condition.name, toggle);
      element.prepend(swatch(condition));
      element.dataset.place = place;
    });
    button(parent, "show all", () => hidden.clear()).className = "all";
    button(parent, "hide all", () => conditions.forEach((_, i) => hidden.add(String(i)))).className = "all";
  }

  function refresh() {
    document.querySelectorAll(".legend button[data-place]").forEach((element) => {
      element.setAttribute("aria-pressed", String(!hidden.has(element.dataset.place)));
    });
    Object.keys(plots).forEach(draw);
  }

  Object.keys(plots).forEach(legend);
  document.querySelectorAll("select[data-plot]").forEach((menu) => {
    menu.addEventListener("change", () => draw(menu.dataset.plot));
  });
  dark.addEventListener("change", refresh);
  // Paper is white: print in light colours, whatever the screen shows.
  const printing = (on) => {
    document.documentElement.classList.toggle("printing", on);
    refresh();
  };
  window.addEventListener("beforeprint", () => printing(true));
  window.addEventListener("afterprint", () => printing(false));
  refresh();
})();
