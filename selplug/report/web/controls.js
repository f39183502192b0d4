// What readers can operate: conditions, the layer, samples, definitions. Everything answers to the keyboard.
const PATHS = {
  circle: "M6 1a5 5 0 1 0 .01 0z",
  square: "M1.5 1.5h9v9h-9z",
  diamond: "M6 0l6 6-6 6-6-6z",
  "triangle-up": "M6 1l6 10H0z",
};

function swatch(place) {
  const {color, symbol} = style(place);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("width", "12");
  svg.setAttribute("height", "12");
  svg.setAttribute("aria-hidden", "true");
  shape.setAttribute("d", PATHS[symbol]);
  shape.setAttribute("fill", color);
  svg.append(shape);
  return svg;
}

function button(parent, text, action) {
  const element = document.createElement("button");
  element.type = "button";
  element.append(text);
  element.addEventListener("click", action);
  parent.append(element);
  return element;
}

// Only for plots whose traces belong to conditions; one condition leaves nothing to choose.
function legend(id, data) {
  if (!data.some((trace) => trace.legendgroup !== undefined) || conditions.length < 2) return;
  const parent = part(".legend", id);
  const wanted = listed.join(" ");
  if (parent.dataset.listed !== wanted) {
    parent.dataset.listed = wanted;
    parent.replaceChildren();
    for (const place of listed) {
      const element = button(parent, conditions[place].name, () => {
        const shown = new Set(chosen.shown);
        if (!shown.delete(place)) shown.add(place);
        select([...shown], false);
      });
      element.prepend(swatch(place));
      element.dataset.place = place;
      for (const event of ["pointerenter", "focus"]) element.addEventListener(event, () => emphasize(place));
      for (const event of ["pointerleave", "blur"]) element.addEventListener(event, () => emphasize(null));
    }
    button(parent, "show all", () => select(listed, false)).className = "all";
    button(parent, "hide all", () => select([], false)).className = "all";
  }
  for (const element of all("[data-place]", parent)) {
    element.setAttribute("aria-pressed", String(chosen.shown.has(Number(element.dataset.place))));
  }
}

// Other conditions: what is drawn already needs no more than another coat of paint.
function select(places, relist = true) {
  show(places, relist);
  settle();
  for (const id of drawn.keys()) {
    if (inView.has(id)) paint(id);
    else waiting.add(id);
  }
  redraw([]);
}

function goTo(layer) {
  chosen.layer = Math.min(Math.max(layer, 0), layers.length - 1);
  settle();
  say(`layer ${layerPicker.selectedOptions[0].text}`);
  redraw(Object.keys(plots).filter((id) => one(`[data-shared][data-plot="${id}"]`) || marksLayer(id)));
}
const marksLayer = (id) => drawn.get(id)?.layout.meta.pick?.x === "layer";

// A click into a plot over layers, or into the map of layers and conditions.
function pick(axes, point) {
  if (!axes) return;
  const [row, column] = [point.pointNumber].flat().length > 1 ? point.pointNumber : [null, point.pointNumber];
  if (axes.y === "condition" && !chosen.shown.has(row)) select([...chosen.shown, row]);
  if (layers.length) goTo(column);
  if (axes.y === "condition") say(`condition ${conditions[row].name}, layer ${layers[column] ?? "1"}`);
}

function say(text) {
  const status = one("#status");
  if (status) status.textContent = text;
}

// All controls show what is chosen.
function settle() {
  for (const input of all("[data-shared=layer]")) input.value = chosen.layer;
  if (layerPicker) {
    layerPicker.selectedIndex = chosen.layer;
    one("[data-step='-1']").disabled = chosen.layer === 0;
    one("[data-step='1']").disabled = chosen.layer === layers.length - 1;
  }
  const count = one("#shown-count");
  if (count) {
    count.textContent = `${chosen.shown.size} of ${conditions.length}`;
    for (const box of all(".picker [data-place]")) box.checked = chosen.shown.has(Number(box.dataset.place));
    for (const group of all(".picker [data-group]")) {
      const boxes = all("[data-place]", group);
      const ticked = boxes.filter((box) => box.checked).length;
      const whole = one("[data-all]", group);
      if (whole) Object.assign(whole, {checked: ticked === boxes.length, indeterminate: ticked % boxes.length > 0});
    }
    const preset = presets.findIndex((places) => same(places, chosen.shown));
    one("#preset").value = preset < 0 ? "own" : String(preset);
  }
  for (const row of all(".gallery tr[data-place]")) {
    // Clean images stay: the others are to be seen beside them.
    row.hidden = row.dataset.place !== "0" && !chosen.shown.has(Number(row.dataset.place));
  }
  const sample = one("#sample-picker")?.value;
  for (const row of all(".gallery tr")) {
    [...row.cells].forEach((cell, i) => (cell.hidden = i > 0 && Boolean(sample) && String(i) !== sample));
  }
  if (one("#layer-values")) waiting.add(VALUES);
  remember();
}

function wire() {
  const controls = one(".controls");
  if (controls) controls.hidden = false;
  layerPicker?.addEventListener("change", () => goTo(layerPicker.selectedIndex));
  for (const step of all("[data-step]")) {
    step.addEventListener("click", () => goTo(chosen.layer + Number(step.dataset.step)));
  }
  one("#preset")?.addEventListener("change", ({target}) => {
    if (target.value !== "own") select(presets[Number(target.value)]);
  });
  const picker = one(".picker");
  picker?.addEventListener("change", ({target}) => {
    const boxes = target.matches("[data-all]") ? all("[data-place]", target.closest("[data-group]")) : [];
    for (const box of boxes) if (!box.closest("label").hidden) box.checked = target.checked;
    if (target.matches("[type=checkbox]")) {
      select(all("[data-place]", picker).filter((box) => box.checked).map((box) => Number(box.dataset.place)));
    }
  });
  picker?.addEventListener("keydown", ({key}) => {
    if (key !== "Escape") return;
    picker.open = false;
    one("summary", picker).focus();
  });
  one("#condition-filter")?.addEventListener("input", ({target}) => {
    const wanted = target.value.trim().toLowerCase();
    for (const group of all("[data-group]", picker)) {
      const inGroup = one("legend", group).textContent.toLowerCase().includes(wanted);
      const labels = all("label[data-name]", group);
      for (const label of labels) label.hidden = !inGroup && !label.dataset.name.toLowerCase().includes(wanted);
      group.hidden = labels.every((label) => label.hidden);
    }
  });
  for (const menu of all("select[data-menu]")) {
    menu.addEventListener("change", () => {
      redraw([menu.dataset.plot]);
      settle();
    });
  }
  one("#sample-picker")?.addEventListener("change", settle);
  for (const details of all(".numbers")) {
    details.addEventListener("toggle", () => details.open && drawn.has(details.dataset.plot) && numbers(details.dataset.plot));
  }
  all("a.definition").forEach(define);
  all("table.sortable").forEach(sortable);
}

// A definition opens where it is asked for; without a script the link leads to it.
function define(link) {
  link.setAttribute("aria-haspopup", "dialog");
  link.addEventListener("click", (event) => {
    const source = document.getElementById(link.hash.slice(1));
    if (!source || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const dialog = document.createElement("dialog");
    const copy = source.cloneNode(true);
    for (const element of [copy, ...all("[id]", copy)]) element.removeAttribute("id");
    dialog.append(copy);
    dialog.setAttribute("aria-label", one("h3", copy)?.textContent ?? "Definition");
    button(dialog, "close", () => dialog.close());
    dialog.addEventListener("close", () => {
      dialog.remove();
      link.focus();
    });
    dialog.addEventListener("click", ({target}) => target === dialog && dialog.close());
    document.body.append(dialog);
    dialog.showModal();
  });
}
