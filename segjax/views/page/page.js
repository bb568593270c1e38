"use strict";
// Tables are sorted by their heads: numbers as such, what is missing last either way.
function sortBy(table, column, descending) {
  const body = table.tBodies[0], sign = descending ? -1 : 1;
  const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const compare = (one, other) => {
    const a = value(one), b = value(other);
    if (a === "" || b === "") return (a === "") - (b === "");
    const numbers = !isNaN(a) && !isNaN(b);
    return sign * (numbers ? a - b : a.localeCompare(b, undefined, {numeric: true}));
  };
  body.append(...[...body.rows].sort(compare));
  for (const [place, head] of [...table.tHead.rows[0].cells].entries()) {
    if (place === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
}
for (const table of document.querySelectorAll("table.sortable")) {
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    // Scores are looked at from the best or the worst: a number's first click shows the largest.
    button.addEventListener("click", () => {
      const cell = table.tBodies[0].rows[0]?.cells[column];
      const number = cell && cell.dataset.value !== "" && !isNaN(cell.dataset.value ?? "x");
      const now = head.getAttribute("aria-sort");
      sortBy(table, column, now ? now === "ascending" : number);
    });
  }
}
// The pictures of a row are enlarged in place, so that one can be looked at after the other.
const viewer = (() => {
  const dialog = document.createElement("dialog");
  dialog.className = "viewer";
  dialog.innerHTML = '<div class="bar"><span class="tabs"></span>' +
    '<button type="button" class="plain" data-by="2" aria-label="larger">+</button>' +
    '<button type="button" class="plain" data-by="0.5" aria-label="smaller">−</button>' +
    '<button type="button" class="plain" data-close>Close</button></div>' +
    '<div class="stage"><img alt=""></div>';
  document.body.append(dialog);
  const image = dialog.querySelector("img"), tabs = dialog.querySelector(".tabs");
  const stage = dialog.querySelector(".stage");
  let shown = [], place = 0, scale = 1;
  function size() { image.style.width = `${Math.round(image.naturalWidth * scale)}px`; }
  function show(number) {
    place = (number + shown.length) % shown.length;
    const left = stage.scrollLeft, top = stage.scrollTop;
    image.src = shown[place].src;
    image.alt = shown[place].alt;
    [...tabs.children].forEach((tab, own) => tab.setAttribute("aria-pressed", own === place));
    image.decode().then(() => { size(); stage.scrollTo(left, top); }, () => {});
  }
  function zoom(by) {
    scale = Math.min(32, Math.max(0.125, scale * by));
    size();
  }
  function open(button) {
    shown = [...button.closest(".pictures").querySelectorAll("button.zoom img")];
    tabs.replaceChildren(...shown.map((each, number) => {
      const tab = document.createElement("button");
      tab.type = "button";
      tab.className = "plain";
      tab.textContent = each.closest("figure").dataset.what;
      tab.addEventListener("click", () => show(number));
      return tab;
    }));
    dialog.showModal();
    const own = button.querySelector("img");
    const fit = Math.min(stage.clientWidth / own.naturalWidth, stage.clientHeight / own.naturalHeight);
    scale = fit > 1 ? Math.max(1, Math.floor(fit)) : fit;
    show(shown.indexOf(own));
  }
  dialog.addEventListener("click", event => {
    const button = event.target.closest("button");
    if (button?.dataset.by) zoom(Number(button.dataset.by));
    else if (button && "close" in button.dataset) dialog.close();
  });
  dialog.addEventListener("keydown", event => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key], by = {"+": 2, "-": 0.5}[event.key];
    if (step) show(place + step);
    else if (by) zoom(by);
    else return;
    event.preventDefault();
  });
  return {open};
})();
document.addEventListener("click", event => {
  const button = event.target.closest("button.zoom");
  if (button) viewer.open(button);
});
window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
