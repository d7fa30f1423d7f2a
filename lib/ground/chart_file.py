"""What a file of charts may hold, whoever wrote it: numbers and labels within limits, never code.

A run may come from elsewhere: `parse` refuses whatever is not as `chart_file.json` (a JSON schema)
and the few rules here say.
"""

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from upath import UPath

SUFFIX = ".chart.json"
SCHEMA = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
KINDS = tuple(SCHEMA["definitions"]["kind"]["enum"])
MAX_ROWS = SCHEMA["definitions"]["values"]["maxItems"]  # of a chart; more are thinned
MAX_VALUES = 60_000  # of all series, about 7 bytes each
MAX_NOTES = 300_000  # letters
MAX_BYTES = 2**20  # of a file
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
    """Return the charts that `data` holds, which are as they should be.

    Parameters
    ----------
    data : bytes
        JSON of a chart as `lib.charts.lines` makes it, or of a list of them; from anywhere.
    name : str, default "the chart"
        What to call it in an error.

    Raises
    ------
    ValueError
        If it is anything else; says what is wrong and repeats nothing of it.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"{name} is no chart: more than {MAX_BYTES:,} bytes")
    try:
        found = json.loads(data, parse_constant=_refuse)
        panels = found if isinstance(found, list) else [found]
        _validator()(panels)
        for panel in panels:
            _check(panel)
    except (RecursionError, UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError(f"{name} is no chart: no JSON in UTF-8, or too deep") from None
    except ValueError as error:
        rule = getattr(error, "rule", "")  # of the schema; its words would repeat what is there
        reason = f"{'.'.join(error.path)} breaks the rule {rule}" if rule else str(error)
        raise ValueError(f"{name} is no chart: {reason}") from None
    return panels


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not finite")


@functools.cache
def _validator() -> Callable[[object], object]:
    import fastjsonschema

    return fastjsonschema.compile(SCHEMA)


def _check(panel: Mapping) -> None:
    """Refuse a chart whose parts do not fit together."""
    n_rows = len(panel["series"][0]["values"])
    if any(len(one["values"]) != n_rows for one in panel["series"]):
        raise ValueError("series must be of one length")
    start, steps = panel["x"]["start"], panel["x"]["steps"]
    each = steps if isinstance(steps, list) else [steps] * (n_rows - 1)
    if len(each) != n_rows - 1:
        raise ValueError("x.steps must be one less than rows")
    if panel["x"]["time"] and max(abs(start), abs(start + sum(each))) > MAX_SECONDS:
        raise ValueError("x lies past what a calendar can show")
    if "view" in panel and panel["view"][0] >= panel["view"][1]:
        raise ValueError("view must be two ends in order")
    if "about" in panel and len(panel["about"]) != n_rows:
        raise ValueError("about must be one text for each row")
