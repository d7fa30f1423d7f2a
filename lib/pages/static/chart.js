/* Charts of data that lie in the page: drawn as SVG, to be zoomed, moved and read. */
const Chart = (() => {
  "use strict";
  const { moment, number, ticks, timeTicks, places, before } = Axis;
  const { listen } = Gestures;
  const { make, act } = Elements;
  const { drawn } = Series;
  const GREY = "#808080";
  const COLOURS = [
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#17becf",
    "#bcbd22",
  ];
  const EDGE = { left: 64, right: 14, top: 8, bottom: 42 };

  /* Charts below each other, with the same x, and the buttons that zoom them. */
  function chartsOf(data, title) {
    const plots = data.map((one) => plot(one, title));
    const body = make("div", { class: "charts" }, ...plots.flatMap((one) => [one.legend, one.box]));
    const all = [
      Math.min(...plots.map((one) => one.x[0])),
      Math.max(...plots.map((one) => one.x.at(-1))),
    ];
    if (all[0] === all[1]) {
      all[0] -= 1;
      all[1] += 1;
    }
    const room = (all[1] - all[0]) * (data.every((one) => one.x.time) ? 0.005 : 0.03);
    const full = [all[0] - room, all[1] + room];
    const first = data[0].view || full;
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
    const tools = [
      act("−", "Zoom out", () => zoom(1.6)),
      act("+", "Zoom in", () => zoom(0.625)),
      act("All", "Show everything", everything),
    ];
    if (data[0].view) tools.push(act("Reset", "As it was first", () => show(...first)));
    return { body, tools };
  }

  /* One chart: its legend, its box, and what draws it for a stretch of x. */
  function plot(data, title) {
    const x = places(data.x, data.series[0].values.length);
    const whole = x.every(Number.isInteger) && !data.x.time;
    const svg = make("svg:svg", { tabindex: 0, role: "img" });
    const read = make("div", { class: "read", hidden: "" });
    const box = make("div", { class: "plot" }, svg, read);
    const hidden = new Set([...data.series.keys()].filter((k) => data.series[k].hidden));
    let view = [x[0], x[x.length - 1]];
    let size = [0, 0];
    let low = 0;
    let high = 1;
    let n = 0;
    const colours = data.series.map((one) => (one.muted ? GREY : COLOURS[n++ % COLOURS.length]));
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
    const across = (value) => ((value - view[0]) / (view[1] - view[0])) * width();
    const down = (value) => (1 - (value - low) / (high - low)) * height();
    const at = (pixel) => view[0] + ((pixel - EDGE.left) / width()) * (view[1] - view[0]);
    const say = (value, full) => (data.x.time ? moment(value, full) : number(value));

    /* The stretch of y that what is shown takes. */
    function fit(from, to) {
      let least = Infinity;
      let most = -Infinity;
      data.series.forEach((one, k) => {
        if (hidden.has(k)) return;
        for (let row = from; row < to; row += 1) {
          const value = one.values[row];
          if (value === null) continue;
          if (value < least) least = value;
          if (value > most) most = value;
        }
        if (one.kind === "area") {
          least = Math.min(least, 0);
          most = Math.max(most, 0);
        }
      });
      if (least > most) [least, most] = [0, 1];
      const room = (most - least) * 0.06 || Math.abs(most) * 0.1 || 1;
      return [least === 0 ? 0 : least - room, most + room];
    }

    function draw(wanted) {
      view = wanted;
      size = [box.clientWidth, box.clientHeight];
      if (width() < 20 || height() < 20) return;
      read.hidden = true;
      const from = Math.max(0, before(x, view[0]) - 1);
      const to = Math.min(x.length, before(x, view[1]) + 2);
      [low, high] = fit(from, to);
      const place = { width: width(), across: (row) => across(x[row]), down };
      const inner = make("svg:svg", {
        x: EDGE.left,
        y: EDGE.top,
        width: width(),
        height: height(),
        class: "inner",
      });
      const outer = [];
      const line = (x1, y1, x2, y2, kind) => make("svg:line", { x1, y1, x2, y2, class: kind });
      for (const value of ticks(low, high, height() / 45)) {
        const y = down(value) + EDGE.top;
        outer.push(
          line(EDGE.left, y, size[0] - EDGE.right, y, "grid"),
          make(
            "svg:text",
            { x: EDGE.left - 8, y: y + 4, "text-anchor": "end", class: "y" },
            number(value),
          ),
        );
      }
      const count = width() / 90;
      const marks = data.x.time ? timeTicks(...view, count) : ticks(...view, count, whole);
      for (const value of marks) {
        const left = across(value) + EDGE.left;
        outer.push(
          line(left, EDGE.top, left, size[1] - EDGE.bottom, "grid"),
          make(
            "svg:text",
            { x: left, y: size[1] - EDGE.bottom + 16, "text-anchor": "middle", class: "x" },
            say(value),
          ),
        );
      }
      for (const kinds of [["area"], ["line", "step"], ["points"]])
        data.series.forEach((one, k) => {
          if (kinds.includes(one.kind) && !hidden.has(k))
            inner.append(...drawn(one, colours[k], from, to, place));
        });
      const middle = EDGE.top + height() / 2;
      outer.push(
        inner,
        make("svg:rect", {
          x: EDGE.left,
          y: EDGE.top,
          width: width(),
          height: height(),
          class: "frame",
        }),
        make(
          "svg:text",
          { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` },
          data.y.label,
        ),
      );
      const shown = `${say(view[0], true)} to ${say(view[1], true)}`;
      outer.push(
        make(
          "svg:text",
          { x: EDGE.left + width() / 2, y: size[1] - 6, "text-anchor": "middle" },
          data.x.time ? `${data.x.label}, ${shown}` : data.x.label,
        ),
      );
      svg.replaceChildren(...outer);
      svg.setAttribute("aria-label", `${title}: ${data.y.label}, ${data.x.label} ${shown}`);
    }

    function nearest(value) {
      const row = before(x, value);
      return row > 0 && (row === x.length || value - x[row - 1] < x[row] - value) ? row - 1 : row;
    }

    /* Mark the row nearest to `value`; the chart that is `mine` says its values. */
    function point(value, mine) {
      svg.querySelectorAll(".at, .dot").forEach((node) => node.remove());
      read.hidden = true;
      if (value === null) return;
      const row = nearest(value);
      if (x[row] < view[0] || x[row] > view[1]) return;
      const left = across(x[row]);
      const inner = svg.querySelector(".inner");
      if (!inner) return;
      inner.append(make("svg:line", { x1: left, x2: left, y1: 0, y2: height(), class: "at" }));
      const words = [
        make(
          "p",
          {},
          make("b", {}, data.x.time ? say(x[row], true) : `${data.x.label} ${say(x[row])}`),
        ),
      ];
      data.series.forEach((one, k) => {
        const found = one.values[row];
        if (hidden.has(k) || found === null) return;
        inner.append(
          make("svg:circle", { cx: left, cy: down(found), r: 4, fill: colours[k], class: "dot" }),
        );
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
    return {
      x,
      svg,
      box,
      legend,
      draw,
      point,
      next,
      at,
      bounds: () => [EDGE.left, size[0] - EDGE.right, EDGE.top, height()],
    };
  }

  return { chartsOf };
})();
