"use strict";

// One image at a time: what the model says, and what somebody made of it.
const VOID = 255;
const UNDOS = 20;
const $ = (id) => document.getElementById(id);
let model = null;
let now = null; // {file, height, width, predicted, label, request, undo}
let chosen = 0; // the class that is painted

class Failed extends Error {}

async function ask(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Failed("The server does not answer.");
  }
  if (answer.status === 401) $("login").hidden = false;
  const found = await answer.json().catch(() => null);
  if (!answer.ok) throw new Failed(found?.error?.message ?? `The server says ${answer.status}.`);
  return found;
}

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").className = isError ? "error" : "";
}

async function trying(work) {
  try {
    return await work();
  } catch (error) {
    say(error instanceof Failed ? error.message : `This page failed: ${error.message}`, true);
    return null;
  }
}

async function start() {
  const found = await ask("v1/models");
  $("login").hidden = true;
  model = found.models[0];
  $("model").textContent = `${model.name}, step ${model.step}`;
  $("file").accept = model.endings.join(",");
  $("unsurely").hidden = !model.include.includes("uncertainty");
  $("correct").hidden = !model.feedback;
  $("painting").hidden = model.finds === "classes that overlap";
  if (model.axes !== 2) throw new Failed(`This page shows pictures; the model takes ${model.axes} axes.`);
  say("Ready.");
}

// The inverse of COCO's string: five bits a character, from the fourth run on what each adds.
function runsOf(text) {
  const runs = [];
  let value = 0, shift = 0;
  for (let at = 0; at < text.length; at++) {
    const digit = text.charCodeAt(at) - 48;
    value += (digit & 31) * 2 ** shift;
    shift += 5;
    if (digit & 32) continue;
    if (digit & 16) value -= 2 ** shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
    value = shift = 0;
  }
  return runs;
}

// Runs go down the columns, one after the other.
function fill(label, { size: [height, width], counts }, value) {
  let place = 0;
  runsOf(counts).forEach((run, number) => {
    for (let end = place + run; place < end; place++) {
      if (number % 2) label[(place % height) * width + Math.floor(place / height)] = value;
    }
  });
}

async function pictureOf(file, width, height) {
  for (const imageOrientation of ["from-image", "none"]) {
    const picture = await createImageBitmap(file, { imageOrientation }).catch(() => null);
    if (picture?.width === width && picture.height === height) return picture;
  }
  return null; // a format that no browser shows
}

async function predict(file) {
  say(`Segmenting ${file.name}…`);
  const form = new FormData();
  form.append("image", file, file.name);
  const include = ["rle", ...(model.include.includes("uncertainty") ? ["uncertainty"] : [])];
  const found = await ask(`v1/predict?format=json&include=${include}`, { method: "POST", body: form });
  const [height, width] = found.size;
  const predicted = new Uint8Array(height * width).fill(VOID);
  for (const each of found.classes) fill(predicted, each.rle, each.number);
  now = { file, height, width, predicted, label: predicted.slice(), request: found.request, undo: [] };
  for (const id of ["image", "mask", "unsure"]) Object.assign($(id), { width, height });
  const picture = await pictureOf(file, width, height);
  if (picture) $("image").getContext("2d").drawImage(picture, 0, 0);
  await drawUncertainty(found.uncertainty);
  $("drop").hidden = true;
  $("frame").hidden = $("side").hidden = false;
  $("flagged").checked = false;
  $("note").value = $("sent").textContent = "";
  $("size").value = Math.max(2, Math.round(Math.min(width, height) / 20));
  listClasses();
  zoom();
  draw(0, 0, width, height);
  say(`${file.name}: ${width} × ${height}, ${Math.round(1000 * found.seconds)} ms.`
    + (picture ? "" : " The browser cannot show this format; you see the classes alone."));
}

async function drawUncertainty(found) {
  $("mean").textContent = found ? found.mean.toFixed(3) : "";
  if (!found) return;
  const bytes = Uint8Array.from(atob(found.base64), (letter) => letter.charCodeAt(0));
  const picture = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const context = $("unsure").getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, now.width, now.height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const share = pixels.data[at];
    pixels.data.set([255, 0, 160, share], at);
  }
  context.putImageData(pixels, 0, 0);
}

// Draw a part of the label map.
function draw(left, top, width, height) {
  if (width <= 0 || height <= 0) return;
  const colours = new Uint8Array(256 * 3);
  for (const each of model.classes) colours.set(each.colour, 3 * each.number);
  const part = new ImageData(width, height);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      const value = now.label[(top + y) * now.width + left + x];
      part.data.set(colours.subarray(3 * value, 3 * value + 3), at);
      part.data[at + 3] = value === VOID ? 0 : 255;
    }
  }
  $("mask").getContext("2d").putImageData(part, left, top);
}

function listClasses() {
  const rows = [...model.classes, { number: VOID, name: "not judged", colour: null }];
  $("classes").replaceChildren(...rows.map((each) => {
    const row = document.createElement("li"), label = document.createElement("label");
    const radio = Object.assign(document.createElement("input"),
      { type: "radio", name: "class", value: each.number, checked: each.number === chosen });
    radio.addEventListener("change", () => { chosen = each.number; });
    const swatch = document.createElement("span"), share = document.createElement("output");
    swatch.className = "swatch";
    if (each.colour) swatch.style.background = `rgb(${each.colour})`;
    share.className = "share";
    share.id = `share${each.number}`;
    label.append(radio, swatch, each.name, share);
    row.append(label);
    return row;
  }));
  measure();
}

function measure() {
  const counts = new Array(256).fill(0);
  for (const value of now.label) counts[value]++;
  for (const number of [...model.classes.map((each) => each.number), VOID]) {
    $(`share${number}`).textContent = `${(100 * counts[number] / now.label.length).toFixed(1)} %`;
  }
}

function zoom() {
  const room = Math.min($("frame").clientWidth / now.width, $("frame").clientHeight / now.height);
  const scale = Math.max(room, 0.01) * $("zoom").value;
  Object.assign($("stage").style, { width: `${now.width * scale}px`, height: `${now.height * scale}px` });
}

const tool = () => document.querySelector("[name=tool]:checked").value;

function paint(from, to) {
  const radius = $("size").value / 2, erases = tool() === "eraser", { width, height } = now;
  const left = Math.max(0, Math.floor(Math.min(from.x, to.x) - radius));
  const top = Math.max(0, Math.floor(Math.min(from.y, to.y) - radius));
  const right = Math.min(width, Math.ceil(Math.max(from.x, to.x) + radius) + 1);
  const bottom = Math.min(height, Math.ceil(Math.max(from.y, to.y) + radius) + 1);
  const dx = to.x - from.x, dy = to.y - from.y, length = dx * dx + dy * dy || 1;
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const along = ((x + .5 - from.x) * dx + (y + .5 - from.y) * dy) / length;
      const share = Math.min(1, Math.max(0, along));
      const away = Math.hypot(x + .5 - from.x - share * dx, y + .5 - from.y - share * dy);
      if (away > Math.max(radius, .71)) continue;
      const at = y * width + x, before = now.predicted[at];
      if (!erases) now.label[at] = chosen;
      // Erased, a pixel is again what the model said; where that is the class itself, nobody knows.
      else if (now.label[at] === chosen) now.label[at] = before === chosen ? VOID : before;
    }
  }
  draw(left, top, right - left, bottom - top);
}

function placeOf(event) {
  const box = $("stage").getBoundingClientRect();
  return { x: (event.clientX - box.left) * now.width / box.width,
           y: (event.clientY - box.top) * now.height / box.height };
}

let last = null;

function begin(event) {
  if (!now || tool() === "move" || !event.isPrimary || event.button > 0) return;
  event.preventDefault();
  $("stage").setPointerCapture(event.pointerId);
  now.undo.push(now.label.slice());
  if (now.undo.length > UNDOS) now.undo.shift();
  $("undo").disabled = false;
  last = placeOf(event);
  paint(last, last);
}

function go(event) {
  if (!last) return;
  for (const each of event.getCoalescedEvents?.() ?? [event]) {
    const to = placeOf(each);
    paint(last, to);
    last = to;
  }
}

function end() {
  if (last) measure();
  last = null;
}

// A NumPy file of version 1.0.
function npyOf(label, height, width) {
  const text = `{'descr': '|u1', 'fortran_order': False, 'shape': (${height}, ${width}), }`;
  const head = text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11) + "\n";
  const start = Uint8Array.from([0x93, 78, 85, 77, 80, 89, 1, 0, head.length & 255, head.length >> 8]);
  return new Blob([start, head, label]);
}

async function send() {
  const changed = now.label.some((value, at) => value !== now.predicted[at]);
  const note = $("note").value.trim(), flagged = $("flagged").checked;
  if (!changed && !note && !flagged) {
    throw new Failed("Nothing to send: paint, tick the box or write a note.");
  }
  const form = new FormData();
  form.append("image", now.file, now.file.name);
  if (changed) form.append("label", npyOf(now.label, now.height, now.width), "label.npy");
  form.append("flagged", String(flagged));
  form.append("note", note);
  form.append("request", now.request);
  $("send").disabled = true;
  try {
    const found = await ask("v1/feedback", { method: "POST", body: form });
    $("sent").textContent = `Kept as ${found.id}.`;
    say("Thank you.");
  } finally {
    $("send").disabled = false;
  }
}

function another() {
  now = null;
  $("drop").hidden = false;
  $("frame").hidden = $("side").hidden = true;
  $("file").value = "";
  say("Ready.");
}

function take(files) {
  if (files.length) trying(() => predict(files[0]));
}

$("file").addEventListener("change", (event) => take(event.target.files));
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.body.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind.startsWith("drage") || kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files);
  });
}
$("opacity").addEventListener("input", () => { $("mask").style.opacity = $("opacity").value / 100; });
$("uncertainty").addEventListener("change", () => { $("unsure").hidden = !$("uncertainty").checked; });
$("zoom").addEventListener("input", zoom);
window.addEventListener("resize", () => now && zoom());
for (const each of document.querySelectorAll("[name=tool]")) {
  each.addEventListener("change", () => $("stage").classList.toggle("painting", tool() !== "move"));
}
$("stage").addEventListener("pointerdown", begin);
$("stage").addEventListener("pointermove", go);
for (const kind of ["pointerup", "pointercancel"]) $("stage").addEventListener(kind, end);
$("undo").addEventListener("click", () => {
  now.label = now.undo.pop();
  $("undo").disabled = !now.undo.length;
  draw(0, 0, now.width, now.height);
  measure();
});
$("send").addEventListener("click", () => trying(send));
$("another").addEventListener("click", another);
$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value);
  trying(start);
});
$("mask").style.opacity = .5;
trying(start);
