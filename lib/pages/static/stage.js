/* Links that lead nowhere are taken away, as in MLflow; a button opens and closes all code. */
(() => {
  "use strict";
  if (!/^(file|https?):$/.test(location.protocol)) document.querySelector(".around")?.remove();

  const button = document.querySelector("header button");
  const cells = [...document.querySelectorAll("details.code")];
  const isSomeClosed = () => cells.some((cell) => !cell.open);
  const label = () => {
    button.textContent = isSomeClosed() ? "Open all code" : "Close all code";
  };
  button.hidden = cells.length === 0;
  button.addEventListener("click", () => {
    const open = isSomeClosed();
    for (const cell of cells) cell.open = open;
    label();
  });
  for (const cell of cells) cell.addEventListener("toggle", label);
  label();
})();
