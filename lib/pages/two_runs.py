"""Two runs side by side on one page that stands alone, and in a few lines of text.

What differs is said by `lib.pages.differences` and `lib.pages.code_diff`; here it is shown. The
page does not hide how far a comparison carries: it says where two runs were not judged by the same
test, and that intervals that overlap are no test.
"""

import hashlib
import sys
from collections.abc import Mapping
from urllib.parse import urlencode

from lib.ground import addresses
from lib.ground.files import look_into, outputs_dir, write_bytes
from lib.ground.folder import Run
from lib.pages import differences, viewer
from lib.pages.code_diff import code_changes
from lib.pages.html import document
from lib.pages.html import render as render_template
from lib.pages.summary import PAGE, summarise
from lib.pages.tables import directions_of

FOLDER = ".compare"
STARTED = ("commit", "lock", "python", "who", "run_type")


def compare(a: Run, b: Run, chosen: str = "") -> None:
    """Write the page that compares two runs, print where it is and what differs.

    Parameters
    ----------
    a, b : Run
        Of any pipelines, in any state.
    chosen : str, default ""
        Which run was taken for one that was not named.

    Raises
    ------
    ValueError
        If both are the same run.
    """
    if a.run_dir == b.run_dir:
        raise ValueError(f"both runs are {a.run_dir}: name two different ones")
    page = outputs_dir() / FOLDER / page_name(a.run_dir, b.run_dir)
    with look_into(a.path), look_into(b.path):
        write_bytes(page, render(a, b).encode())
        one, other, code = summarise(a), summarise(b), code_changes(a, b)
    lines = [("chosen", chosen)] if chosen else []
    for letter, summary in (("A", one), ("B", other)):
        outcome = ": ".join(filter(None, (summary["state"], summary["reason"])))
        lines.append((letter, f"{summary['run_dir']}  {outcome}"))
    view = f"compare?{urlencode({'a': a.run_dir, 'b': b.run_dir})}"
    lines += differences.differences(one, other, code)
    lines.append(("page", addresses.opens_at(page, view)))
    sys.stdout.write("".join(f"{topic:<12} {words}\n" for topic, words in lines))


def page_name(a: str, b: str) -> str:
    """Return the file name of the page that compares the runs `a` and `b`."""
    name = f"{a.replace('/', '.')}--{b.replace('/', '.')}"
    if len(name) > 200:  # file systems take 255 bytes
        name = f"{name[:180]}-{hashlib.sha256(f'{a} {b}'.encode()).hexdigest()[:12]}"
    return f"{name}.html"


def render(a: Run, b: Run, *, base: str = "../") -> str:
    """Return the page that shows two runs side by side.

    Parameters
    ----------
    a, b : Run
        Of any pipelines, in any state.
    base : str, default "../"
        Where the folder of all runs lies, seen from the page; links begin with it.

    Returns
    -------
    str
        A complete HTML document that refers to nothing outside of itself but by links.
    """
    one, other = summarise(a), summarise(b)
    code = code_changes(a, b)
    directions = directions_of(other) | directions_of(one)
    parameters = one["parameters"], other["parameters"]
    data = one["dataset"], other["dataset"]
    starts = [{k: run["start"][k] for k in STARTED if run["start"].get(k)} for run in (one, other)]
    body = render_template(
        "two_runs.html",
        base=base,
        pipelines=[a.pipeline, b.pipeline],
        cards=[("A", one, (a.path / PAGE).exists()), ("B", other, (b.path / PAGE).exists())],
        overview=differences.differences(one, other, code),
        unlike=differences.unlike_tests(one, other),
        pairs=differences.metric_pairs(one["metrics"], other["metrics"], directions),
        parameters=differences.parameter_pairs(*parameters),
        n_both=len(parameters[0].keys() & parameters[1].keys()),
        data={"words": differences.data_words(*data), "rows": _facts(*data)},
        environment={"words": differences.environment_words(*starts), "rows": _facts(*starts)},
        code=code,
        stages=_stages(one["stages"], other["stages"]),
        figures=_figures((a, b), [*one["stages"], *other["stages"]]),
    )
    title = f"{a.run_dir} and {b.run_dir}"
    return document(title, body, "badges.css", "two_runs.css", *viewer.FILES)


def _facts(a: Mapping, b: Mapping) -> list[dict]:
    """Return what is known of two runs beside each other."""
    return [{"name": k, "a": _fact(a.get(k)), "b": _fact(b.get(k))} for k in {**a, **b}]


def _fact(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) else differences.value_text(value)
    return "unknown" if value is None else text


def _stages(a: list[dict], b: list[dict]) -> dict[str, tuple[dict, dict]]:
    one, other = ({stage["name"]: stage for stage in stages} for stages in (a, b))
    none = {"state": "none", "seconds": None, "peak_memory_bytes": None}
    names = sorted({**one, **other})
    return {name: (one.get(name, none), other.get(name, none)) for name in names}


def _figures(runs: tuple[Run, Run], stages: list[dict]) -> list[dict]:
    """Return the figures of two runs by name, "" in place of one that is not there."""
    found = []
    for name in dict.fromkeys(figure for stage in stages for figure in stage["figures"]):
        files = [run.path / name for run in runs]
        contents = [file.read_bytes() if file.exists() else b"" for file in files]
        pairs = zip("AB", contents, strict=True)
        images = [viewer.image(data, f"{name}, {letter}") if data else "" for letter, data in pairs]
        found.append({"name": name, "is_same": contents[0] == contents[1], "images": images})
    return found
