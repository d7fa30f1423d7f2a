/* What a pointer, a wheel and keys do to a chart: zoom, move, read. */
const Gestures = (() => {
  "use strict";
  const { make } = Elements;

  function listen(one, { show, zoom, move, point, all, view }) {
    const { svg } = one;
    const held = new Map();
    let chosen = null;
    let from = 0;
    let apart = 0;
    let kind = "";
    let seen = null;
    const place = (event) => event.clientX - svg.getBoundingClientRect().left;
    const gap = () => {
      const [a, b] = [...held.values()];
      return Math.abs(a - b) || 1;
    };
    svg.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
        const by = event.deltaX || event.deltaY;
        if (sideways) move(Math.sign(by) * 0.1);
        else zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 300))), one.at(place(event)));
        point(one, one.at(place(event)));
      },
      { passive: false },
    );
    svg.addEventListener("pointerdown", (event) => {
      if (event.button > 1) return;
      svg.setPointerCapture(event.pointerId);
      held.set(event.pointerId, place(event));
      from = place(event);
      const moves = event.pointerType === "touch" || event.shiftKey || event.button === 1;
      kind = moves ? "move" : "choose";
      if (held.size === 2) {
        apart = gap();
        chosen?.remove();
        chosen = null;
      }
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
      const [low, high] = view();
      const [left, right] = one.bounds();
      if (held.size === 2) {
        const now = gap();
        const [a, b] = [...held.values()];
        zoom(apart / now, one.at((a + b) / 2));
        apart = now;
      } else if (kind === "move") {
        const by = ((from - here) / (right - left)) * (high - low);
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
      const left = Number(chosen.getAttribute("x"));
      const wide = Number(chosen.getAttribute("width"));
      chosen.remove();
      chosen = null;
      if (wide > 6 && event.type === "pointerup") show(one.at(left), one.at(left + wide));
      else point(one, one.at(place(event)));
    };
    svg.addEventListener("pointerup", end);
    svg.addEventListener("pointercancel", end);
    svg.addEventListener("pointerleave", () => {
      if (!held.size) point(one, null);
    });
    svg.addEventListener("dblclick", all);
    svg.addEventListener("keydown", (event) => {
      if (event.shiftKey && event.key.startsWith("Arrow")) {
        const [low, high] = view();
        const inside = seen >= low && seen <= high;
        seen = one.next(inside ? seen : (low + high) / 2, event.key === "ArrowLeft" ? -1 : 1);
        if (seen < low || seen > high) move(seen < low ? -0.5 : 0.5);
        return point(one, seen);
      }
      const keys = {
        ArrowLeft: () => move(-0.2),
        ArrowRight: () => move(0.2),
        "+": () => zoom(0.625),
        "=": () => zoom(0.625),
        "-": () => zoom(1.6),
        0: all,
      };
      if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    });
  }

  return { listen };
})();
