"""What every page of this project shares: templates, policy, numbers, the frame of a document.

A page is one file: no network, style and script inside, readable on a phone, in the dark and on
paper. A Content-Security-Policy lets the browser run the page's own script, named by its hash, and
fetch nothing. Pages are made by `render` from the files in `templates/`, which escapes whatever
goes into them, and by `document`, which puts files of `static/` into the page. A name that a
template asks for and is not given is an error.
"""

import base64
import functools
import hashlib
import math
import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from lib.ground.console import redact

import jinja2
from markupsafe import Markup

HERE = Path(__file__).parent
DIGITS = 4  # significant ones, of the largest of the numbers that are compared
OWN_DIGITS = 3  # of the one that they are compared with
MOST_DECIMALS = 9
ZERO = 1e-12  # what computing with floats leaves of a zero
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">')
SCRIPTS = re.compile("script-src(?: 'none')?")


def render(template: str, **facts: object) -> Markup:
    """Return the HTML that a template makes of plain data, all of it escaped.

    Parameters
    ----------
    template : str
        Name of a file in `templates/`.
    **facts : object
        What the template names. Text is escaped; `Markup` is HTML that is known to be safe.

    Returns
    -------
    Markup
        Safe to be put into another template as it is.

    Raises
    ------
    jinja2.UndefinedError
        If the template names something that is not there.
    """
    return Markup(_environment().get_template(template).render(facts))


def document(title: str, body: Markup, *files: str, policy: str = "") -> str:
    """Return a complete HTML document that refers to nothing outside of itself.

    Parameters
    ----------
    title : str
        Plain text.
    body : Markup
        Of `render`; plain text would be escaped.
    *files : str
        Names of style sheets and scripts in `static/`, put into the page in this order after
        `page.css`. The scripts run as one, when the body is there.
    policy : str, default ""
        Directives of the policy for what this page does beyond, ``frame-src 'self'`` for example.

    Returns
    -------
    str
    """
    script = "\n".join(static(name) for name in files if name.endswith(".js"))
    css = "\n".join(static(name) for name in ("page.css", *files) if name.endswith(".css"))
    allowed = f"'sha256-{digest(script)}'" if script else "'none'"
    whole = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; "
        f"base-uri 'none'; form-action 'none'{policy and '; '}{policy}"
    )
    parts = {"policy": Markup(whole), "css": Markup(css), "script": Markup(script)}
    made = render("document.html", title=title, body=body, **parts)
    return f"{made}\n"


@functools.cache
def static(name: str) -> str:
    """Return the text of a style sheet or script in `static/`."""
    return (HERE / "static" / name).read_text(encoding="utf-8")


def _compiled() -> jinja2.FileSystemBytecodeCache | None:
    """Return where compiled templates are kept: beside them, as Python keeps modules."""
    place = HERE / "templates" / "__pycache__"
    with suppress(OSError):
        if not sys.dont_write_bytecode:
            place.mkdir(exist_ok=True)
    return jinja2.FileSystemBytecodeCache(str(place)) if os.access(place, os.W_OK) else None


@functools.cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        bytecode_cache=_compiled(),
    )
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    filters = (duration, memory, number, plain, public, sentence, when)
    made.filters |= {one.__name__: one for one in filters}
    return made


def policy_of(text: str) -> str:
    """Return the Content-Security-Policy that a page made by `document` carries."""
    return POLICY.search(text)[1]


def add_script(text: str, script: str) -> str:
    """Return a page made by `document` with one more script, which its policy then allows."""
    allowed = SCRIPTS.sub(f"script-src 'sha256-{digest(script)}'", text, count=1)
    head, _, end = allowed.rpartition("</body>")
    return f"{head}<script>{script}</script>\n</body>{end}"


def digest(script: str) -> str:
    """Return the SHA-256 of a script as a Content-Security-Policy names it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def duration(seconds: float) -> str:
    """Return a length of time as people say it: ``4.2 s``, ``3 min 20 s``, ``1 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def when(text: str | None, *, seconds: bool = False) -> str:
    """Return a time (ISO 8601) in UTC as ``2026-11-28 18:05``, "" for None."""
    if not text:
        return ""
    moment = datetime.fromisoformat(text).astimezone(UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}" if seconds else f"{moment:%Y-%m-%d %H:%M}"


def public(text: str) -> str:
    """Return `text` without the names, passwords and keys that addresses in it may hold."""
    return re.sub(r"//[^/@\s]+@", "//", redact(text))


def memory(n_bytes: float) -> str:
    """Return a number of bytes in MiB."""
    return f"{n_bytes / 2**20:,.0f} MiB"


def sentence(text: str) -> str:
    """Return `text` with a capital letter in front and a full stop at its end."""
    whole = f"{text[:1].upper()}{text[1:]}"
    return whole if whole.endswith((".", "!", "?")) else f"{whole}."


def decimals(
    values: Iterable[float | None], own: float | None = None, digits: int = DIGITS
) -> int | None:
    """Return with how many decimals numbers that are compared are all shown.

    Parameters
    ----------
    values : iterable of float or None
        The numbers; None is left out.
    own : float, optional
        The one that they are compared with: it keeps some digits even if it is far smaller.
    digits : int, default `DIGITS`
        Significant ones of the largest.

    Returns
    -------
    int or None
        Enough for `digits` of the largest, without zeros at the end that all would have.
        None where only an exponent can show them.
    """
    known = [value for value in values if value is not None]
    largest = max((abs(value) for value in known), default=0.0)
    if largest < ZERO:
        return 0
    places = digits - math.ceil(math.log10(largest))
    if places > MOST_DECIMALS:
        return None
    if own and abs(own) >= ZERO:
        wanted = OWN_DIGITS - math.ceil(math.log10(abs(own)))
        places = max(places, min(wanted, places + OWN_DIGITS, MOST_DECIMALS))
    texts = [f"{value:.{max(places, 0)}f}" for value in known]
    return max(len(text.rstrip("0").partition(".")[2]) for text in texts)


def number(value: float | None, places: int | None) -> str:
    """Return a number with so many decimals (see `decimals`); one that they show as zero is "0"."""
    if value is None:
        return ""
    if places is None:
        return "0" if abs(value) < ZERO else f"{value:.{DIGITS - 1}e}"
    text = f"{value:,.{places}f}"
    return text if re.search("[1-9]", text) else "0"


def plain(value: float, digits: int = DIGITS) -> str:
    """Return a number that stands alone: so many significant digits, no zeros at the end."""
    return number(value, decimals([value], digits=digits))
