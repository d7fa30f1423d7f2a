"""The reports inside Airflow: rendered at each request, for those who may see the DAG's runs.

Airflow mounts the application `reports` without authentication, so every answer here is for a
caller whom Airflow's own token names, and who may read the runs of that DAG. Nothing but reports
of runs can be asked for: names are checked, and links that lead out of a pipeline's folder are
refused.

What a notebook shows is active content, so a report comes in two layers. `/view/` is a page of
ours; it frames `/page/`, the report, in a sandbox with an origin of its own: its scripts have no
cookie and reach nothing. The outer page follows the links of the inner one, asks `/state/` whether
something has changed, and shows the report anew, at the same place, when it has.
"""

import functools
import hashlib
import os
import re
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urlencode

from lib.ground import addresses, layout
from lib.ground.files import is_local, look_into, outputs_dir, read_bytes
from lib.ground.runs import run_of_airflow
from lib.pages import children, links, publish, run_index, summary, two_runs
from lib.pages import html as page
from lib.pages import notebook as stage_page
from lib.pages.run_index import INDEX
from lib.run import Run, open_run

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException as AnyHTTPException

COMPARE = "compare"
NONE = "There is no such report."
STAGE_FILE = re.compile(r"(?P<stage>\d+_\w+)(\.attempt-\d+)?\.(?P<kind>html|ipynb)", re.ASCII)
ENDED = ("passed", *run_index.ENDED_BADLY)
PAGES = (summary.PAGE, summary.CHILDREN)
SHOWN = (".json", ".ipynb", ".png", ".html")
SANDBOX = "sandbox allow-scripts; frame-ancestors 'self'"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; {SANDBOX}",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}

router = APIRouter()


@dataclass(frozen=True)
class Place:
    """What a path below `/view/`, `/page/` and `/state/` names.

    Attributes
    ----------
    path : str
        The path itself, with a query where there is one; safe in a URL.
    title : str
        For people.
    runs : tuple of Run
        What it shows: one run, two that are compared, none for the index of all.
    file : str
        `INDEX`, `COMPARE`, or a name in the run folder.
    """

    path: str
    title: str
    runs: tuple[Run, ...]
    file: str


def find(path: str, a: str = "", b: str = "") -> Place:
    """Return what `path` names.

    Parameters
    ----------
    path : str
        ``index.html``, ``compare`` or ``<pipeline>/<run>/<file>``, decoded.
    a, b : str, default ""
        The runs to compare: ``<pipeline>/<run>``.

    Raises
    ------
    HTTPException
        404 if there can be no such report; nothing has been looked at then.
    """
    try:
        if path == INDEX:
            return Place(INDEX, "All runs", (), INDEX)
        if path == COMPARE:
            query = urlencode({"a": a, "b": b})
            return Place(f"{COMPARE}?{query}", f"{a} · {b}", (open_run(a), open_run(b)), COMPARE)
        run_dir, _, file = path.rpartition("/")
        run = open_run(run_dir)
    except ValueError as error:
        raise HTTPException(404, NONE) from error
    if file not in PAGES and not STAGE_FILE.fullmatch(file):
        raise HTTPException(404, NONE)
    stage = "" if file in PAGES else f" / {file.rpartition('.')[0]}"
    return Place(quote(path), f"{run.pipeline} / {run.name}{stage}", (run,), file)


def allowed(
    request: Request,
    path: str,
    user: Annotated[BaseUser, Depends(get_user)],
    a: str = "",
    b: str = "",
) -> Place:
    """Return what the caller asks for, if this caller may see it and it lies where it should."""
    place = find(path, a, b)
    for run in place.runs:
        requires_access_dag("GET", DagAccessEntity.RUN, run.pipeline)(request, user)
        if not layout.folder(run.pipeline).is_dir() and not run.path.exists():
            raise HTTPException(404, f"{run.pipeline} has no notebooks, so it has no reports.")
        _refuse_links_out(run)
    return place


def readable(request: Request, user: Annotated[BaseUser, Depends(get_user)]) -> list[str]:
    """Return the pipelines of the index whose runs the caller may see."""
    found = []
    for name in {row["pipeline"] for row in run_index.read_rows()}:
        with suppress(HTTPException):
            requires_access_dag("GET", DagAccessEntity.RUN, name)(request, user)
            found.append(name)
    return found


def _refuse_links_out(run: Run) -> None:
    """Refuse a run folder that holds, or is, a link to something outside of its pipeline's."""
    root = outputs_dir()
    if not is_local(root):
        return
    home = os.path.realpath(root.path) + f"/{run.pipeline}/"
    if not f"{os.path.realpath(run.path.path)}/".startswith(home):
        raise HTTPException(404, NONE)
    for folder, folders, files in os.walk(run.path.path):
        for name in (*folders, *files):
            made = Path(folder) / name
            if made.is_symlink() and not os.path.realpath(made).startswith(home):
                raise HTTPException(404, f"{name} in this run folder leads out of it.")


Allowed = Annotated[Place, Depends(allowed)]


@router.get("/run/{dag_id}/{run_id}")
@router.get("/run/{dag_id}/{run_id}/{task_id}")
@router.get("/run/{dag_id}/{run_id}/{task_id}/{map_index}")
def of_airflow(
    request: Request, dag_id: str, run_id: str, task_id: str = "", map_index: str = ""
) -> RedirectResponse:
    """Lead from what Airflow knows, its ids, to the report of a DAG run or of one of its tasks."""
    name = f"{task_id}.html" if task_id else summary.PAGE
    index = int(map_index) if map_index.isdecimal() else -1  # else Airflow has none to fill in
    place = find(f"{run_of_airflow(dag_id, run_id, index).run_dir}/{name}")
    return RedirectResponse(f"{request.scope['root_path']}/view/{place.path}", 307)


@router.get("/view/{path:path}")
def view(request: Request, place: Allowed) -> HTMLResponse:
    """Answer with the page of ours that frames a report and keeps it up to date."""
    root = request.scope["root_path"]
    data = {
        "page": f"{root}/page/{place.path}",
        "state": f"{root}/state/{place.path}",
        "version": version(place),
        "pages": f"{root}/page/",
        "views": f"{root}/view/",
        "base": root.removesuffix("reports"),
    }
    text = page.document(
        f"{place.title} · Reports",
        page.render("frame.html", data=data),
        "frame.css",
        "frame.js",
        policy="connect-src 'self'; frame-src 'self'",
    )
    return _sealed(text, "frame-ancestors 'self'")


@router.get("/page/{path:path}")
def report(
    request: Request, place: Allowed, pipelines: Annotated[list[str], Depends(readable)]
) -> Response:
    """Answer with a report itself, in a sandbox, or with a notebook to keep."""
    if request.headers.get("Sec-Fetch-Dest") == "document":
        return RedirectResponse(f"{request.scope['root_path']}/view/{place.path}", 307)
    if place.file.endswith(".ipynb"):
        return _notebook(place)
    return _sealed(page.add_script(render(place, pipelines), page.static("framed.js")), SANDBOX)


@router.get("/state/{path:path}")
def state(place: Allowed) -> JSONResponse:
    """Answer with the version of a report, and whether its run is going on."""
    now = version(place)
    live = any(_state(run.run_dir, now) in ("running", "waiting") for run in place.runs)
    return JSONResponse({"version": now, "live": live})


def render(place: Place, pipelines: list[str]) -> str:
    """Return the report at `place` as it is now.

    On object storage that of a run which has ended is the page that lies there: to make it again
    takes a request for everything that it shows. So what has become of a version since, it tells
    as it was when the run ended.

    Parameters
    ----------
    place : Place
    pipelines : list of str
        Those that the index may show.
    """
    with _looking(place):
        return _render(place, pipelines)


def _render(place: Place, pipelines: list[str]) -> str:
    if place.file == INDEX:
        rows = [row for row in run_index.read_rows() if row["pipeline"] in pipelines]
        return run_index.render([row | {"page": summary.PAGE} for row in rows])
    for run in place.runs:
        if not run.path.exists():
            return _waiting(run, place.title, "its first stage")
    if place.file == COMPARE:
        return two_runs.render(*place.runs, base="")
    (run,) = place.runs
    stored = run.path / place.file
    if not is_local(stored) and stored.exists() and summary.read_summary(run)["state"] in ENDED:
        return links.moved(read_bytes(stored).decode(), addresses.running())
    if place.file in PAGES:
        known = _with_pages(summary.summarise(run))
        return publish.build(run, known) if place.file == summary.PAGE else children.render(known)
    notebook = run.path / place.file.replace(".html", ".ipynb")
    if not notebook.exists():
        return _waiting(run, place.title, STAGE_FILE.fullmatch(place.file)["stage"])
    return stage_page.build(notebook)


def _looking(place: Place) -> ExitStack:
    """Return a context in which what a place shows is listed once."""
    looks = ExitStack()
    for run in place.runs:
        looks.enter_context(look_into(run.path))
    return looks


def _with_pages(known: dict) -> dict:
    """Return a summary where every stage that has begun has a page, as it has here."""
    stages = [
        stage | {"page": f"{stage['name']}.html" if stage["notebook"] else stage["page"]}
        for stage in known["stages"]
    ]
    return known | {"stages": stages}


def _waiting(run: Run, title: str, what: str) -> str:
    """Return the page of something that has not begun.

    Raises
    ------
    HTTPException
        404 if it never will, because there is no such stage.
    """
    if STAGE_FILE.fullmatch(f"{what}.html") and what not in layout.planned(run.pipeline):
        raise HTTPException(404, f"{run.pipeline} has no stage {what}.")
    known = summary.summarise(run) if run.path.exists() else {"state": "running"}
    around = stage_page.around(run.path / f"{what}.ipynb")
    body = page.render("waiting.html", around=around, title=title, what=what, run=known)
    return page.document(title, body, "stage.css")


def version(place: Place) -> str:
    """Return a text that changes whenever the report at `place` does.

    It stands for name, size and times of every file that a report may show.
    """
    seen = hashlib.sha256()
    folders = [f for run in place.runs for f in (run.path, run.path / "stages")]
    with _looking(place):
        for folder in folders or [outputs_dir()]:
            for entry in folder.fs.ls(folder.path, detail=True) if folder.exists() else []:
                name = entry["name"].rpartition("/")[2]
                if name.endswith(SHOWN) and not name.startswith("."):
                    seen.update(str(entry).encode())
    return seen.hexdigest()


@functools.lru_cache(maxsize=512)
def _state(run_dir: str, _version: str) -> str:
    """Return the state of a run; asked again only when something in its folder has changed."""
    run = open_run(run_dir)
    with look_into(run.path):
        return summary.summarise(run)["state"] if run.path.exists() else "waiting"


def _notebook(place: Place) -> Response:
    path = place.runs[0].path / place.file
    if not path.exists():
        raise HTTPException(404, "There is no such notebook.")
    name = f"{place.runs[0].pipeline}-{place.runs[0].name}-{place.file}"
    return Response(
        path.read_bytes(),
        media_type="application/x-ipynb+json",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _sealed(text: str, policy: str) -> HTMLResponse:
    """Return a page under its own policy and `policy`, which only a header can state."""
    return HTMLResponse(
        text, headers={"Content-Security-Policy": f"{page.policy_of(text)}; {policy}"}
    )


async def seal(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """Add the headers that every answer has, errors included."""
    response = await answer(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def refuse(request: Request, error: AnyHTTPException) -> Response:
    """Lead a caller without a valid token to Airflow's login; say what is wrong to all others."""
    root = request.scope["root_path"]
    inside = request.url.path.removeprefix(root)
    unknown = error.status_code == 401 or error.detail == "Invalid JWT token"
    if unknown and inside.startswith(("/view/", "/run/")):
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        login = get_auth_manager().get_url_login()
        return RedirectResponse(f"{login}?{urlencode({'next': target})}", 307)
    status = 401 if unknown else error.status_code
    text = page.document("Reports", page.render("message.html", title="Reports", text=error.detail))
    return HTMLResponse(text, status)


@functools.cache
def reports() -> FastAPI:
    """Return the application that Airflow mounts."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(router)
    app.middleware("http")(seal)
    app.add_exception_handler(AnyHTTPException, refuse)
    return app
