"""Executed notebooks as HTML pages that stand alone.

One file per notebook: no network, figures inside, readable on a phone and in the dark, code folded
away. Outputs of a notebook are active content, so nothing in them runs: HTML is reduced to an
allow-list of tags, attributes and style properties, scripts and style sheets are dropped with
their content, SVG is shown as an image, and a Content-Security-Policy lets the browser run the
page's own few lines of script (named by their hash) and fetch nothing.

The page of a stage of a run leads on, by addresses that are relative to the run folder: to all
runs, to its run, to the stages before and after, and into JupyterLab. Where they lead nowhere, as
in MLflow's view of artifacts, the page's script takes them away.
"""

import base64
import functools
import html
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from lib import addresses, chart_file, outcome
from lib.pages import viewer
from lib.pages.html import document, duration, static
from lib.pages.summary import PAGE
from lib.run import ROOT, STARTED, outputs_dir, stage_title, write_bytes

import bleach
import mistune
from bleach.css_sanitizer import CSSSanitizer
from markupsafe import Markup
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound
from upath import UPath

TAGS = set(
    "a abbr b blockquote br caption center cite code col colgroup dd del details dfn div dl dt em "
    "figcaption figure h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s samp small span "
    "strong sub summary sup table tbody td tfoot th thead tr tt u ul var wbr progress meter".split()
)
ATTRIBUTES = set(
    "align alt class colspan dir height href id lang max min open rowspan scope span src start "
    "style title type valign value width".split()
)
STYLES = [
    *"background-color border border-bottom border-collapse border-left".split(),
    *"border-radius border-right border-spacing border-top color font-family font-size".split(),
    *"font-style font-variant font-weight height letter-spacing line-height".split(),
    *"margin margin-bottom margin-left margin-right margin-top max-width min-width".split(),
    *"padding padding-bottom padding-left padding-right padding-top text-align".split(),
    *"text-decoration text-indent vertical-align white-space width".split(),
]
# Elements whose content is code or would leave the page: dropped whole, before the allow-list.
DROPPED = re.compile(
    r"<(script|style|iframe|object|embed|template|noscript|svg|math|title|textarea|select)\b"
    r".*?(?:</\1\s*>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
IMAGE_DATA = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml)[;,]", re.IGNORECASE)
ANSI_CODE = re.compile(r"\x1b\[([0-9;]*)m|\x1b\[[0-9;?]*[A-Za-ln-z]")
WRITTEN = re.compile(r'run\.write\(\s*"([\w.-]+\.png)"')
PNG = b"\x89PNG\r\n"
COLOURS = ("dim", "red", "green", "yellow", "blue", "magenta", "cyan", "dim")
RASTER = ("image/png", "image/jpeg", "image/gif", "image/webp")
FOLDED_LINES = 40  # longer text outputs scroll
STAGE = re.compile(r"(\d+_\w+)(?:\.attempt-\d+)?", re.ASCII)
OPENING = "A copy of the stage with its inputs, while make lab or make up runs"
INDEX = "../../index.html"

CSS = """
.around { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; font-size: .875rem; margin: 0 0 .6rem;
  color: var(--dim); }
.around span { margin-left: auto; } .around span a + a { margin-left: 1.1rem; }
header { border-bottom: 1px solid var(--line); margin-bottom: 1rem; padding-bottom: .75rem; }
header p { margin: .35rem 0 0; display: flex; flex-wrap: wrap; gap: .3rem 1.1rem;
  align-items: baseline; color: var(--dim); font-size: .875rem; }
header .name { color: var(--ink); font-weight: 650; font-size: 1.05rem; }
blockquote { margin: .5rem 0; padding: .1rem 1rem; border-left: 3px solid var(--line);
  color: var(--dim); }
.code { margin: .9rem 0 .3rem; border: 1px solid var(--line); border-radius: .5rem;
  background: var(--soft); overflow: hidden; }
summary { display: flex; gap: .75rem; padding: .3rem .75rem; cursor: pointer; color: var(--dim);
  font-size: .8125rem; list-style: none; }
summary::-webkit-details-marker { display: none; }
summary::before { content: "+"; width: .7em; font-weight: 700; }
details[open] > summary::before { content: "-"; }
summary code { flex: 1; min-width: 0; background: none !important; padding: 0 !important;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; color: var(--com); }
details[open] > summary > code { visibility: hidden; }
summary .label { white-space: nowrap; }
.code > pre, .code > .highlight > pre { padding: .4rem .75rem .7rem; }
.output { margin: .4rem 0 1rem; overflow-x: auto; }
.output pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.output pre.long { max-height: 28rem; overflow-y: auto; border: 1px solid var(--line);
  border-radius: .5rem; padding: .5rem .75rem; }
.output .stderr { color: var(--dim); }
.output img { max-width: 100%; height: auto; border-radius: .25rem; background: #fff; }
.note { color: var(--dim); font-size: .8125rem; }
.output td, .output th { text-align: right; white-space: nowrap; }
thead th { font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 500; color: var(--dim); }
.text table { display: block; overflow-x: auto; }
.report { border: 1px solid var(--bad); border-radius: .5rem; background: var(--bad-soft);
  padding: .25rem 1rem .75rem; margin: 1rem 0; }
.report strong, .here { color: var(--bad); }
.report .highlight:first-of-type pre, .report pre:first-of-type { font-weight: 650;
  margin-bottom: .5rem; }
.report pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.here { font-size: .875rem; font-weight: 600; margin: 1.5rem 0 0; }
.here p { margin: 0; }
.cell.failed { border-left: 4px solid var(--bad); padding-left: .75rem; margin-left: -1rem; }
.cell.failed .error { background: var(--bad-soft); border-radius: .5rem; padding: .5rem .75rem; }
.cell.pending { opacity: .45; }
.cell.running > .code { border-color: var(--wait); }
.k, .kn, .kc, .kd, .kr, .ow { color: var(--kw); } .s, .s1, .s2, .sa, .sd, .si, .se, .sb, .sr {
  color: var(--str); } .m, .mi, .mf, .mh, .mb, .mo { color: var(--num); } .c, .c1, .cm, .cs {
  color: var(--com); font-style: italic; } .nf, .nc, .nd, .nb, .bp, .nn { color: var(--fn); }
.bold { font-weight: 700; } .dim { color: var(--dim); } .red { color: var(--bad); }
.green { color: var(--good); } .yellow { color: var(--wait); } .blue, .cyan { color: var(--fn); }
.magenta { color: var(--kw); } .math { font-family: ui-monospace, monospace; }
@media (max-width: 36rem) { body { font-size: .9375rem; } h1 { font-size: 1.4rem; }
  td, th { padding: .2rem .45rem; } .cell.failed { margin-left: -.5rem; padding-left: .5rem; } }
@media print { .code, button, .around { display: none; } body { max-width: none; } }
"""

SCRIPT = (
    f"""
if (!/^(file|https?):$/.test(location.protocol)) document.querySelector(".around")?.remove();
{static("unlink.js")}"""
    + """
const button = document.querySelector("button");
const cells = [...document.querySelectorAll("details.code")];
const label = () => { const open = cells.some((cell) => !cell.open);
  button.textContent = open ? "Open all code" : "Close all code"; return open; };
button.hidden = cells.length === 0;
button.addEventListener("click", () => { const open = label();
  cells.forEach((cell) => { cell.open = open; }); label(); });
cells.forEach((cell) => cell.addEventListener("toggle", label));
label();
"""
)


def write_html(notebook_path: UPath | str) -> UPath:
    """Write an executed notebook as a page of HTML beside it.

    Parameters
    ----------
    notebook_path : UPath or str
        The notebook, a local path or an fsspec URL.

    Returns
    -------
    UPath
        The page: the same name with suffix ``.html``.
    """
    path = UPath(notebook_path)
    page = path.with_suffix(".html")
    notebook = outcome.read_notebook(path)
    name, links = f"{path.parent.name}/{path.stem}", around(path, notebook)
    text = render(notebook, name, figures(path), links=links)
    write_bytes(page, text.encode())
    return page


def figures(notebook_path: UPath) -> Callable[[str], str]:
    """Return what gives HTML for a figure by the name of its file, as it lies beside a notebook.

    It gives "" where there is no such file. An earlier attempt has left none: its stage has written
    them anew.
    """

    def figure(name: str) -> str:
        path = notebook_path.with_name(name)
        try:
            content = path.read_bytes() if ".attempt-" not in notebook_path.name else b""
            panels = chart_file.beside(path) if content.startswith(PNG) else []
        except OSError:
            return ""
        except ValueError:  # no chart: the run's page says so
            panels = []
        label = name.removesuffix(".png").replace("_", " ")
        return viewer.image(content, label, panels) if content.startswith(PNG) else ""

    return figure


def around(path: UPath, notebook: Mapping | None = None) -> str:
    """Return the links from the page of a stage to those around it; "" outside of a run folder.

    Parameters
    ----------
    path : UPath
        The executed notebook, or where it will be.
    notebook : mapping, optional
        What it holds; None while it has not begun.

    Returns
    -------
    str
        HTML. The stage after this one is linked if it has a page, or will have one: not if this
        one has failed, or the run was closed.
    """
    folder, stage = path.parent, STAGE.fullmatch(path.stem)
    if not stage or folder.parent.parent != outputs_dir() or not (folder / STARTED).exists():
        return ""
    pipeline = folder.parent.name
    planned = {p.stem for p in (ROOT / "notebooks" / pipeline).glob("[0-9]*.ipynb")}
    executed = {p.stem for p in folder.glob("[0-9]*.ipynb") if STAGE.fullmatch(p.stem)}
    stages = sorted({name for name in planned | executed if "." not in name} | {stage[1]})
    at = stages.index(stage[1])
    is_going_on = notebook is not None and outcome.state(notebook) in ("running", "completed")
    is_going_on &= b'"closed"' not in (folder / STARTED).read_bytes()
    before = [name for name in stages[:at][-1:] if name in executed]
    after = [name for name in stages[at + 1 :][:1] if name in executed or is_going_on]
    steps = [_step(name, "← {}") for name in before] + [_step(name, "{} →") for name in after]
    run = html.escape(f"{pipeline} / {folder.name}")
    opening = ""
    if notebook is not None:
        address = html.escape(addresses.open_stage_link(f"{pipeline}/{folder.name}", stage[1]))
        opening = f'<a href="{address}" title="{OPENING}">Open in JupyterLab</a>'
    return (
        f'<nav class="around" aria-label="Around this stage"><a href="{INDEX}">All runs</a>'
        f'<a href="{PAGE}">{run}</a>{opening}<span>{"".join(steps)}</span></nav>'
    )


def _step(stage: str, arrow: str) -> str:
    text = html.escape(arrow.format(stage_title(stage)))
    return f'<a href="{stage}.html">{text}</a>'


def render(
    notebook: Mapping,
    name: str,
    figure: Callable[[str], str] = lambda _name: "",
    *,
    links: str = "",
) -> str:
    """Return the page for `notebook`.

    Parameters
    ----------
    notebook : mapping
        A notebook of nbformat 4 as JSON, executed or not.
    name : str
        What to call it where it has no heading of its own.
    figure : callable, optional
        Gives HTML for a figure that a cell has written, by the name of the file, or "" for the
        small picture in the notebook; see `figures`.
    links : str, default ""
        HTML that stands above everything, from `around`.

    Returns
    -------
    str
        A complete HTML document that refers to nothing outside of itself.
    """
    language = notebook["metadata"].get("kernelspec", {}).get("language", "python")
    cells = notebook["cells"]
    body = "\n".join(_cell(cell, language, figure) for cell in cells)
    return document(
        _title(cells) or name,
        Markup(f"{links}{_header(notebook, name)}\n<main>\n{body}\n</main>"),
        *viewer.FILES,
        css=CSS,
        script=SCRIPT,
    )


def clean_html(text: str) -> str:
    """Reduce HTML to what can only be looked at: tables, text, links, embedded images."""
    return _cleaner().clean(DROPPED.sub("", text))


@functools.cache
def _cleaner() -> bleach.Cleaner:
    return bleach.Cleaner(
        tags=TAGS,
        attributes=_allowed,
        protocols={"http", "https", "mailto", "data"},
        strip=True,
        css_sanitizer=CSSSanitizer(allowed_css_properties=STYLES),
    )


def _allowed(tag: str, name: str, value: str) -> bool:
    """Say whether attribute `name` of `tag` may stay with this value."""
    if name == "src":
        return tag == "img" and IMAGE_DATA.match(value) is not None
    if name == "href":
        return tag == "a" and not value.strip().lower().startswith("data:")
    return name in ATTRIBUTES


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def _title(cells: list) -> str:
    for cell in cells:
        if cell["cell_type"] == "markdown" and not outcome.is_marker(cell):
            match = re.search(r"^#\s+(.+?)\s*#*$", outcome.source_text(cell), re.MULTILINE)
            if match:
                return match[1]
    return ""


def _header(notebook: Mapping, name: str) -> str:
    state = outcome.state(notebook)
    record = notebook["metadata"].get("papermill", {})
    facts = [f'<span class="badge">{state}</span>']
    if record.get("start_time"):
        start = datetime.fromisoformat(record["start_time"]).astimezone(UTC)
        facts.append(f"<span>started {start:%Y-%m-%d %H:%M:%S} UTC</span>")
    if record.get("duration") is not None:
        facts.append(f"<span>took {duration(record['duration'])}</span>")
    if record.get("peak_memory_bytes"):
        facts.append(f"<span>memory {record['peak_memory_bytes'] / 2**20:,.0f} MiB</span>")
    facts.append("<button hidden></button>")
    return (
        f'<header class="{state.replace(" ", "-")}"><span class="name">{html.escape(name)}</span>'
        f"<p>{''.join(facts)}</p></header>"
    )


def _cell(cell: Mapping, language: str, figure: Callable[[str], str]) -> str:
    source = outcome.source_text(cell)
    status = cell["metadata"].get("papermill", {}).get("status") or ""
    if cell["cell_type"] == "markdown":
        text = _markdown(source, cell.get("attachments", {}))
        if outcome.is_marker(cell):
            kind = "here" if f'id="{outcome.ANCHOR}"' in source else "report"
        else:
            kind = f"cell text {status}"
        return f'<section class="{kind}">{text}</section>'
    if cell["cell_type"] != "code":
        return f'<section class="cell text"><pre>{html.escape(source)}</pre></section>'
    outputs = _outputs(cell, source, figure)
    return (
        f'<section class="cell {html.escape(status)}">{_code(cell, source, status, language)}'
        f"{outputs}</section>"
    )


def _outputs(cell: Mapping, source: str, figure: Callable[[str], str]) -> str:
    """Return what a cell has shown, and the figure it has written for its small picture."""
    names = WRITTEN.findall(source)
    pictures = [output for output in cell["outputs"] if "image/png" in output.get("data", {})]
    large = figure(names[0]) if len(names) == len(pictures) == 1 else ""
    return "\n".join(
        f'<div class="output"><figure>{large}</figure></div>'
        if large and output is pictures[0]
        else _output(output)
        for output in cell["outputs"]
    )


def _code(cell: Mapping, source: str, status: str, language: str) -> str:
    """Return the folded source of a code cell; empty cells show nothing."""
    if not source.strip():
        return ""
    tags = cell["metadata"].get("tags", [])
    record = cell["metadata"].get("papermill", {})
    is_open = status == "failed" or "parameters" in tags or "injected-parameters" in tags
    label = "parameters of this run" if "injected-parameters" in tags else ""
    label = "defaults" if "parameters" in tags else label
    if status == "failed":
        label = "failed"
    elif status == "pending":
        label = "not run"
    elif (record.get("duration") or 0) >= 0.1:
        label = label or duration(record["duration"])
    first = next(line for line in source.splitlines() if line.strip())
    count = cell.get("execution_count") or " "
    return (
        f'<details class="code"{" open" if is_open else ""}><summary>'
        f'<span class="label">[{count}]</span><code>{html.escape(first)}</code>'
        f'<span class="label">{label}</span></summary>{_highlighted(source, language)}</details>'
    )


def _highlighted(source: str, language: str) -> str:
    try:
        return highlight(source, get_lexer_by_name(language), HtmlFormatter())
    except ClassNotFound:
        return f"<pre>{html.escape(source)}</pre>"


def ansi_html(text: str) -> str:
    """Return terminal text as HTML: colours as classes of the page, all else as it is shown."""
    parts: list[str] = []
    colour, bold, at = "", False, 0
    for match in [*ANSI_CODE.finditer(text), None]:
        piece = html.escape(text[at : match.start() if match else None])
        style = f"{colour}{' bold' if bold else ''}".strip()
        parts.append(f'<span class="{style}">{piece}</span>' if style and piece else piece)
        if match:
            at = match.end()
            if match[1] is not None:
                colour, bold = _ansi_state(match[1], colour, bold=bold)
    return "".join(parts)


def _ansi_state(codes: str, colour: str, *, bold: bool) -> tuple[str, bool]:
    """Return colour and weight after a sequence of terminal codes (ECMA-48, SGR)."""
    numbers = [int(code or 0) for code in codes.split(";")]
    while numbers:
        number = numbers.pop(0)
        if number == 0:
            colour, bold = "", False
        elif number in (1, 22):
            bold = number == 1
        elif number == 39:
            colour = ""
        elif 30 <= number <= 37 or 90 <= number <= 97:
            colour = COLOURS[number % 10]
        elif number in (38, 48):
            red_green_blue = _extended_colour(numbers)
            if number == 38:
                colour = _nearest(red_green_blue)
    return colour, bold


def _extended_colour(numbers: list[int]) -> tuple[int, ...]:
    """Take a colour of 256 or of 24 bits from the front of `numbers`; return it as RGB."""
    if numbers[:1] == [2]:
        colour = tuple(numbers[1:4])
        del numbers[:4]
        return colour
    index = numbers[1] if len(numbers) > 1 else 0
    del numbers[:2]
    if index < 16:
        return tuple(255 * (index >> bit & 1) for bit in range(3))
    if index < 232:
        return tuple((index - 16) // 6**power % 6 for power in (2, 1, 0))  # a cube of 6 x 6 x 6
    return (1, 1, 1)


def _nearest(colour: tuple[int, ...]) -> str:
    """Return the class whose hue is nearest: contrast is then right on light and dark pages."""
    strong = max(colour, default=0)
    bits = [strong > 0 and 2 * channel > strong for channel in colour]
    return COLOURS[sum(bit << power for power, bit in enumerate(bits))]


class _Renderer(mistune.HTMLRenderer):
    """Markdown as notebooks have it: raw HTML stays, attached images are embedded."""

    def __init__(self, attachments: Mapping) -> None:
        super().__init__(escape=False)
        self.attachments = attachments

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """Return an image; one attached to the cell comes from there."""
        for kind, content in self.attachments.get(url.removeprefix("attachment:"), {}).items():
            url = f"data:{kind};base64,{_text(content)}"
        return super().image(text, url, title)

    def heading(self, text: str, level: int, **_attributes: object) -> str:
        """Return a heading with an id, as Jupyter names it."""
        name = re.sub(r"<[^>]*>", "", text).strip().replace(" ", "-")
        return f'<h{level} id="{html.escape(name)}">{text}</h{level}>\n'


def _markdown(source: str, attachments: Mapping) -> str:
    plugins = ["table", "strikethrough", "task_lists", "footnotes", "def_list", "math", "url"]
    parse = mistune.create_markdown(renderer=_Renderer(attachments), plugins=plugins)
    text = clean_html(str(parse(source)))
    text = re.sub(r'(class="math">)(?:\\\(|\$\$\n?)(.*?)(?:\\\)|\n?\$\$)(?=<)', r"\1\2", text)
    return re.sub(r'(<a href="[^":?#]+)\.ipynb(?=["#])', r"\1.html", text)  # its own page


def _output(output: Mapping) -> str:
    kind = output["output_type"]
    if kind == "stream":
        return f'<div class="output">{_pre(_text(output["text"]), output["name"])}</div>'
    if kind == "error":
        trace = "\n".join(output["traceback"]) or f"{output['ename']}: {output['evalue']}"
        return f'<div class="output error">{_pre(trace, "traceback")}</div>'
    return f'<div class="output">{_data(output["data"])}</div>'


def _pre(text: str, kind: str) -> str:
    length = " long" if text.count("\n") > FOLDED_LINES else ""
    return f'<pre class="{html.escape(kind)}{length}">{ansi_html(text)}</pre>'


def _data(data: Mapping) -> str:
    """Return the richest form of a result that is safe to show."""
    for kind in RASTER:
        if kind in data:
            content = re.sub(r"\s", "", _text(data[kind]))
            return f'<img alt="figure" src="data:{kind};base64,{html.escape(content)}">'
    if "image/svg+xml" in data:
        content = base64.b64encode(_text(data["image/svg+xml"]).encode()).decode()
        return f'<img alt="figure" src="data:image/svg+xml;base64,{content}">'
    if "text/html" in data:
        text = clean_html(_text(data["text/html"]))
        if re.sub(r"<(?!img)[^>]*>|\s", "", text):
            return text
    if "text/markdown" in data:
        return _markdown(_text(data["text/markdown"]), {})
    plain = _text(data.get("text/plain", data.get("text/latex", "")))
    note = '<p class="note">Interactive output is left out of this page.</p>'
    shown = _pre(plain, "result") if plain else ""
    return shown + (note if "text/html" in data or not shown else "")
