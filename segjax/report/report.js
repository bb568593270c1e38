// A class: examples by its own score, and where it was found, missed and wrongly found.
const SHADES = {found: [0, 114, 178], missed: [230, 159, 0], wrong: [204, 121, 167], rest: [205, 209, 214]};
function pixels(image) {
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0);
  return [canvas, pen, pen.getImageData(0, 0, canvas.width, canvas.height)];
}
function judge(card, shade, unknown) {
  const find = what => card.querySelector(`figure[data-what="${what}"] img`);
  const error = find("error"), truth = find("truth"), prediction = find("prediction");
  if (!error || !truth || !prediction) return;
  error.dataset.all ??= error.src;
  if (!shade) { error.src = error.dataset.all; return; }
  const [canvas, pen, seen] = pixels(truth), [, , said] = pixels(prediction);
  for (let at = 0; at < seen.data.length; at += 4) {
    const is = (data, own) => own.every((value, channel) => data[at + channel] === value);
    if (is(seen.data, unknown)) continue;  // void is not judged
    const t = is(seen.data, shade), p = is(said.data, shade);
    const own = t && p ? SHADES.found : t ? SHADES.missed : p ? SHADES.wrong : SHADES.rest;
    own.forEach((value, channel) => { seen.data[at + channel] = value; });
  }
  pen.putImageData(seen, 0, 0);
  error.src = canvas.toDataURL();
}
for (const part of document.querySelectorAll("section.split")) {
  const choice = part.querySelector("select.switch");
  if (!choice) continue;
  const cards = [...part.querySelectorAll("section.card")], box = part.querySelector(".cards");
  const colours = part.dataset.colours ? JSON.parse(part.dataset.colours) : null;
  const key = part.querySelector(".key");
  for (const card of cards) card.dataset.text = card.querySelector(".score").textContent;
  choice.addEventListener("change", () => {
    const number = choice.value === "" ? -1 : Number(choice.value);
    const value = card => number < 0 ? null : JSON.parse(card.dataset.scores)[number];
    const order = number < 0 ? cards : [...cards].sort((one, other) => (value(one) ?? 2) - (value(other) ?? 2));
    box.append(...order);
    for (const card of cards) {
      const own = value(card), name = choice.selectedOptions[0].textContent;
      const text = card.querySelector(".score");
      text.textContent = number < 0 ? card.dataset.text : `${name} ${own === null ? "–" : own.toFixed(3)}`;
      if (colours) judge(card, number < 0 ? null : colours.classes[number], colours.void);
    }
    if (key) key.hidden = number < 0;
  });
}
for (const button of document.querySelectorAll("button.turn")) {
  button.addEventListener("click", () => {
    const matrix = button.closest(".confusion").querySelector(".matrix");
    const predicted = matrix.classList.toggle("predicted");
    matrix.classList.toggle("true", !predicted);
    button.setAttribute("aria-pressed", predicted);
  });
}
