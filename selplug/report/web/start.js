// Everything is known: take over the address, show it, and keep to the reader's colours.
recall();
wire();
settle();
hold();
document.documentElement.dataset.waiting = waiting.size;
all(".canvas, #layer-values").forEach((canvas) => watcher.observe(canvas));
window.addEventListener("hashchange", () => {
  if (location.hash.includes("?")) {
    recall();
    settle();
    redraw();
  } else remember();
  hold();
});
const repaint = () => [...drawn.keys()].forEach(paint);
dark.addEventListener("change", repaint);
// Paper is white: print in light colours, whatever the screen shows.
const printing = (on) => {
  document.documentElement.classList.toggle("printing", on);
  repaint();
};
window.addEventListener("beforeprint", () => printing(true));
window.addEventListener("afterprint", () => printing(false));
