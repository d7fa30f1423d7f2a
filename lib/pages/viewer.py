"""Figures on a page: a click, or Enter, makes one as large as the window; Esc closes it.

A figure that has charts beside it (`lib.charts`) opens as those, to be zoomed, moved and
read. All of it is done by `SCRIPT` to the images that are there; without a script one sees the
pictures. A page holds charts as data, made anew by `lib.chart_file`.
"""

import base64
import html
import json
from collections.abc import Mapping, Sequence

CSS = """
.output figure { margin: 0; }
button.enlarge { all: unset; display: block; max-width: 100%; cursor: zoom-in;
  border-radius: .3rem; }
button.enlarge:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
button.enlarge > img { vertical-align: top; }
figcaption button { margin-left: .5rem; } .output figcaption button { margin-left: 0; }
dialog.enlarged { width: 100vw; height: 100vh; height: 100dvh; max-width: none; max-height: none;
  margin: 0; padding: 0; border: 0; overflow: hidden; background: var(--page); color: var(--ink); }
dialog.enlarged[open] { display: flex; flex-direction: column; }
dialog.enlarged nav { display: flex; flex-wrap: wrap; gap: .35rem; align-items: center;
  padding: .45rem .75rem; border-bottom: 1px solid var(--line); }
dialog.enlarged nav b { margin-right: auto; font-weight: 600; }
dialog.enlarged button { margin: 0; min-width: 2rem; min-height: 1.75rem; }
dialog.enlarged button[hidden] { display: none; }
dialog.enlarged button[aria-pressed="false"] { opacity: .45; }
dialog.enlarged .sheet { flex: 1; min-height: 0; overflow: auto; display: flex; padding: .5rem; }
dialog.enlarged .sheet > img { margin: auto; height: auto; max-width: none; cursor: zoom-out;
  width: min(100%, calc((100vh - 5rem) * var(--ratio))); background: #fff; border: 0; }
dialog.enlarged .charts { flex: 1; min-width: 0; display: flex; flex-direction: column; }
.legend { display: flex; flex-wrap: wrap; gap: .35rem; padding: .1rem .25rem; }
.legend i { display: inline-block; width: .8em; height: .8em; margin-right: .4em;
  border-radius: .2em; }
.plot { position: relative; flex: 1; min-height: 8rem; }
.plot > svg { position: absolute; inset: 0; width: 100%; height: 100%; touch-action: none;
  cursor: crosshair; user-select: none; -webkit-user-select: none; }
.plot > svg:focus { outline: none; }
.plot text { fill: var(--dim); font-size: 12px; }
.plot .grid { stroke: var(--line); } .plot .frame { fill: none; stroke: var(--line); }
.plot > svg:focus-visible .frame { stroke: var(--link); }
.plot .chosen { fill: var(--link); opacity: .15; } .plot .at { stroke: var(--dim); }
.read { position: absolute; pointer-events: none; background: var(--soft); color: var(--ink);
  border: 1px solid var(--line); border-radius: .4rem; padding: .3rem .6rem; font-size: .8125rem;
  font-variant-numeric: tabular-nums; max-width: min(22rem, 70%); box-shadow: 0 2px 8px #0003; }
.read[hidden] { display: none; }
.read p { margin: 0; } .read i { display: inline-block; width: .7em; height: .7em;
  margin-right: .4em; border-radius: .2em; }
dialog.enlarged .help { margin: 0; padding: .1rem .75rem .5rem; color: var(--dim);
  font-size: .8125rem; }
@media (max-width: 48rem) and (orientation: portrait) {
  dialog.enlarged .sheet > img { width: max(100%, 56rem); } }
@media print { dialog.enlarged[open] { display: none; } }
"""

SCRIPT = """
(() => {
"use strict";
const GREY = "#808080";
const COLOURS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2",
  "#17becf", "#bcbd22"];
const MINUTE = 60, HOUR = 3600, DAY = 86400;
const SPANS = [1, 2, 5, 10, 15, 30, ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE),
  ...[1, 2, 3, 6, 12].map((n) => n * HOUR), DAY, 2 * DAY, 7 * DAY, 14 * DAY];
const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
const EDGE = { left: 64, right: 14, top: 8, bottom: 42 };

const drawing = document.createElement("template");
drawing.innerHTML = "<svg></svg>";
const SVG = drawing.content.firstChild.namespaceURI;

function make(name, attributes = {}, ...children) {
  const node = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function act(text, label, action) {
  const made = make("button", { type: "button", title: label, "aria-label": label }, text);
  made.addEventListener("click", action);
  return made;
}

const two = (number) => String(number).padStart(2, "0");

function moment(seconds, full) {  // the clock as it was written, wherever the reader is
  const d = new Date(seconds * 1000);
  const clock = `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}`;
  const exact = seconds % 60 ? `${clock}:${two(d.getUTCSeconds())}` : clock;
  if (full) return `${d.toISOString().slice(0, 10)} ${exact}`;
  if (seconds % DAY) return exact;
  const month = MONTHS[d.getUTCMonth()];
  if (d.getUTCDate() > 1) return `${d.getUTCDate()} ${month}`;
  return d.getUTCMonth() ? `${d.getUTCDate()} ${month}` : String(d.getUTCFullYear());
}

function number(value) {
  const size = Math.abs(value);
  if (size && (size >= 1e7 || size < 1e-4)) return value.toExponential(2);
  return String(Number(value.toPrecision(5)));
}

function ticks(low, high, count, whole) {
  const raw = (high - low) / Math.max(count, 1), power = 10 ** Math.floor(Math.log10(raw));
  let step = [1, 2, 5, 10].find((n) => n * power >= raw * 0.999) * power;
  if (whole) step = Math.max(1, Math.round(step));
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1)
    found.push(n * step);
  return found;
}

function timeTicks(low, high, count) {
  const span = (high - low) / Math.max(count, 1), step = SPANS.find((n) => n >= span);
  const found = [];
  if (step) {
    const from = step >= 7 * DAY ? 4 * DAY : 0;  // weeks begin on Monday; 1970 on a Thursday
    for (let n = Math.ceil((low - from) / step); n * step + from <= high; n += 1)
      found.push(n * step + from);
    return found;
  }
  const months = [1, 2, 3, 6, 12, 24, 60, 120].find((n) => n * 30 * DAY >= span) || 600;
  const first = new Date(low * 1000);
  let month = Math.floor((first.getUTCFullYear() * 12 + first.getUTCMonth()) / months) * months;
  for (let at = 0; at <= high; month += months) {
    at = Date.UTC(Math.floor(month / 12), month % 12) / 1000;
    if (at >= low && at <= high) found.push(at);
  }
  return found;
}

function places({ start, steps }, rows) {
  const x = [start];
  for (let k = 1; k < rows; k += 1)
    x.push(Array.isArray(steps) ? x[k - 1] + steps[k - 1] : start + k * steps);
  return x;
}

function before(x, value) {  // how many lie left of value
  let low = 0, high = x.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle] < value) low = middle + 1; else high = middle;
  }
  return low;
}

/* Charts below each other, with the same x. */
function chartsOf(data, title) {
  const plots = data.map((one) => plot(one, title));
  const body = make("div", { class: "charts" }, ...plots.flatMap((one) => [one.legend, one.box]));
  const all = [Math.min(...plots.map((one) => one.x[0])),
    Math.max(...plots.map((one) => one.x.at(-1)))];
  if (all[0] === all[1]) { all[0] -= 1; all[1] += 1; }
  const room = (all[1] - all[0]) * (data.every((one) => one.x.time) ? 0.005 : 0.03);
  const full = [all[0] - room, all[1] + room], first = data[0].view || full;
  let view = first;

  function show(low, high) {
    const least = (full[1] - full[0]) / 20000;
    const width = Math.min(Math.max(high - low, least), full[1] - full[0]);
    const middle = (low + high) / 2;
    low = Math.min(Math.max(middle - width / 2, full[0]), full[1] - width);
    view = [low, low + width];
    plots.forEach((one) => one.draw(view));
  }
  const zoom = (factor, at = (view[0] + view[1]) / 2) =>
    show(at - (at - view[0]) * factor, at + (view[1] - at) * factor);
  const move = (part) => {
    const by = (view[1] - view[0]) * part;
    show(view[0] + by, view[1] + by);
  };
  const point = (one, x) => plots.forEach((other) => other.point(x, other === one));
  const everything = () => show(...full);
  const actions = { show, zoom, move, point, all: everything, view: () => view };
  plots.forEach((one) => listen(one, actions));
  new ResizeObserver(() => plots.forEach((one) => one.draw(view))).observe(body);
  const tools = [act("\\u2212", "Zoom out", () => zoom(1.6)),
    act("+", "Zoom in", () => zoom(0.625)), act("All", "Show everything", everything)];
  if (data[0].view) tools.push(act("Reset", "As it was first", () => show(...first)));
  return { body, tools };
}

function plot(data, title) {
  const x = places(data.x, data.series[0].values.length);
  const whole = x.every(Number.isInteger) && !data.x.time;
  const svg = make("svg:svg", { tabindex: 0, role: "img" });
  const read = make("div", { class: "read", hidden: "" });
  const box = make("div", { class: "plot" }, svg, read);
  const hidden = new Set([...data.series.keys()].filter((k) => data.series[k].hidden));
  let view = [x[0], x[x.length - 1]], size = [0, 0], low = 0, high = 1;
  let n = 0;
  const colours = data.series.map((one) => one.muted ? GREY : COLOURS[n++ % COLOURS.length]);
  const legend = make("div", { class: "legend" });
  data.series.forEach((one, k) => {
    const mark = make("i");
    mark.style.background = colours[k];
    const key = act("", `Show or hide ${one.label}`, () => {
      if (!hidden.delete(k)) hidden.add(k);
      key.setAttribute("aria-pressed", String(!hidden.has(k)));
      draw(view);
    });
    key.setAttribute("aria-pressed", String(!hidden.has(k)));
    key.append(mark, one.label);
    legend.append(key);
  });

  const width = () => size[0] - EDGE.left - EDGE.right;
  const height = () => size[1] - EDGE.top - EDGE.bottom;
  const across = (value) => (value - view[0]) / (view[1] - view[0]) * width();
  const down = (value) => (1 - (value - low) / (high - low)) * height();
  const at = (pixel) => view[0] + (pixel - EDGE.left) / width() * (view[1] - view[0]);
  const say = (value, full) => data.x.time ? moment(value, full) : number(value);

  function fit(from, to) {
    let least = Infinity, most = -Infinity;
    data.series.forEach((one, k) => {
      if (hidden.has(k)) return;
      for (let row = from; row < to; row += 1) {
        const value = one.values[row];
        if (value === null) continue;
        if (value < least) least = value;
        if (value > most) most = value;
      }
      if (one.kind === "area") { least = Math.min(least, 0); most = Math.max(most, 0); }
    });
    if (least > most) [least, most] = [0, 1];
    const room = (most - least) * 0.06 || Math.abs(most) * 0.1 || 1;
    return [least === 0 ? 0 : least - room, most + room];
  }

  function trace(one, from, to) {  // at most four rows for each pixel, so that zooming is quick
    const { values } = one, rows = [];
    if (to - from <= 4 * width()) {
      for (let row = from; row < to; row += 1) rows.push(row);
      return rows;
    }
    let column = null, kept = [];
    const flush = () => { rows.push(...new Set(kept.sort((a, b) => a - b))); kept = []; };
    for (let row = from; row < to; row += 1) {
      const here = values[row] === null ? null : Math.floor(across(x[row]));
      if (here === null || here !== column) { flush(); kept = [row, row, row, row]; }
      else kept = [kept[0], values[row] < values[kept[1]] ? row : kept[1],
        values[row] > values[kept[2]] ? row : kept[2], row];
      column = here;
    }
    flush();
    return rows;
  }

  function path(one, rows) {
    let text = "", open = false, start = 0, end = 0, y = 0;
    const spot = (left, top) => `${left.toFixed(1)},${top.toFixed(1)}`;
    const close = () => {
      if (open && one.kind === "area") text += `L${spot(end, down(0))}L${spot(start, down(0))}Z`;
      open = false;
    };
    for (const row of rows) {
      const value = one.values[row];
      if (value === null) { close(); continue; }
      end = across(x[row]);
      if (!open) start = end;
      if (open && one.kind === "step") text += `L${spot(end, y)}`;
      y = down(value);
      text += `${open ? "L" : "M"}${spot(end, y)}`;
      open = true;
    }
    close();
    return text;
  }

  function drawSeries(one, colour, from, to) {
    const rows = trace(one, from, to);
    const alone = rows.filter((row, k) => one.values[row] !== null && (one.kind === "points" ||
      rows.length < 60 && one.kind === "line" || ((one.values[rows[k - 1]] ?? null) === null &&
      (one.values[rows[k + 1]] ?? null) === null)));
    const parts = [];
    if (one.kind !== "points") {
      const area = one.kind === "area";
      parts.push(make("svg:path", { d: path(one, rows), "stroke-width": 1.6, "stroke-linejoin":
        "round", stroke: area ? "none" : colour, fill: area ? colour : "none",
        "fill-opacity": 0.35 }));
    }
    for (const row of alone) parts.push(make("svg:circle", { cx: across(x[row]).toFixed(1),
      cy: down(one.values[row]).toFixed(1), r: one.kind === "points" ? 4 : 2.5, fill: colour }));
    return parts;
  }

  function draw(wanted) {
    view = wanted;
    size = [box.clientWidth, box.clientHeight];
    if (width() < 20 || height() < 20) return;
    read.hidden = true;
    const from = Math.max(0, before(x, view[0]) - 1);
    const to = Math.min(x.length, before(x, view[1]) + 2);
    [low, high] = fit(from, to);
    const inner = make("svg:svg", { x: EDGE.left, y: EDGE.top, width: width(), height: height(),
      class: "inner" });
    const outer = [];
    const line = (x1, y1, x2, y2, kind) => make("svg:line", { x1, y1, x2, y2, class: kind });
    for (const value of ticks(low, high, height() / 45)) {
      const y = down(value) + EDGE.top;
      outer.push(line(EDGE.left, y, size[0] - EDGE.right, y, "grid"), make("svg:text",
        { x: EDGE.left - 8, y: y + 4, "text-anchor": "end", class: "y" }, number(value)));
    }
    const count = width() / 90;
    const marks = data.x.time ? timeTicks(...view, count) : ticks(...view, count, whole);
    for (const value of marks) {
      const left = across(value) + EDGE.left;
      outer.push(line(left, EDGE.top, left, size[1] - EDGE.bottom, "grid"), make("svg:text",
        { x: left, y: size[1] - EDGE.bottom + 16, "text-anchor": "middle", class: "x" },
        say(value)));
    }
    for (const kinds of [["area"], ["line", "step"], ["points"]]) data.series.forEach((one, k) => {
      if (kinds.includes(one.kind) && !hidden.has(k))
        inner.append(...drawSeries(one, colours[k], from, to));
    });
    const middle = EDGE.top + height() / 2;
    outer.push(inner, make("svg:rect", { x: EDGE.left, y: EDGE.top, width: width(),
      height: height(), class: "frame" }), make("svg:text", { x: 14, y: middle, "text-anchor":
      "middle", transform: `rotate(-90 14 ${middle})` }, data.y.label));
    const shown = `${say(view[0], true)} to ${say(view[1], true)}`;
    outer.push(make("svg:text", { x: EDGE.left + width() / 2, y: size[1] - 6, "text-anchor":
      "middle" }, data.x.time ? `${data.x.label}, ${shown}` : data.x.label));
    svg.replaceChildren(...outer);
    svg.setAttribute("aria-label", `${title}: ${data.y.label}, ${data.x.label} ${shown}`);
  }

  function nearest(value) {
    const row = before(x, value);
    return row > 0 && (row === x.length || value - x[row - 1] < x[row] - value) ? row - 1 : row;
  }

  function point(value, mine) {  // what is there: all values of the nearest row
    svg.querySelectorAll(".at, .dot").forEach((node) => node.remove());
    read.hidden = true;
    if (value === null) return;
    const row = nearest(value);
    if (x[row] < view[0] || x[row] > view[1]) return;
    const left = across(x[row]), inner = svg.querySelector(".inner");
    if (!inner) return;
    inner.append(make("svg:line", { x1: left, x2: left, y1: 0, y2: height(), class: "at" }));
    const words = [make("p", {}, make("b", {}, data.x.time ? say(x[row], true)
      : `${data.x.label} ${say(x[row])}`))];
    data.series.forEach((one, k) => {
      const found = one.values[row];
      if (hidden.has(k) || found === null) return;
      inner.append(make("svg:circle", { cx: left, cy: down(found), r: 4, fill: colours[k],
        class: "dot" }));
      const mark = make("i");
      mark.style.background = colours[k];
      words.push(make("p", {}, mark, `${one.label} ${number(found)}`));
    });
    if (data.about) words.push(make("p", {}, data.about[row]));
    if (!mine) return;
    read.replaceChildren(...words);
    read.hidden = false;
    const right = left + EDGE.left > size[0] / 2;
    read.style.left = right ? "auto" : `${left + EDGE.left + 12}px`;
    read.style.right = right ? `${size[0] - left - EDGE.left + 12}px` : "auto";
    read.style.top = `${EDGE.top + 8}px`;
  }
  const next = (value, by) => x[Math.min(Math.max(nearest(value) + by, 0), x.length - 1)];
  return { x, svg, box, legend, draw, point, next, at,
    bounds: () => [EDGE.left, size[0] - EDGE.right, EDGE.top, height()] };
}

function listen(one, { show, zoom, move, point, all, view }) {
  const { svg } = one, held = new Map();
  let chosen = null, from = 0, apart = 0, kind = "", seen = null;
  const place = (event) => event.clientX - svg.getBoundingClientRect().left;
  const gap = () => { const [a, b] = [...held.values()]; return Math.abs(a - b) || 1; };
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
    const by = event.deltaX || event.deltaY;
    if (sideways) move(Math.sign(by) * 0.1);
    else zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 300))), one.at(place(event)));
    point(one, one.at(place(event)));
  }, { passive: false });
  svg.addEventListener("pointerdown", (event) => {
    if (event.button > 1) return;
    svg.setPointerCapture(event.pointerId);
    held.set(event.pointerId, place(event));
    from = place(event);
    const moves = event.pointerType === "touch" || event.shiftKey || event.button === 1;
    kind = moves ? "move" : "choose";
    if (held.size === 2) { apart = gap(); chosen?.remove(); chosen = null; }
    if (kind === "choose" && held.size === 1) {
      const [, , top, height] = one.bounds();
      chosen = make("svg:rect", { class: "chosen", x: from, y: top, width: 0, height });
      svg.append(chosen);
    }
  });
  svg.addEventListener("pointermove", (event) => {
    const here = place(event);
    if (!held.has(event.pointerId)) return point(one, one.at(here));
    held.set(event.pointerId, here);
    const [low, high] = view(), [left, right] = one.bounds();
    if (held.size === 2) {
      const now = gap(), [a, b] = [...held.values()];
      zoom(apart / now, one.at((a + b) / 2));
      apart = now;
    } else if (kind === "move") {
      const by = (from - here) / (right - left) * (high - low);
      show(low + by, high + by);
      from = here;
    } else if (chosen) {
      const ends = [from, Math.min(Math.max(here, left), right)].sort((a, b) => a - b);
      chosen.setAttribute("x", ends[0]);
      chosen.setAttribute("width", ends[1] - ends[0]);
    }
  });
  const end = (event) => {
    held.delete(event.pointerId);
    if (!chosen) return event.pointerType === "touch" && point(one, one.at(place(event)));
    const left = Number(chosen.getAttribute("x")), wide = Number(chosen.getAttribute("width"));
    chosen.remove();
    chosen = null;
    if (wide > 6 && event.type === "pointerup") show(one.at(left), one.at(left + wide));
    else point(one, one.at(place(event)));
  };
  svg.addEventListener("pointerup", end);
  svg.addEventListener("pointercancel", end);
  svg.addEventListener("pointerleave", () => { if (!held.size) point(one, null); });
  svg.addEventListener("dblclick", all);
  svg.addEventListener("keydown", (event) => {
    if (event.shiftKey && event.key.startsWith("Arrow")) {
      const [low, high] = view(), inside = seen >= low && seen <= high;
      seen = one.next(inside ? seen : (low + high) / 2, event.key === "ArrowLeft" ? -1 : 1);
      if (seen < low || seen > high) move(seen < low ? -0.5 : 0.5);
      return point(one, seen);
    }
    const keys = { ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), "+": () => zoom(0.625),
      "=": () => zoom(0.625), "-": () => zoom(1.6), 0: all };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
}

const HELP = matchMedia("(pointer: coarse)").matches
  ? "Two fingers zoom, one moves; a tap reads the values."
  : "Drag to zoom in, with Shift to move; the wheel zooms; a double click shows all. Keys: " +
    "\\u2190 \\u2192 + \\u2212 0, with Shift \\u2190 \\u2192 to read, Esc.";
const name = make("b"), tools = make("nav"), sheet = make("div", { class: "sheet" });
const help = make("p", { class: "help" });
const dialog = make("dialog", { class: "enlarged" }, tools, sheet, help);
const pictures = [...document.querySelectorAll("figure img, .output img")];
const holders = pictures.map((image, k) => {
  const holder = act("", `Enlarge ${image.alt || "figure"}`, () => open(k));
  holder.className = "enlarge";
  image.replaceWith(holder);
  holder.append(image);
  return holder;
});

function dataOf(holder) {
  const found = holder.parentElement.querySelector("script[type='application/json']");
  return found ? JSON.parse(found.textContent) : null;
}

function open(k, asPicture = false) {
  const image = pictures[k], data = dataOf(holders[k]), alt = image.alt || "figure";
  const title = alt[0].toUpperCase() + alt.slice(1);
  const go = (by) => open((k + by + pictures.length) % pictures.length);
  const made = data && !asPicture ? chartsOf(data, title) : null;
  const copy = made ? made.body : image.cloneNode();
  if (!made) {
    copy.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight || 2);
    copy.addEventListener("click", () => dialog.close());
  }
  name.textContent = title;
  const buttons = made ? made.tools : [];
  if (data) buttons.push(act(made ? "Picture" : "Chart", made ? "Show the picture" :
    "Show the chart", () => open(k, Boolean(made))));
  if (pictures.length > 1) buttons.push(act("\\u2039", "Figure before", () => go(-1)),
    act("\\u203a", "Next figure", () => go(1)));
  const close = act("Close", "Close", () => dialog.close());
  tools.replaceChildren(name, ...buttons, close);
  sheet.replaceChildren(copy);
  const notes = data ? [...new Set(data.map((one) => one.note))].filter(Boolean) : [];
  help.textContent = made ? [...notes, HELP].join(" ") : "";
  help.hidden = !made;
  if (!dialog.open) dialog.showModal();
  dialog.setAttribute("aria-label", title);
  (made ? copy.querySelector("svg") : close).focus();
}

if (pictures.length) document.body.append(dialog);
dialog.addEventListener("close", () => sheet.replaceChildren());
holders.forEach((holder, k) => {
  const figure = holder.closest("figure");
  if (!figure || !dataOf(holder)) return;
  const caption = figure.querySelector("figcaption") || make("figcaption");
  const label = `Open the chart of ${pictures[k].alt}`;
  caption.append(act("Zoom and read values", label, () => open(k)));
  figure.append(caption);
});
})();
"""


def image(content: bytes, label: str, panels: Sequence[Mapping] = ()) -> str:
    """Return a picture that `SCRIPT` enlarges, with the data of its charts.

    Parameters
    ----------
    content : bytes
        A PNG file.
    label : str
        What it shows, plain text.
    panels : sequence of mapping, default ()
        Charts from `lib.chart_file.parse`.
    """
    data = base64.b64encode(content).decode()
    shown = f'<img alt="{html.escape(label)}" src="data:image/png;base64,{data}">'
    return shown + (_embedded(panels) if panels else "")


def _embedded(panels: Sequence[Mapping]) -> str:
    """Return charts from `parse` as an element of HTML that holds data and runs nothing."""
    text = json.dumps(list(panels), separators=(",", ":"))
    for letter in "<>&":  # nothing in it can end the element, or begin another
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return f'<script type="application/json">{text}</script>'
