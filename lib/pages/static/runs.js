const find = (id) => document.getElementById(id);
const { columns, rows } = JSON.parse(find("runs").textContent);
const runs = rows.map((row) => Object.fromEntries(columns.map((name, i) => [name, row[i]])));
const lines = new Map();
for (const run of runs) {
  run.text = [run.pipeline, run.name, run.state, run.by, run.metric, run.source, run.reason,
    run.model && `${run.model} v${run.version}`].join(" ").toLowerCase();
  run.gain = null;
  if (run.value === null || run.state === "running") continue;
  const key = JSON.stringify([run.pipeline, run.source, run.metric]);
  if (!lines.has(key)) lines.set(key, []);
  run.line = lines.get(key);
  run.at = run.line.push(run.value) - 1;
  if (run.at === 0 || run.greater_is_better === null) continue;
  run.change = run.value - run.line[run.at - 1];
  run.gain = (run.greater_is_better ? run.change : -run.change)
    / (Math.abs(run.line[run.at - 1]) || 1);
}
const PAGE = 100, TREND = 20;
let sort = "-started", shown = PAGE, chosen = [];

const fixed = new Map();  // decimals by metric: its numbers stand one below the other
const decimals = (values) => {
  const sizes = values.map(Math.abs).filter((size) => size >= 1e-12).sort((a, b) => a - b);
  if (!sizes.length) return 0;
  const middle = Math.ceil(Math.log10(sizes[sizes.length >> 1]));
  let places = Math.min(Math.max(4 - middle, 0), 9);
  while (places && values.every((value) => value.toFixed(places).endsWith("0"))) places -= 1;
  return places;
};
for (const run of runs) {
  if (run.value === null) continue;
  if (!fixed.has(run.metric)) fixed.set(run.metric, new Map());
  const known = fixed.get(run.metric);
  known.set(run.pipeline, [...(known.get(run.pipeline) ?? []), run.value]);
}
for (const known of fixed.values())
  for (const [pipeline, values] of known) known.set(pipeline, decimals(values));
const number = (value, run) => {
  const own = fixed.get(run.metric).get(run.pipeline);
  const places = Math.min(Math.max(...fixed.get(run.metric).values()), own + 2);
  const shown = Number(value.toFixed(places));
  return shown === 0 ? "0" : shown.toLocaleString("en", { minimumFractionDigits: places,
    maximumFractionDigits: places });
};
const took = (seconds) => {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(Math.round(seconds) / 60), hours = Math.floor(minutes / 60);
  return hours ? `${hours} h ${minutes % 60} min` : `${minutes} min ${Math.round(seconds) % 60} s`;
};
const element = (name, kind, ...content) => {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.append(...content.filter((one) => one !== null && one !== ""));
  return made;
};
const cell = (kind, text, title) => {
  const made = element("td", kind, text ?? "");
  if (title) made.title = title;
  return made;
};
const address = (run) => [run.pipeline, run.name, run.page].map(encodeURIComponent).join("/");
const short = (name) =>
  name.replace(/^([a-z_]+?)__\d{4}-(\d\d-\d\d)T(\d\d)-(\d\d)-.*$/, "$1 $2 $3:$4");
const directory = (run) => `${run.pipeline}/${run.name}`;
const trend = (run) => {
  const values = (run.line ?? []).slice(Math.max(0, run.at + 1 - TREND), run.at + 1);
  if (values.length < 2 || run.greater_is_better === null) return "";
  const low = Math.min(...values), span = Math.max(...values) - low || 1;
  const points = values.map((value, i) =>
    [i * 80 / (values.length - 1), 17 - 14 * (value - low) / span].map((n) => n.toFixed(1)));
  const draw = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const [from, to] = [values[0], run.value].map((value) => number(value, run));
  const label = `last ${values.length} runs: from ${from} to ${to}`;
  const svg = draw("svg", { width: 84, height: 20, role: "img", "aria-label": label });
  const [x, y] = points.at(-1);
  svg.append(draw("polyline", { points: points.join(" "), fill: "none", stroke: "currentColor",
    "stroke-width": 1.5, "stroke-linejoin": "round" }), draw("circle", { cx: x, cy: y, r: 2.5 }));
  return svg;
};
const changed = (run) => {
  if (run.gain === null) return cell("change number");
  const by = number(Math.abs(run.change), run);
  if (by === "0") return cell("change number dim", "no change");
  const word = run.gain > 0 ? "better" : "worse";
  const sign = run.change > 0 ? "+" : "\u2212";
  return cell(`change number ${word}`, `${sign}${by} ${word}`);
};
const build = (run) => {
  const pick = element("input");
  pick.type = "checkbox";
  pick.checked = chosen.includes(directory(run));
  pick.setAttribute("aria-label", `choose ${directory(run)} to compare`);
  pick.addEventListener("change", () => choose(directory(run), pick.checked));
  const link = run.page ? element("a", "", short(run.name)) : short(run.name);
  if (run.page) link.href = address(run);
  const value = run.value === null ? null
    : element("span", "", number(run.value, run), element("span", "dim", ` ${run.metric}`));
  const metric = cell("metric", value, run.reason);
  if (run.reason) metric.append(element("div", "why", run.reason));
  if (run.reason && value === null) metric.colSpan = 3;
  const rest = metric.colSpan === 3 ? [] : [cell("trend", trend(run)), changed(run)];
  const title = run.model ? `${run.model} v${run.version}` : null;
  const model = run.model ? element("div", "cut", element("span", "", run.model),
    element("span", "", `v${run.version}`)) : null;
  return element("tr", "", cell("pick", pick),
    cell("state", element("span", `badge ${run.state}`, run.state), run.reason),
    cell("pipeline", run.pipeline), cell("run", link, run.name), metric, ...rest,
    cell("took number", run.seconds === null ? null : took(run.seconds)),
    cell("started", run.started && run.started.slice(0, 16).replace("T", " "), run.started),
    cell("by", run.by), cell("model", model, title), cell("data", run.source, run.source));
};
const matching = () => {
  const words = find("text").value.toLowerCase().split(/\s+/).filter(Boolean);
  const pipeline = find("pipeline").value, state = find("state").value;
  const found = runs.filter((run) => (!pipeline || run.pipeline === pipeline)
    && (!state || run.state === state) && words.every((word) => run.text.includes(word)));
  const key = sort.replace("-", ""), way = sort.startsWith("-") ? -1 : 1;
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  return found.sort((a, b) => {
    const [left, right] = [a[key] ?? null, b[key] ?? null];
    if (left === null || right === null) return (left === null) - (right === null);
    return way * compare(left, right) || compare(b.started ?? "", a.started ?? "");
  });
};
const show = () => {
  const found = matching(), visible = found.slice(0, shown);
  document.querySelector("tbody").replaceChildren(...visible.map(build));
  const [some, all] = [found.length, runs.length].map((n) => n.toLocaleString("en"));
  find("count").textContent = some === all ? `${all} runs` : `${some} of ${all} runs`;
  find("more").hidden = found.length <= shown;
  find("more").textContent = `Show ${Math.min(PAGE, found.length - shown)} more`;
  find("empty").hidden = found.length > 0;
  find("empty").textContent = runs.length ? "No run matches." : "There is no run yet.";
  for (const head of document.querySelectorAll("th[data-key]")) {
    const here = head.dataset.key === sort.replace("-", "");
    if (here) head.setAttribute("aria-sort", sort.startsWith("-") ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
};
const remember = () => {
  const kept = new URLSearchParams();
  for (const id of ["text", "pipeline", "state"]) if (find(id).value) kept.set(id, find(id).value);
  if (sort !== "-started") kept.set("sort", sort);
  const wanted = `#${kept}`;
  if (wanted !== (location.hash || "#")) location.replace(wanted);
};
const recall = () => {
  const kept = new URLSearchParams(location.hash.slice(1));
  for (const id of ["text", "pipeline", "state"]) find(id).value = kept.get(id) ?? "";
  const keys = [...document.querySelectorAll("th[data-key]")].map((head) => head.dataset.key);
  const asked = kept.get("sort") ?? "";
  sort = keys.includes(asked.replace("-", "")) ? asked : "-started";
  show();
};
const choose = (name, on) => {
  chosen = chosen.filter((one) => one !== name).concat(on ? [name] : []).slice(-2);
  const [a, b] = chosen, both = chosen.length === 2;
  find("compare").hidden = chosen.length === 0;
  find("chosen").textContent = both ? `make compare A=${a} B=${b}`
    : `${a ?? ""}: choose a second run to compare it with`;
  find("copy").hidden = !both || !navigator.clipboard;
  find("copy").textContent = "Copy";
  const served = location.pathname.includes("/reports/");
  find("side").hidden = !both || !served;
  if (both && served) find("side").href = `compare?${new URLSearchParams({ a, b })}`;
  show();
};
const fill = (id, values) => {
  const count = new Map();
  for (const run of runs) count.set(run[id], (count.get(run[id]) ?? 0) + 1);
  for (const value of values ?? [...count.keys()].sort()) {
    const option = element("option", "", `${value} (${count.get(value) ?? 0})`);
    option.value = value;
    find(id).append(option);
  }
};
fill("pipeline");
fill("state", JSON.parse(find("state").dataset.states));
for (const head of document.querySelectorAll("th[data-key]")) {
  head.firstChild.addEventListener("click", () => {
    const key = head.dataset.key;
    const first = ["value", "gain", "seconds", "started"].includes(key) ? `-${key}` : key;
    const other = first === key ? `-${key}` : key;
    sort = sort === first ? other : first;
    shown = PAGE;
    remember();
    show();
  });
}
for (const id of ["text", "pipeline", "state"]) {
  find(id).addEventListener("input", () => { shown = PAGE; show(); });
  find(id).addEventListener("change", remember);
}
document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
find("more").addEventListener("click", () => { shown += PAGE; show(); });
find("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(find("chosen").textContent);
  find("copy").textContent = "Copied";
});
find("clear").addEventListener("click", () => { chosen = []; choose("", false); });
window.addEventListener("hashchange", recall);
recall();
