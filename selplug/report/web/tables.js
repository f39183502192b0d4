// Tables: the numbers of a plot, all values of a layer, and columns that can be sorted.
const MINUS = /^[-+−–]?\s*[\d.]/;
const plain = (text) => String(text).replace(/<[^>]*>/g, "").replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
const short = (value) => (typeof value === "number" ? String(Number(value.toPrecision(4))) : (value ?? "–"));

function fill(parent, caption, columns, rows) {
  const table = document.createElement("table");
  const line = (section, cells, tag) => {
    const tr = section.insertRow();
    cells.forEach((text, i) => {
      const cell = document.createElement(i === 0 ? "th" : tag);
      if (cell.tagName === "TH") cell.scope = tag === "th" ? "col" : "row";
      if (i > 0) cell.className = "number";
      cell.textContent = text;
      tr.append(cell);
    });
  };
  table.createCaption().textContent = caption;
  line(table.createTHead(), columns, "th");
  const body = table.createTBody();
  rows.forEach((row) => line(body, row, "td"));
  parent.replaceChildren(table);
  sortable(table);
}

// What stands below a plot: rows that begin with the place of their condition, or columns by condition.
function facts(id, meta) {
  const parent = part(".rows", id);
  const rows = (meta.rows || []).filter(([place]) => chosen.shown.has(Number(place)));
  const wide = meta.columns_by_condition;
  const places = wide ? Object.keys(wide.columns).filter((place) => chosen.shown.has(Number(place))) : [];
  if (rows.length) fill(parent, meta.caption, meta.columns, rows.map((row) => row.slice(1)));
  else if (places.length) {
    const columns = [wide.head, ...places.map((place) => conditions[place].name)];
    fill(parent, wide.caption, columns, wide.labels.map((name, i) => [name, ...places.map((p) => short(wide.columns[p][i]))]));
  } else parent.replaceChildren();
  if (parent.firstChild) {
    parent.tabIndex = 0;
    parent.setAttribute("role", "region");
    parent.setAttribute("aria-label", parent.querySelector("caption").textContent);
  }
}

// Every number that a plot shows now.
function numbers(id) {
  const {data, layout} = drawn.get(id);
  const shown = data.filter(visible);
  const parent = one(".scroll", part(".numbers", id));
  const map = shown.find((trace) => trace.type === "heatmap");
  if (map) {
    fill(parent, plots[id].title, ["", ...map.x.map(plain)], map.y.map((name, i) => [plain(name), ...map.z[i].map(short)]));
    return;
  }
  const columns = shown.map((trace) => {
    const sideways = trace.orientation === "h";
    const [keys, values] = sideways ? [trace.y, trace.x] : [trace.x, trace.y];
    const error = trace.error_x || trace.error_y || {};
    const spread = (i) => {
      if (error.array?.[i] == null) return "";
      if (!error.arrayminus) return ` ± ${short(error.array[i])}`;
      return ` (${short(values[i] - error.arrayminus[i])} to ${short(values[i] + error.array[i])})`;
    };
    const dotted = trace.line?.dash ? `, ${layout.meta.dotted || "dotted"}` : "";
    const name = plain(trace.meta?.[0] ?? trace.name) + (trace.mode === "lines" && !dotted ? ", fitted" : dotted);
    return {name, cells: new Map(keys.map((key, i) => [key, short(values[i]) + spread(i)]))};
  });
  const keys = [...new Set(columns.flatMap((column) => [...column.cells.keys()]))];
  if (keys.every((key) => typeof key === "number")) keys.sort((a, b) => a - b);
  if (layout.meta.row_height) {
    // A row per bar: their places are the categories.
    const rows = columns.map((column) => [column.name, [...column.cells.values()][0]]);
    fill(parent, plots[id].title, ["condition", plain(layout.xaxis.title.text)], rows);
    return;
  }
  const head = plain(layout.xaxis.title?.text ?? "");
  const rows = keys.map((key) => [plain(key), ...columns.map((column) => column.cells.get(key) ?? "–")]);
  fill(parent, plots[id].title, [head, ...columns.map((column) => column.name)], rows);
}

// All that was measured of the layer chosen: a row per value, a column per condition.
async function layerValues() {
  const rows = [];
  const places = [...chosen.shown].sort((a, b) => a - b);
  for (const id of Object.keys(plots)) {
    if (id === "overview") continue;
    const [first, ...others] = all(`[data-menu][data-plot="${id}"]`);
    for (const option of first?.options || [{value: "", text: ""}]) {
      const choice = first ? [option.value, ...others.map((menu) => menu.value)].join("|") : "";
      if (first?.dataset.shared) continue;
      const {data, layout} = await figure(id, choice);
      if (layout.meta.pick?.x !== "layer") continue;
      const title = plots[id].title.replace(" over depth", "") + (option.text ? `: ${option.text}` : "");
      for (const [suffix, fits] of [
        ["", (trace) => trace.yaxis !== "y2" && !trace.line.dash],
        [`, ${layout.meta.dotted}`, (trace) => trace.line.dash],
        [", of the difference perturbed − clean", (trace) => trace.yaxis === "y2"],
      ]) {
        const found = new Map(data.filter(fits).map((trace) => [Number(trace.legendgroup), trace]));
        const values = places.map((place) => found.get(place)?.y[chosen.layer]);
        const spread = (i) => found.get(places[i])?.error_y?.array?.[chosen.layer];
        if (values.every((value) => value == null)) continue;
        rows.push([title + suffix, ...values.map((v, i) => short(v) + (spread(i) == null ? "" : ` ± ${short(spread(i))}`))]);
      }
    }
  }
  one("#layer-name").textContent = layers.length ? `: ${layerPicker.selectedOptions[0].text}` : "";
  fill(one("#layer-values"), "All values of the layer", ["value", ...places.map((place) => conditions[place].name)], rows);
}

// Heads become buttons: up, down, and as it was.
function sortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  if (original.length < 3) return;
  const heads = [...table.tHead.rows[0].cells];
  const number = (text) => (MINUS.test(text) ? parseFloat(text.replace("−", "-").replace(/^\+/, "")) : NaN);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = {ascending: "descending", descending: ""}[head.ariaSort] ?? "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (!next) {
        body.append(...original);
        return;
      }
      head.setAttribute("aria-sort", next);
      const cells = original.map((row) => row.cells[column].textContent.trim());
      const numeric = head.classList.contains("number");
      const sign = next === "ascending" ? 1 : -1;
      const order = original.map((_, i) => i).sort((a, b) => {
        if (!numeric) return sign * cells[a].localeCompare(cells[b], undefined, {numeric: true});
        const [x, y] = [number(cells[a]), number(cells[b])];
        return Number.isNaN(x) || Number.isNaN(y) ? Number.isNaN(x) - Number.isNaN(y) : sign * (x - y);
      });
      body.append(...order.map((i) => original[i]));
    });
  });
}
