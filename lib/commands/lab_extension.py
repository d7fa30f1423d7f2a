"""JupyterLab's side of the link "open this stage": an address that offers it and a form that does.

A Jupyter server that loads this extension answers `GET /open-stage?run=...&stage=...` with a page
that says what would be opened; only the form on it, sent with Jupyter's XSRF token, makes the copy
(see `lib.commands.workbench`) and goes on to the notebook. Both are for users who are logged in.
"""

import asyncio
import html
from collections.abc import Mapping
from pathlib import Path

from lib.addresses import OPEN_STAGE
from lib.commands import which
from lib.commands.workbench import open_stage
from lib.pages.html import document
from lib.pages.summary import summarise

from jupyter_server.auth import authorized
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_escape, url_path_join
from markupsafe import Markup
from tornado import web

CSS = """
button { font-size: 1rem; padding: .4rem 1.1rem; }
pre { color: var(--bad); white-space: pre-wrap; overflow-wrap: anywhere; }
"""


class OpenStage(JupyterHandler):
    """Offers to open a stage of a run, and opens it when the form is sent."""

    auth_resource = "contents"

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Say what would be opened, and ask."""
        run_dir, stage = self.get_query_argument("run", ""), self.get_query_argument("stage", "")
        try:
            found = await asyncio.to_thread(_find, run_dir, stage)
        except ValueError as error:
            self._refuse(error)
            return
        words = {"passed": "passed", "failed": "failed", "running": "is still running"}
        state = words.get(found["state"], "has not run")
        error = f"{found['error']['ename']}: {found['error']['text']}" if found["error"] else ""
        title = f"Open {stage}"
        body = (
            f"<main><h1>{html.escape(title)}</h1>"
            f"<p>of the run <code>{html.escape(run_dir)}</code>, where it {state}.</p>"
            f"<pre>{html.escape(error)}</pre>"
            "<p>You get a notebook with the parameters of the run, on a copy of what the stage was "
            "given. Nothing that you do there touches the run.</p>"
            f'<form method="post">{self.xsrf_form_html()}'
            f'<input type="hidden" name="run" value="{html.escape(run_dir)}">'
            f'<input type="hidden" name="stage" value="{html.escape(stage)}">'
            "<p><button autofocus>Open a copy</button></p></form></main>"
        )
        page = document(title, Markup(body), css=CSS)
        await self.finish(page.replace("form-action 'none'", "form-action 'self'", 1))

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Open the stage and go to its notebook."""
        run_dir, stage = self.get_body_argument("run", ""), self.get_body_argument("stage", "")
        root = Path(self.serverapp.root_dir)
        try:
            path = await asyncio.to_thread(open_stage, run_dir, stage, root)
        except ValueError as error:
            self._refuse(error)
            return
        below = url_escape(path.relative_to(root).as_posix())
        self.redirect(url_path_join(self.base_url, "lab/tree", below))

    def _refuse(self, error: ValueError) -> None:
        self.set_status(404)
        text = html.escape(str(error))
        body = Markup(f"<main><h1>No such stage</h1><p>{text}</p></main>")
        self.finish(document("No such stage", body))


def _find(run_dir: str, stage: str) -> Mapping:
    return which.find_stage(summarise(which.find_run(run_dir)), stage)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "lib.commands.lab_extension"}]


def _load_jupyter_server_extension(server: ServerApp) -> None:
    address = url_path_join(server.web_app.settings["base_url"], OPEN_STAGE)
    server.web_app.add_handlers(".*$", [(address, OpenStage)])
