"""What the cells of a notebook hold, as HTML that can only be looked at.

Outputs of a notebook are active content, so nothing in them runs: HTML is reduced to an allow-list
of tags, attributes and style properties, scripts and style sheets are dropped with their content,
SVG is shown as an image, terminal text has the colours of the page.
"""

import base64
import functools
import html
import re
from collections.abc import Mapping

import bleach
import mistune
from bleach.css_sanitizer import CSSSanitizer
from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound
from rich.ansi import AnsiDecoder
from rich.color import Color, ColorSystem
from rich.console import Console
from rich.style import Style
from rich.text import Text

TAGS = set(
    "a abbr b blockquote br caption center cite code col colgroup dd del details dfn div dl dt em "
    "figcaption figure h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s samp small span "
    "strong sub summary sup table tbody td tfoot th thead tr tt u ul var wbr progress meter".split()
)
ATTRIBUTES = set(
    "align alt class colspan dir height href id lang max min open rowspan scope span src start "
    "style title type valign value width".split()
)
# Elements whose content is code or would leave the page: dropped whole, before the allow-list.
DROPPED = re.compile(
    r"<(script|style|iframe|object|embed|template|noscript|svg|math|title|textarea|select)\b"
    r".*?(?:</\1\s*>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
IMAGE_DATA = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml)[;,]", re.IGNORECASE)
COLOURS = ("dim", "red", "green", "yellow", "blue", "magenta", "cyan", "dim")
TERMINAL = Console()
RASTER = ("image/png", "image/jpeg", "image/gif", "image/webp")
PLUGINS = ("table", "strikethrough", "task_lists", "footnotes", "def_list", "math", "url")
FOLDED_LINES = 40  # longer text outputs scroll


def text_of(value: str | list[str]) -> str:
    """Return what a notebook holds as text or as a list of lines."""
    return value if isinstance(value, str) else "".join(value)


def clean_html(text: str) -> Markup:
    """Reduce HTML to what can only be looked at: tables, text, links, embedded images."""
    return Markup(_cleaner().clean(DROPPED.sub("", text)))


@functools.cache
def _cleaner() -> bleach.Cleaner:
    return bleach.Cleaner(
        tags=TAGS,
        attributes=_allowed,
        protocols={"http", "https", "mailto", "data"},
        strip=True,
        css_sanitizer=CSSSanitizer(),
    )


def _allowed(tag: str, name: str, value: str) -> bool:
    """Say whether attribute `name` of `tag` may stay with this value."""
    if name == "src":
        return tag == "img" and IMAGE_DATA.match(value) is not None
    if name == "href":
        return tag == "a" and not value.strip().lower().startswith("data:")
    return name in ATTRIBUTES


def ansi_html(text: str) -> Markup:
    """Return terminal text as HTML: colours as classes of the page, all else as it is shown."""
    if "\x1b" not in text:
        return escape(text)
    lines = AnsiDecoder().decode(text.replace("\r\n", "\n"))
    return Markup("\n").join(map(_line, lines))


def _line(line: Text) -> Markup:
    return Markup("").join(_piece(*segment[:2]) for segment in line.render(TERMINAL))


def _piece(text: str, style: Style | None) -> Markup:
    if not text or style is None:
        return escape(text)
    words = f"{_class_of(style.color)}{' bold' if style.bold else ''}".strip()
    return Markup('<span class="{}">{}</span>').format(words, text) if words else escape(text)


def _class_of(colour: Color | None) -> str:
    """Return the class of the nearest colour of a terminal: right on light and dark pages."""
    nearest = colour.downgrade(ColorSystem.STANDARD).number if colour else None
    return "" if nearest is None else COLOURS[nearest % 8]


class _Renderer(mistune.HTMLRenderer):
    """Markdown as notebooks have it: raw HTML stays, attached images are embedded."""

    def __init__(self, attachments: Mapping) -> None:
        super().__init__(escape=False)
        self.attachments = attachments

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """Return an image; one attached to the cell comes from there."""
        for kind, content in self.attachments.get(url.removeprefix("attachment:"), {}).items():
            url = f"data:{kind};base64,{text_of(content)}"
        return super().image(text, url, title)

    def heading(self, text: str, level: int, **_attributes: object) -> str:
        """Return a heading with an id, as Jupyter names it."""
        name = re.sub(r"<[^>]*>", "", text).strip().replace(" ", "-")
        return f'<h{level} id="{html.escape(name)}">{text}</h{level}>\n'


def markdown(source: str, attachments: Mapping) -> Markup:
    """Return Markdown as HTML, where a link to another notebook leads to that one's page."""
    parse = mistune.create_markdown(renderer=_Renderer(attachments), plugins=PLUGINS)
    text = str(clean_html(str(parse(source))))  # for `re`, which would escape what it replaces
    text = re.sub(r'(class="math">)(?:\\\(|\$\$\n?)(.*?)(?:\\\)|\n?\$\$)(?=<)', r"\1\2", text)
    return Markup(re.sub(r'(<a href="[^":?#]+)\.ipynb(?=["#])', r"\1.html", text))


def highlighted(source: str, language: str) -> Markup:
    """Return code in colours, as it is where the language is not known."""
    try:
        return Markup(highlight(source, get_lexer_by_name(language), HtmlFormatter()))
    except ClassNotFound:
        return preformatted(source, "")


def preformatted(text: str, kind: str) -> Markup:
    """Return text as a terminal shows it; long text scrolls."""
    length = " long" if text.count("\n") > FOLDED_LINES else ""
    return Markup('<pre class="{}{}">{}</pre>').format(kind, length, ansi_html(text))


def shown(output: Mapping) -> Markup:
    """Return an output of a cell: what was printed, an error, or the richest safe form."""
    kind = output["output_type"]
    if kind == "stream":
        return preformatted(text_of(output["text"]), output["name"])
    if kind == "error":
        trace = "\n".join(output["traceback"]) or f"{output['ename']}: {output['evalue']}"
        return preformatted(trace, "traceback")
    return _data(output["data"])


def _data(data: Mapping) -> Markup:
    for kind in RASTER:
        if kind in data:
            return _image(kind, re.sub(r"\s", "", text_of(data[kind])))
    if "image/svg+xml" in data:
        content = base64.b64encode(text_of(data["image/svg+xml"]).encode()).decode()
        return _image("image/svg+xml", content)
    if "text/html" in data:
        text = clean_html(text_of(data["text/html"]))
        if re.sub(r"<(?!img)[^>]*>|\s", "", text):
            return text
    if "text/markdown" in data:
        return markdown(text_of(data["text/markdown"]), {})
    plain = text_of(data.get("text/plain", data.get("text/latex", "")))
    text = preformatted(plain, "result") if plain else Markup("")
    if plain and "text/html" not in data:
        return text
    return text + Markup('<p class="note">Interactive output is left out of this page.</p>')


def _image(kind: str, content: str) -> Markup:
    return Markup('<img alt="figure" src="data:{};base64,{}">').format(kind, content)
