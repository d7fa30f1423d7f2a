/* New elements. */
const Elements = (() => {
  "use strict";
  // a namespace without its address, which would look like one that the page fetches
  const drawing = document.createElement("template");
  drawing.innerHTML = "<svg></svg>";
  const SVG = drawing.content.firstChild.namespaceURI;

  function make(name, attributes = {}, ...children) {
    const node = name.startsWith("svg:")
      ? document.createElementNS(SVG, name.slice(4))
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

  return { make, act };
})();
