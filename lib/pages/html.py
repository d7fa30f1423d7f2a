"""What every page of this project shares: colours, policy, numbers, the frame of a document.

A page is one file: no network, style and script inside, readable on a phone, in the dark and on
paper. A Content-Security-Policy lets the browser run the page's own script, named by its hash, and
fetch nothing. Whatever text goes into a page is escaped by whoever puts it there.
"""

import base64
import hashlib
import html
import math
import re
from collections.abc import Iterable

DIGITS = 4  # significant ones, of the largest of the numbers that are compared
OWN_DIGITS = 3  # of the one that they are compared with
MOST_DECIMALS = 9
ZERO = 1e-12  # what computing with floats leaves of a zero
UNLINK = """
if (!/^(file|https?):$/.test(location.protocol))
  for (const link of document.querySelectorAll("a[href]"))
    if (!/^(#|[a-z]+:)/i.test(link.getAttribute("href"))) link.replaceWith(...link.childNodes);
"""
"""Script that takes the links to neighbours out of a copy of a page that has none beside it.

MLflow shows an artifact from an address of its own, ``blob:``, where a relative link leads nowhere.
"""
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">')
CSS = """
:root { color-scheme: light dark; --page: #fff; --ink: #1f2430; --dim: #667085; --line: #dfe3ea;
  --soft: #f6f7f9; --link: #1558c0; --good: #12734a; --good-soft: #e6f4ec; --bad: #b3261e;
  --bad-soft: #fdecea; --wait: #8a5a00; --wait-soft: #fdf3dc; --kw: #8b2fa0; --str: #22702c;
  --num: #a1460b; --com: #6b7280; --fn: #1558c0; }
@media (prefers-color-scheme: dark) { :root { --page: #14171d; --ink: #e2e5ea; --dim: #98a1b0;
  --line: #2f3541; --soft: #1c2129; --link: #86b4ff; --good: #6fd3a0; --good-soft: #143024;
  --bad: #ff9d94; --bad-soft: #3a1b1a; --wait: #f0c36a; --wait-soft: #352a12; --kw: #d6a0e8;
  --str: #9ad29f; --num: #f0a878; --com: #8a93a3; --fn: #86b4ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem clamp(.75rem, 3vw, 2rem) 4rem;
  background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: break-word; }
a { color: var(--link); }
.badge { border-radius: 1rem; padding: .05rem .7rem; font-weight: 650; }
.completed .badge { color: var(--good); background: var(--good-soft); }
.failed .badge { color: var(--bad); background: var(--bad-soft); }
.running .badge, .not-executed .badge { color: var(--wait); background: var(--wait-soft); }
button { font: inherit; font-size: .8125rem; color: var(--link); background: none; cursor: pointer;
  border: 1px solid var(--line); border-radius: .4rem; padding: .1rem .6rem; margin-left: auto; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 1.2rem 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2rem 0 .5rem; padding-top: .25rem; }
h3 { font-size: 1.1rem; margin: 1.5rem 0 .4rem; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
  font-size: .8125rem; }
:not(pre) > code { background: var(--soft); border-radius: .25rem; padding: .1em .3em; }
pre { margin: 0; line-height: 1.5; overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums;
  border: 0; }
td, th { padding: .25rem .75rem; border: 0; border-bottom: 1px solid var(--line); }
"""


def document(title: str, body: str, *, css: str = "", script: str = "", policy: str = "") -> str:
    """Return a complete HTML document that refers to nothing outside of itself.

    Parameters
    ----------
    title : str
        Plain text.
    body : str
        HTML, already safe.
    css : str, default ""
        Rules beside those that all pages share.
    script : str, default ""
        JavaScript that runs when the body is there; it may not contain ``</script``.
    policy : str, default ""
        Directives of the policy for what this page does beyond, ``frame-src 'self'`` for example.

    Returns
    -------
    str
    """
    allowed = f"script-src 'sha256-{digest(script)}'; " if script else ""
    whole = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"{allowed}base-uri 'none'; form-action 'none'{policy and '; '}{policy}"
    )
    run = f"<script>{script}</script>\n" if script else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{whole}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{CSS}{css}</style>\n</head>\n<body>\n"
        f"{body}\n{run}</body>\n</html>\n"
    )


def policy_of(text: str) -> str:
    """Return the Content-Security-Policy that a page made by `document` carries."""
    match = POLICY.search(text)
    return match[1] if match else "default-src 'none'"


def add_script(text: str, script: str) -> str:
    """Return a page made by `document` with one more script, which its policy then allows."""
    old = policy_of(text)
    source = f"'sha256-{digest(script)}'"
    found = "script-src " in old
    new = (
        old.replace("script-src ", f"script-src {source} ")
        if found
        else f"{old}; script-src {source}"
    )
    head, _, end = text.replace(f'content="{old}"', f'content="{new}"', 1).rpartition("</body>")
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
    places = max(places, 0)
    texts = [f"{value:.{places}f}" for value in known]
    while places and all(text.endswith("0") for text in texts):
        places, texts = places - 1, [text[:-1] for text in texts]
    return places


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
    if abs(value) < ZERO:
        return "0"
    places = digits - math.floor(math.log10(abs(value))) - 1
    if places > MOST_DECIMALS + digits or abs(value) >= 1e15:
        return f"{value:.{digits}g}"
    text = f"{value:,.{max(places, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
