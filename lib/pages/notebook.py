"""Executed notebooks as HTML pages that stand alone.

One file per notebook: no network, figures inside, readable on a phone and in the dark, code folded
away, and nothing that runs but the page's own script (`lib.pages.html`, `lib.pages.cells`).

The page of a stage of a run leads on, by addresses that are relative to the run folder: to all
runs, to its run, to the stages before and after, and into JupyterLab. Where they lead nowhere, as
in MLflow's view of artifacts, the page's script takes them away.
"""

import functools
import re
from collections.abc import Callable, Mapping

from lib.ground import addresses, layout, outcome
from lib.ground.files import look_into, read_object, write_bytes
from lib.ground.folder import MAPPED, run_at
from lib.ground.runs import STARTED
from lib.pages import viewer
from lib.pages.cells import highlighted, markdown, preformatted, shown
from lib.pages.html import document
from lib.pages.html import render as render_template
from lib.pages.summary import PAGE

from markupsafe import Markup
from upath import UPath

WRITTEN = re.compile(r'run\.write\(\s*"([\w.-]+\.png)"')
PNG = b"\x89PNG\r\n"
STAGE = re.compile(r"(\d+_\w+)(?:\.attempt-\d+)?", re.ASCII)


def write_html(notebook_path: UPath | str) -> UPath:
    """Write an executed notebook, a local path or an fsspec URL, as a page of HTML beside it.

    Returns
    -------
    UPath
        The page: the same name with suffix ``.html``.
    """
    path = UPath(notebook_path)
    page = path.with_suffix(".html")
    write_bytes(page, build(path).encode())
    return page


def build(path: UPath) -> str:
    """Return the page of an executed notebook, with what lies beside it and links around it."""
    with look_into(path.parent):
        return _build(path)


def _build(path: UPath) -> str:
    notebook = outcome.read_notebook(path)
    name, links = f"{path.parent.name}/{path.stem}", around(path, notebook)
    return render(notebook, name, functools.partial(_figure, path), links=links)


def _figure(notebook_path: UPath, name: str) -> Markup:
    """Return the figure in a file beside a notebook, "" where there is none.

    An earlier attempt has left none: its stage has written them anew.
    """
    content, panels, _ = viewer.load(notebook_path.with_name(name))
    if ".attempt-" in notebook_path.name or not content.startswith(PNG):
        return Markup("")
    return viewer.image(content, name.removesuffix(".png").replace("_", " "), panels)


def around(path: UPath, notebook: Mapping | None = None) -> Markup:
    """Return the links from the page of a stage to those around it; "" outside of a run folder.

    Parameters
    ----------
    path : UPath
        The executed notebook, or where it will be.
    notebook : mapping, optional
        What it holds; None while it has not begun.

    Returns
    -------
    Markup
        The stage after this one is linked if it has a page, or will have one: not if this one has
        failed, or the run was closed.
    """
    folder, stage = path.parent, STAGE.fullmatch(path.stem)
    run = run_at(folder) if stage else None
    if not run or not (folder / STARTED).exists():
        return Markup("")
    start = read_object(folder / STARTED)
    executed = {p.stem for p in folder.glob("[0-9]*.ipynb") if "." not in p.stem}
    planned = start.get(MAPPED, ()) if run.parent else layout.planned(run.pipeline)
    stages = sorted({*planned, *executed, stage[1]})
    at = stages.index(stage[1])
    is_going_on = notebook is not None and outcome.state(notebook) in ("running", "completed")
    is_going_on &= "closed" not in start
    return render_template(
        "around.html",
        page=PAGE,
        up="../" * (run.run_dir.count("/") + 1),
        run_dir=run.run_dir,
        lab=addresses.open_stage_link(run.run_dir, stage[1]) if notebook is not None else "",
        before=[name for name in stages[:at][-1:] if name in executed],
        after=[name for name in stages[at + 1 :][:1] if name in executed or is_going_on],
        title=layout.stage_title,
    )


def render(
    notebook: Mapping,
    name: str,
    figure: Callable[[str], Markup] = lambda _name: Markup(""),
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
    links : Markup, default ""
        What stands above everything, from `around`.

    Returns
    -------
    str
        A complete HTML document that refers to nothing outside of itself.
    """
    language = notebook["metadata"].get("kernelspec", {}).get("language", "python")
    cells, record = notebook["cells"], notebook["metadata"].get("papermill", {})
    body = render_template(
        "stage.html",
        links=links,
        name=name,
        state=outcome.state(notebook),
        record=record,
        cells=[_cell(cell, language, figure) for cell in cells],
    )
    files = ("stage.css", "stage.js", "unlink.js", *viewer.FILES)
    return document(_title(cells) or name, body, *files)


def _title(cells: list) -> str:
    for cell in cells:
        if cell["cell_type"] == "markdown" and not outcome.is_marker(cell):
            match = re.search(r"^#\s+(.+?)\s*#*$", outcome.source_text(cell), re.MULTILINE)
            if match:
                return match[1]
    return ""


def _cell(cell: Mapping, language: str, figure: Callable[[str], Markup]) -> dict:
    """Return what the template shows of a cell: its kind, and text, or code and outputs."""
    source = outcome.source_text(cell)
    status = cell["metadata"].get("papermill", {}).get("status") or ""
    made = {"kind": f"cell text {status}", "source": "", "text": "", "outputs": []}
    if cell["cell_type"] == "code":
        return made | {
            "kind": f"cell {status}",
            "cell": cell,
            "source": source.strip(),
            "code": highlighted(source, language),
            "outputs": _outputs(cell, source, figure),
        }
    if cell["cell_type"] != "markdown":
        return made | {"text": preformatted(source, "")}
    if outcome.is_marker(cell):
        made["kind"] = "here" if f'id="{outcome.ANCHOR}"' in source else "report"
    return made | {"text": markdown(source, cell.get("attachments", {}))}


def _outputs(cell: Mapping, source: str, figure: Callable[[str], Markup]) -> list[Markup]:
    """Return what a cell has shown, and the figure it has written for its small picture."""
    names = WRITTEN.findall(source)
    pictures = [output for output in cell["outputs"] if "image/png" in output.get("data", {})]
    large = figure(names[0]) if len(names) == len(pictures) == 1 else ""
    framed = Markup("<figure>{}</figure>").format(large)
    return [framed if large and one is pictures[0] else shown(one) for one in cell["outputs"]]
