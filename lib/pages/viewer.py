"""Figures on a page: a click, or Enter, makes one as large as the window; Esc closes it.

A figure that has charts beside it (`lib.charts`) opens as those, to be zoomed, moved and read. All
of it is done by the scripts in `FILES` to the images that are there; without a script one sees the
pictures. A page holds charts as data, made anew by `lib.chart_file`.
"""

import base64
from collections.abc import Mapping, Sequence

from lib.pages.html import render

from markupsafe import Markup

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
        Charts from `lib.chart_file.parse`.
    """
    data = base64.b64encode(content).decode()
    return render("image.html", data=data, label=label, panels=list(panels))
