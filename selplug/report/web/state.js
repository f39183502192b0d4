// What is chosen: conditions, a layer, and menus. It is kept in the address, so that a view can be bookmarked.
const {conditions, plots} = JSON.parse(document.getElementById("report-data").textContent);
const all = (selector, parent = document) => [...parent.querySelectorAll(selector)];
const one = (selector, parent = document) => parent.querySelector(selector);
const part = (kind, id) => one(`${kind}[data-plot="${id}"]`);
const menus = () => all("select[data-menu], #sample-picker");
const layerPicker = one("#layer-picker");
const layers = layerPicker ? [...layerPicker.options].map((option) => option.dataset.name) : [];
const presets = all("#preset option[data-places]").map((option) => option.dataset.places.split(" ").map(Number));
const everything = conditions.map((_, place) => place);
const COLORS = 10; // so many conditions have colours of their own
const chosen = {layer: 0, shown: new Set(presets[0] || everything)};
const slots = new Map(); // place of a condition -> place of the condition whose colour it has
let listed = [...chosen.shown]; // conditions that have a button below the plots

// With many conditions those shown share out the colours; one keeps its own as long as it is shown.
function colours() {
  if (conditions.length <= COLORS) return;
  for (const place of slots.keys()) if (!listed.includes(place)) slots.delete(place);
  const taken = new Set(slots.values());
  for (const place of listed) {
    if (slots.has(place)) continue;
    let slot = 0;
    while (taken.has(slot)) slot += 1;
    taken.add(slot);
    slots.set(place, slot);
  }
}
const style = (place) => conditions[slots.get(Number(place)) ?? Number(place)];

function show(places, relist = true) {
  chosen.shown = new Set(places);
  if (conditions.length <= COLORS) listed = everything;
  else if (relist) listed = [...chosen.shown];
  colours();
}

const same = (places, set) => places.length === set.size && places.every((place) => set.has(place));

// "#section?layer=...&condition=...": what differs from the state at the start.
function remember() {
  const query = new URLSearchParams();
  if (chosen.layer) query.set("layer", layers[chosen.layer]);
  if (chosen.shown.size === conditions.length && !same(presets[0] || everything, chosen.shown)) {
    query.set("conditions", "all");
  } else if (!same(presets[0] || everything, chosen.shown)) {
    query.set("conditions", "");
    for (const place of chosen.shown) query.append("condition", conditions[place].name);
  }
  for (const menu of menus()) if (menu.selectedIndex > 0) query.set(menu.id, menu.value);
  const section = location.hash.slice(1).split("?")[0];
  const hash = section + (query.size ? `?${query}` : "");
  if (hash !== location.hash.slice(1)) history.replaceState(null, "", `#${hash}`);
}

// Takes over what the address says; names that this report does not have are passed over.
function recall() {
  const query = new URLSearchParams(location.hash.split("?", 2)[1]);
  chosen.layer = Math.max(0, layers.indexOf(query.get("layer")));
  if (query.get("conditions") === "all") show(everything);
  else if (query.has("conditions")) {
    const names = conditions.map((condition) => condition.name);
    show(query.getAll("condition").map((name) => names.indexOf(name)).filter((place) => place >= 0));
  } else show(presets[0] || everything);
  for (const menu of menus()) {
    menu.value = query.get(menu.id) ?? menu.options[0].value;
    if (menu.selectedIndex < 0) menu.selectedIndex = 0;
  }
}
