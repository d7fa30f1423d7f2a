"""What a file of charts may hold, whoever wrote it: numbers and labels within limits, never code.

A run may come from elsewhere, so that nothing of such a file is taken over: `parse` makes charts
anew from the parts that are as they should be, and refuses all else.
"""

import json
from collections.abc import Mapping

from upath import UPath

SUFFIX = ".chart.json"
KINDS = ("line", "area", "step", "points")
MAX_ROWS = 8_000  # of a chart; more are thinned
MAX_VALUES = 60_000  # of all series, about 7 bytes each
MAX_NOTES = 300_000  # letters
MAX_BYTES = 2**20  # of a file
MAX_PANELS, MAX_SERIES, MAX_TEXT = 4, 40, 300
MAX_SECONDS = 8.64e12  # what a browser's Date can hold


def beside(picture: UPath) -> list[dict]:
    """Return the charts that lie beside a picture, [] if there are none.

    Raises
    ------
    ValueError
        If what lies there is no chart, or is too large.
    OSError
        If it cannot be read.
    """
    path = picture.with_name(picture.name.removesuffix(".png") + SUFFIX)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return []
    if size > MAX_BYTES:
        raise ValueError(f"{path.name} has {size:,} bytes: expected {MAX_BYTES:,} at most")
    return parse(path.read_bytes(), path.name)


def parse(data: bytes, name: str = "the chart") -> list[dict]:
    """Return the charts that `data` holds, made anew from the parts that are as they should be.

    Parameters
    ----------
    data : bytes
        JSON of a chart as `lines` makes it, or of a list of them; from anywhere.
    name : str, default "the chart"
        What to call it in an error.

    Raises
    ------
    ValueError
        If it is anything else; says what is wrong and repeats nothing of it.
    """
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES:,} bytes")
        found = json.loads(data, parse_constant=_refuse)
        panels = found if isinstance(found, list) else [found]
        if not 1 <= len(panels) <= MAX_PANELS:
            raise ValueError(f"{len(panels)} panels, expected 1 to {MAX_PANELS}")
        return [_panel(panel) for panel in panels]
    except RecursionError:
        raise ValueError(f"{name} is no chart: too deep") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is no chart: no JSON, at byte {error.pos}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{name} is no chart: no UTF-8") from None
    except ValueError as error:
        raise ValueError(f"{name} is no chart: {error}") from None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not finite")


def _panel(panel: object) -> dict:
    """Return a chart made of what is right in `panel`, which may be anything."""
    x, y = _part(panel, "x", dict), _part(panel, "y", dict)
    series = _part(panel, "series", list)
    if not 1 <= len(series) <= MAX_SERIES:
        raise ValueError(f"{len(series)} series, expected 1 to {MAX_SERIES}")
    made = [
        {
            "label": _text(_part(one, "label", str)),
            "kind": _kind(_part(one, "kind", str)),
            "muted": _part(one, "muted", bool),
            "hidden": _part(one, "hidden", bool),
            "values": [None if v is None else _number(v) for v in _part(one, "values", list)],
        }
        for one in series
    ]
    n_rows = len(made[0]["values"])
    if not 1 <= n_rows <= MAX_ROWS or any(len(one["values"]) != n_rows for one in made):
        raise ValueError(f"series must be of one length, 1 to {MAX_ROWS} rows")
    time = _part(x, "time", bool)
    clean = {
        "x": {"label": _text(_part(x, "label", str)), "time": time} | _places(x, n_rows, time=time),
        "y": {"label": _text(_part(y, "label", str))},
        "series": made,
        "note": _text(_part(panel, "note", str)),
    }
    if "view" in panel:
        view = [_number(end) for end in _part(panel, "view", list)]
        if len(view) != 2 or view[0] >= view[1]:
            raise ValueError("view must be two ends in order")
        clean["view"] = view
    if "about" in panel:
        about = _part(panel, "about", list)
        if len(about) != n_rows or not all(isinstance(text, str) for text in about):
            raise ValueError("about must be one text for each row")
        clean["about"] = [_text(text) for text in about]
    return clean


def _places(x: Mapping, n_rows: int, *, time: bool) -> dict:
    """Return where the rows lie: the first one, and a step or the steps to the others."""
    start, steps = _number(x.get("start")), x.get("steps")
    steps = [_number(step) for step in steps] if isinstance(steps, list) else _number(steps)
    each = steps if isinstance(steps, list) else [steps] * (n_rows - 1)
    if len(each) != n_rows - 1 or any(step < 0 for step in each):
        raise ValueError("x.steps must be zero or more, one less than rows")
    if time and max(abs(start), abs(start + sum(each))) > MAX_SECONDS:
        raise ValueError("x lies past what a calendar can show")
    return {"start": start, "steps": steps}


def _part(whole: object, name: str, kind: type) -> object:
    part = whole.get(name) if isinstance(whole, dict) else None
    if not isinstance(part, kind):
        raise ValueError(f"{name} must be a JSON value of kind {kind.__name__}")
    return part


def _text(text: str) -> str:
    if len(text) > MAX_TEXT or not all(letter.isprintable() for letter in text):
        raise ValueError(f"a text must be printable and at most {MAX_TEXT} letters long")
    return text


def _kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"a kind must be one of {', '.join(KINDS)}")
    return kind


def _number(value: object) -> float | int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) <= 1e300:
        raise ValueError("a number must be finite")
    return value
