"use strict";
// The data of the page: kinds, runs (names), colors, and images with truth and the predictions of each run.
const data = JSON.parse(document.getElementById("viewer-data").textContent);
data.images.forEach((image) => { image.predictions = image.predictions.map(asObjects); });
const PAIR_IOU = 0.5, CORRECT_IOU = 0.75;
const state = { thresholds: data.thresholds, runs: data.runs.map(() => true), kinds: {}, current: 0, order: [] };
data.kinds.forEach((kind) => { state.kinds[kind] = true; });

// The lists of a run's predictions on an image as one object for each.
function asObjects({ score, outline, area, overlaps, in_crowd }) {
  const crowd = new Set(in_crowd);
  return score.map((s, i) => (
    { score: s, outline: outline[i], area: area[i], overlaps: overlaps[i], in_crowd: crowd.has(i) }
  ));
}

function aboveThreshold(image, run) {
  return image.predictions[run].filter((p) => p.score >= state.thresholds[run]);
}

// The same rules as report/error_kinds.py, on the predictions from the run's score threshold on.
function classify(image, run) {
  const numTrue = image.areas.length;
  const active = aboveThreshold(image, run);
  const holds = active.map((p) => p.overlaps.filter(([g, n]) => 2 * n > image.areas[g]).map(([g]) => g));
  const merging = holds.map((h) => h.length >= 2);
  const merged = new Set(holds.flatMap((h, i) => (merging[i] ? h : [])));
  const heldBy = Array.from({ length: numTrue }, () => []);
  active.forEach((p, i) => p.overlaps.forEach(([g, n]) => { if (2 * n > p.area) heldBy[g].push(i); }));
  const splitting = heldBy.map((h, g) => h.length >= 2 && !merged.has(g));
  const split = new Set(heldBy.flatMap((h, g) => (splitting[g] ? h.filter((i) => !merging[i]) : [])));
  const predicted = active.map((p, i) => (merging[i] ? "merged" : split.has(i) ? "split" : "spurious"));
  const truth = image.areas.map((a, g) => (merged.has(g) ? "merged" : splitting[g] ? "split" : "missed"));
  for (const [iou, i, g] of candidates(image, active)) {
    if (predicted[i] === "spurious" && truth[g] === "missed") {
      predicted[i] = truth[g] = iou >= CORRECT_IOU ? "correct" : "boundary";
    }
  }
  active.forEach((p, i) => { if (p.in_crowd && predicted[i] === "spurious") predicted[i] = null; });
  return { active, predicted, truth };
}

// Pairs [IoU, prediction, object] that may be matched, best first.
function candidates(image, active) {
  const pairs = [];
  active.forEach((p, i) => p.overlaps.forEach(([g, n]) => {
    const iou = n / (p.area + image.areas[g] - n);
    if (iou >= PAIR_IOU) pairs.push([iou, i, g]);
  }));
  return pairs.sort((a, b) => b[0] - a[0]);
}

// As evaluation/matching.py has it at IoU 0.5, where a greedy pairing is the best one.
function accuracy(image, run) {
  const active = aboveThreshold(image, run);
  const matchedPredictions = new Set(), matchedObjects = new Set();
  for (const [, i, g] of candidates(image, active)) {
    if (!matchedPredictions.has(i) && !matchedObjects.has(g)) { matchedPredictions.add(i); matchedObjects.add(g); }
  }
  const falsePositives = active.filter((p, i) => !p.in_crowd && !matchedPredictions.has(i)).length;
  const total = image.areas.length + falsePositives;
  return total ? matchedObjects.size / total : 1;
}

const pictures = new Map();
function picture(index) {
  if (!pictures.has(index)) {
    pictures.set(index, new Promise((resolve) => {
      const element = new Image();
      element.onload = () => resolve(element);
      element.src = data.images[index].src;
    }));
  }
  return pictures.get(index);
}

function drawOutline(context, pieces, color, dashed, scale) {
  context.strokeStyle = color;
  context.setLineDash(dashed ? [3, 2] : []);
  for (const piece of pieces) {
    context.beginPath();
    let x = 0.5, y = 0.5;
    for (let i = 0; i < piece.length; i += 2) {
      x += piece[i];
      y += piece[i + 1];
      context.lineTo(x * scale, y * scale);
    }
    context.closePath();
    context.stroke();
  }
}

async function drawCanvas(canvas, index, run) {
  const image = data.images[index];
  const element = await picture(index);
  const scale = canvas.width / image.width;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = scale < 1;
  context.drawImage(element, 0, 0, canvas.width, canvas.height);
  context.lineWidth = canvas.width > 400 ? 2 : 1.2;
  if (run < 0) {
    image.truth.forEach((pieces) => drawOutline(context, pieces, data.truthColor, false, scale));
    return;
  }
  const { active, predicted, truth } = classify(image, run);
  active.forEach((p, i) => {
    if (state.kinds[predicted[i]]) drawOutline(context, p.outline, data.colors[predicted[i]], false, scale);
  });
  image.truth.forEach((pieces, g) => {
    if (truth[g] === "missed" && state.kinds.missed) drawOutline(context, pieces, data.colors.missed, true, scale);
  });
}

function describe(index, run) {
  const image = data.images[index];
  if (run < 0) return `${image.areas.length} objects`;
  const { predicted, truth } = classify(image, run);
  const parts = data.kinds.map((kind) => {
    const n = (kind === "spurious" ? predicted : truth).filter((k) => k === kind).length;
    return n ? `${n} ${kind}` : "";
  });
  return parts.filter(Boolean).join(", ") || "nothing";
}

function columns() {
  return [-1, ...data.runs.map((_, r) => r).filter((r) => state.runs[r])];
}

function fill(card, index, width) {
  const image = data.images[index];
  card.replaceChildren();
  for (const run of columns()) {
    const figure = document.createElement("figure");
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = Math.max(1, Math.round((width * image.height) / image.width));
    const name = run < 0 ? "truth" : data.runs[run];
    const description = describe(index, run);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${image.name}, ${name}: ${description}`);
    const caption = document.createElement("figcaption");
    caption.textContent = `${name}${run < 0 ? "" : ` ${accuracy(image, run).toFixed(2)}`}: ${description}`;
    figure.append(canvas, caption);
    card.append(figure);
    drawCanvas(canvas, index, run);
  }
}

const list = document.getElementById("cards");
const observer = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const row = entry.target.querySelector(".row");
    if (entry.isIntersecting) {
      fill(row, Number(entry.target.dataset.index), 260);
    } else if (row.firstChild) {
      row.style.minHeight = `${row.offsetHeight}px`; // The page keeps its length.
      row.replaceChildren();
    }
  }
}, { rootMargin: "400px" });

function sorted() {
  const [key, run] = document.getElementById("sort").value.split(":");
  const indices = data.images.map((_, i) => i);
  if (key === "name") return indices;
  if (key === "objects") return indices.sort((a, b) => data.images[b].areas.length - data.images[a].areas.length);
  const value = data.images.map((image) => {
    if (key === "worst" || key === "best") return accuracy(image, Number(run));
    const all = data.runs.map((_, r) => accuracy(image, r));
    return Math.max(...all) - Math.min(...all);
  });
  const sign = key === "worst" ? 1 : -1;
  return indices.sort((a, b) => sign * (value[a] - value[b]));
}

function layout() {
  state.order = sorted();
  observer.disconnect();
  list.replaceChildren(...state.order.map((index) => {
    const card = document.createElement("article");
    card.dataset.index = index;
    card.tabIndex = -1;
    const title = document.createElement("h3");
    title.textContent = data.images[index].name;
    const row = document.createElement("div");
    row.className = "row";
    row.style.minHeight = `${(260 * data.images[index].height) / data.images[index].width}px`;
    card.append(title, row);
    card.addEventListener("click", () => { select(state.order.indexOf(index)); open(); });
    observer.observe(card);
    return card;
  }));
  state.current = 0;
}

function refresh() {
  for (const card of list.children) {
    if (card.querySelector("canvas")) fill(card.querySelector(".row"), Number(card.dataset.index), 260);
  }
  if (dialog.open) fill(dialog.querySelector(".row"), state.order[state.current], zoomWidth());
}

function select(position) {
  state.current = Math.min(Math.max(position, 0), state.order.length - 1);
  [...list.children].forEach((card, i) => card.classList.toggle("current", i === state.current));
  list.children[state.current].scrollIntoView({ block: "nearest" });
  if (dialog.open) open();
}

const dialog = document.getElementById("zoom");
function zoomWidth() {
  const perRow = Math.min(columns().length, window.innerWidth > 900 ? 3 : 1);
  return Math.floor((Math.min(window.innerWidth, 1800) - 60) / perRow);
}
function open() {
  const index = state.order[state.current];
  dialog.querySelector("h3").textContent = `${data.images[index].name} (${state.current + 1} of ${state.order.length})`;
  if (!dialog.open) dialog.showModal();
  fill(dialog.querySelector(".row"), index, zoomWidth());
}

document.getElementById("close").addEventListener("click", () => dialog.close());
document.getElementById("previous").addEventListener("click", () => select(state.current - 1));
document.getElementById("next").addEventListener("click", () => select(state.current + 1));
document.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  // These use the arrow keys themselves.
  if (!step || event.target.matches("select, input[type=range]")) return;
  event.preventDefault();
  select(state.current + step);
});

const slider = document.getElementById("threshold");
slider.value = state.thresholds[0];
slider.addEventListener("input", () => {
  const threshold = Number(slider.value);
  state.thresholds = data.runs.map(() => threshold);
  document.getElementById("threshold-value").textContent = threshold.toFixed(2);
  refresh();
});
document.querySelectorAll("input[data-run]").forEach((box) => box.addEventListener("change", () => {
  state.runs[Number(box.dataset.run)] = box.checked;
  refresh();
}));
document.querySelectorAll("input[data-kind]").forEach((box) => box.addEventListener("change", () => {
  state.kinds[box.dataset.kind] = box.checked;
  refresh();
}));
document.getElementById("sort").addEventListener("change", layout);
layout();
