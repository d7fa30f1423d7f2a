if (parent !== window) {
  const folds = () => [...document.querySelectorAll("details")];
  const tell = () => parent.postMessage({ scroll: scrollY, hash: location.hash,
    open: folds().map((fold) => fold.open), busy: !!document.querySelector("dialog[open]") }, "*");
  const follow = (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || link.getAttribute("href").startsWith("#") || event.button > 1) return;
    event.preventDefault();
    const apart = event.button === 1 || event.ctrlKey || event.metaKey || link.target === "_blank";
    parent.postMessage({ link: link.href, apart }, "*");
  };
  addEventListener("click", follow);
  addEventListener("auxclick", follow);
  addEventListener("message", ({ source, data }) => {
    if (source !== parent) return;
    folds().forEach((fold, index) => { fold.open = data.open[index] ?? fold.open; });
    scrollTo({ top: data.scroll, behavior: "instant" });
  });
  let due = 0;
  const soon = () => { clearTimeout(due); due = setTimeout(tell, 100); };
  for (const name of ["scroll", "toggle", "hashchange", "click", "input", "change", "close"])
    addEventListener(name, soon, { capture: true, passive: true });
}
