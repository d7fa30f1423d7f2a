/* Where the marks of an axis stand and how its values are written: numbers, and times. */
const Axis = (() => {
  "use strict";
  const MINUTE = 60;
  const HOUR = 3600;
  const DAY = 86400;
  // between two marks of time, in seconds; above two weeks marks are months
  const SPANS = [
    ...[1, 2, 5, 10, 15, 30],
    ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE),
    ...[1, 2, 3, 6, 12].map((n) => n * HOUR),
    ...[1, 2, 7, 14].map((n) => n * DAY),
  ];
  const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

  const two = (number) => String(number).padStart(2, "0");

  /* The clock as it was written, wherever the reader is. */
  function moment(seconds, full) {
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

  /* About `count` round numbers from `low` to `high`. */
  function ticks(low, high, count, whole) {
    const raw = (high - low) / Math.max(count, 1);
    const power = 10 ** Math.floor(Math.log10(raw));
    let step = [1, 2, 5, 10].find((n) => n * power >= raw * 0.999) * power;
    if (whole) step = Math.max(1, Math.round(step));
    const found = [];
    for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1)
      found.push(n * step);
    return found;
  }

  /* About `count` round times from `low` to `high`. */
  function timeTicks(low, high, count) {
    const span = (high - low) / Math.max(count, 1);
    const step = SPANS.find((n) => n >= span);
    const found = [];
    if (step) {
      const from = step >= 7 * DAY ? 4 * DAY : 0; // weeks begin on Monday; 1970 on a Thursday
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

  /* Where the rows lie, from the first one and the step or the steps to the others. */
  function places({ start, steps }, rows) {
    const x = [start];
    for (let k = 1; k < rows; k += 1)
      x.push(Array.isArray(steps) ? x[k - 1] + steps[k - 1] : start + k * steps);
    return x;
  }

  /* How many of the ordered numbers `x` lie left of `value`. */
  function before(x, value) {
    let low = 0;
    let high = x.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (x[middle] < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  return { moment, number, ticks, timeTicks, places, before };
})();
