const main = document.querySelector("main"), nav = document.querySelector("nav");
const note = nav.querySelector("b"), apart = nav.querySelector("[data-apart]");
const { page, state, pages, views, base } = main.dataset;
let frame = null, next = null, again = false, version = main.dataset.version, kept = null;
let busy = false;

function show() {  // the old report stays in sight until the new one is there
  again = next !== null || busy;
  if (again) return;
  next = document.createElement("iframe");
  next.setAttribute("sandbox", "allow-scripts");
  next.setAttribute("allow", "clipboard-write");
  next.title = document.title;
  next.src = page + (kept ? kept.hash : location.hash);
  next.addEventListener("load", () => {
    if (kept) next.contentWindow.postMessage(kept, "*");
    setTimeout(swap, kept ? 50 : 0);
  }, { once: true });
  main.append(next);
}

function swap() {
  frame?.remove();
  frame = next;
  frame.className = "shown";
  next = null;
  if (again) show();
}

// Airflow frames this page without leave to open tabs; the window on top is Airflow's own.
function click(url, target, name) {
  const link = top.document.createElement("a");
  Object.assign(link, { href: url, target, rel: "noopener noreferrer" });
  if (name) link.download = name;
  top.document.body.append(link);
  link.click();
  link.remove();
}

function follow(text, apart) {
  if (!navigator.userActivation.isActive) return;
  const url = new URL(text);
  if (url.protocol !== "http:" && url.protocol !== "https:") return;
  if (url.origin !== location.origin) return click(url, "_blank");
  if (url.pathname.startsWith(pages)) {
    if (url.pathname.endsWith(".ipynb")) return click(url, "_self", url.pathname.split("/").pop());
    const view = views + url.pathname.slice(pages.length) + url.search + url.hash;
    return apart ? click(view, "_blank") : location.assign(view);
  }
  if (url.pathname.startsWith(base + "dags/")) click(url, apart ? "_blank" : "_top");
}

addEventListener("message", ({ source, data }) => {
  if (!frame || source !== frame.contentWindow) return;
  if (typeof data?.link === "string") return follow(data.link, data.apart === true);
  if (typeof data?.scroll !== "number" || !Array.isArray(data.open)) return;
  busy = data.busy === true;  // a figure fills the window: it is not taken from under its reader
  if (again && !busy && !next) show();
  const hash = String(data.hash);
  kept = { scroll: data.scroll, open: data.open, hash: hash.startsWith("#") ? hash : "" };
  if (kept.hash !== location.hash) history.replaceState(null, "", kept.hash || location.pathname +
    location.search);
});

apart.hidden = top === window;
apart.addEventListener("click", (event) => {
  event.preventDefault();
  click(location.href, "_blank");
});

function say(text, kind = "") {
  note.textContent = text;
  note.className = kind;
  nav.hidden = !text && !nav.querySelector("a:not([hidden])");
}

async function ask() {
  let wait = 10000;
  try {
    const answer = await fetch(state, { redirect: "error" });
    if (answer.status === 401) return location.reload();
    if (!answer.ok) throw new Error(answer.status);
    const now = await answer.json();
    say(now.live ? "live" : "", now.live ? "live" : "");
    if (now.live) wait = 2000;
    if (now.version !== version) { version = now.version; show(); }
  } catch {
    say("Airflow does not answer; trying again");
  }
  setTimeout(ask, document.hidden ? 10000 : wait);
}

say("");
show();
setTimeout(ask, 1000);
