/* Each figure of the page becomes a button that opens it as large as the window. */
(() => {
  "use strict";
  const { make, act } = Elements;
  const { chartsOf } = Chart;
  const HELP = matchMedia("(pointer: coarse)").matches
    ? "Two fingers zoom, one moves; a tap reads the values."
    : "Drag to zoom in, with Shift to move; the wheel zooms; a double click shows all. Keys: " +
      "← → + − 0, with Shift ← → to read, Esc.";
  const name = make("b");
  const tools = make("nav");
  const sheet = make("div", { class: "sheet" });
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
    const image = pictures[k];
    const data = dataOf(holders[k]);
    const alt = image.alt || "figure";
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
    if (data)
      buttons.push(
        act(made ? "Picture" : "Chart", made ? "Show the picture" : "Show the chart", () =>
          open(k, Boolean(made)),
        ),
      );
    if (pictures.length > 1)
      buttons.push(
        act("‹", "Figure before", () => go(-1)),
        act("›", "Next figure", () => go(1)),
      );
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
