/* How one series looks: `place` says where a row and a value lie in the chart, in pixels. */
const Series = (() => {
  "use strict";
  const { make } = Elements;

  /* The rows to draw: at most four for each pixel, so that zooming is quick. */
  function trace(one, from, to, place) {
    const { values } = one;
    const rows = [];
    if (to - from <= 4 * place.width) {
      for (let row = from; row < to; row += 1) rows.push(row);
      return rows;
    }
    let column = null;
    let kept = [];
    const flush = () => {
      rows.push(...new Set(kept.sort((a, b) => a - b)));
      kept = [];
    };
    for (let row = from; row < to; row += 1) {
      const here = values[row] === null ? null : Math.floor(place.across(row));
      if (here === null || here !== column) {
        flush();
        kept = [row, row, row, row];
      } else
        kept = [
          kept[0],
          values[row] < values[kept[1]] ? row : kept[1],
          values[row] > values[kept[2]] ? row : kept[2],
          row,
        ];
      column = here;
    }
    flush();
    return rows;
  }

  /* The line through some rows; a missing value is a gap. */
  function path(one, rows, place) {
    let text = "";
    let open = false;
    let start = 0;
    let end = 0;
    let y = 0;
    const spot = (left, top) => `${left.toFixed(1)},${top.toFixed(1)}`;
    const close = () => {
      if (open && one.kind === "area")
        text += `L${spot(end, place.down(0))}L${spot(start, place.down(0))}Z`;
      open = false;
    };
    for (const row of rows) {
      const value = one.values[row];
      if (value === null) {
        close();
        continue;
      }
      end = place.across(row);
      if (!open) start = end;
      if (open && one.kind === "step") text += `L${spot(end, y)}`;
      y = place.down(value);
      text += `${open ? "L" : "M"}${spot(end, y)}`;
      open = true;
    }
    close();
    return text;
  }

  /* One series as elements of SVG, from row `from` to before row `to`. */
  function drawn(one, colour, from, to, place) {
    const rows = trace(one, from, to, place);
    const alone = rows.filter(
      (row, k) =>
        one.values[row] !== null &&
        (one.kind === "points" ||
          (rows.length < 60 && one.kind === "line") ||
          ((one.values[rows[k - 1]] ?? null) === null &&
            (one.values[rows[k + 1]] ?? null) === null)),
    );
    const parts = [];
    if (one.kind !== "points") {
      const area = one.kind === "area";
      parts.push(
        make("svg:path", {
          d: path(one, rows, place),
          "stroke-width": 1.6,
          "stroke-linejoin": "round",
          stroke: area ? "none" : colour,
          fill: area ? colour : "none",
          "fill-opacity": 0.35,
        }),
      );
    }
    for (const row of alone)
      parts.push(
        make("svg:circle", {
          cx: place.across(row).toFixed(1),
          cy: place.down(one.values[row]).toFixed(1),
          r: one.kind === "points" ? 4 : 2.5,
          fill: colour,
        }),
      );
    return parts;
  }

  return { drawn };
})();
