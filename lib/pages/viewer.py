"""Figures on a page: a click, or Enter, makes one as large as the window; Esc closes it.

A figure that has charts beside it (`lib.charts`) opens as those, to be zoomed, moved and read. All
of it is done by the scripts in `FILES` to the images that are there; without a script one sees the
pictures. A page holds charts as data, made anew by `lib.ground.chart_file`.
"""

import base64
from collections.abc import Mapping, Sequence

from lib.ground import chart_file
from lib.pages.html import render

from markupsafe import Markup
from upath import UPath

SCRIPTS = ("elements.js", "axis.js", "gestures.js", "series.js", "chart.js", "viewer.js")
FILES = ("viewer.css", *SCRIPTS)


def image(content: bytes, label: str, panels: Sequence[Mapping] = ()) -> Markup:
    """Return a picture that a page with `FILES` enlarges, with the data of its charts.

    Parameters
    ----------
    content : bytes
        A PNG file.
    label : str
        What it shows, plain text.
    panels : sequence of mapping, default ()
        Charts from `lib.ground.chart_file.parse`.
    """
    data = base64.b64encode(content).decode()
    return render("image.html", data=data, label=label, panels=list(panels))


def load(path: UPath) -> tuple[bytes, list[dict], str]:
    """Return a figure, the charts beside it, and what is wrong with them: "" if nothing is."""
    content = b""
    try:
        content = path.read_bytes()
        return content, chart_file.beside(path), ""
    except OSError as error:
        return b"", [], f"{path.name} cannot be read: {type(error).__name__}"
    except ValueError as error:
        return content, [], str(error)
