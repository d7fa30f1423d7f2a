"""JupyterLab's side of the link "open this stage": an address that offers it and a form that does.

A Jupyter server that loads this extension answers `GET /open-stage?run=...&stage=...` with a page
that says what would be opened; only the form on it, sent with Jupyter's XSRF token, makes the copy
(see `lib.commands.workbench`) and goes on to the notebook. Both are for users who are logged in.
Its kernels come from `lib.machine.provisioner`.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from lib.commands import which
from lib.commands.workbench import open_stage
from lib.ground.addresses import OPEN_STAGE
from lib.ground.folder import Run
from lib.machine import provisioner
from lib.pages.html import document, render
from lib.pages.summary import summarise

from jupyter_server.auth import authorized
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_escape, url_path_join
from markupsafe import Markup
from tornado import web


class OpenStage(JupyterHandler):
    """Offers to open a stage of a run, and opens it when the form is sent."""

    auth_resource = "contents"

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Say what would be opened, and ask."""
        run_dir, stage = self.get_query_argument("run", ""), self.get_query_argument("stage", "")
        try:
            run, found = await asyncio.to_thread(_find, run_dir, stage)
        except ValueError as error:
            self._refuse(error)
            return
        words = {"passed": "passed", "failed": "failed", "running": "is still running"}
        state = words.get(found["state"], "has not run")
        error = f"{found['error']['ename']}: {found['error']['text']}" if found["error"] else ""
        form = {"run": run.run_dir, "stage": found["name"], "state": state, "error": error}
        body = render("open_stage.html", xsrf=Markup(self.xsrf_form_html()), **form)
        page = document(f"Open {found['name']}", body, "open_stage.css")
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
        body = render("message.html", title="No such stage", text=error)
        self.finish(document("No such stage", body))


def _find(run_dir: str, stage: str) -> tuple[Run, Mapping]:
    run = which.find_run(run_dir)
    return run, which.find_stage(summarise(run), stage)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "lib.commands.lab_extension"}]


def _load_jupyter_server_extension(server: ServerApp) -> None:
    address = url_path_join(server.web_app.settings["base_url"], OPEN_STAGE)
    server.web_app.add_handlers(".*$", [(address, OpenStage)])
    provisioner.use()  # a kernel that is started again is forked
