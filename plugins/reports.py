"""Reports in Airflow: an entry in its navigation, a tab on DAG runs and one on notebook tasks.

Every component of Airflow loads this file, so it imports nothing that answering requests needs.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from urllib.parse import quote, urlsplit

from airflow.sdk.configuration import conf
from airflow.sdk.plugins_manager import AirflowPlugin

BASE = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/") + "/reports"
RUN = "run/{DAG_ID}/{RUN_ID}"
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="{fill}" stroke="{ink}" '
    'stroke-width="2" stroke-linecap="round" stroke-linejoin="round"><path d="M14 3H6a1 1 0 0 0-1 '
    '1v16a1 1 0 0 0 1 1h12a1 1 0 0 0 1-1V8z"/><path d="M14 3v5h5M9 17v-3M12 17v-6M15 17v-2"/></svg>'
)


async def app(scope: MutableMapping, receive: Callable, send: Callable[..., Awaitable]) -> None:
    """Answer a request for a report."""
    from lib.dag.reports import reports

    await reports()(scope, receive, send)


def view(name: str, route: str, destination: str, path: str) -> dict[str, str | bool]:
    """Return a page of ours that Airflow frames at `destination`."""
    return {
        "name": name,
        "url_route": route,
        "destination": destination,
        "href": f"{BASE}/{path}",
        "icon": f"data:image/svg+xml,{quote(ICON.format(fill='#fff', ink='#3a4a68'))}",
        "icon_dark_mode": f"data:image/svg+xml,{quote(ICON.format(fill='none', ink='#d4d4d8'))}",
        "nav_top_level": True,
    }


class ReportsPlugin(AirflowPlugin):
    """The executed notebooks of every run, inside Airflow."""

    name = "reports"
    fastapi_apps = [{"name": "reports", "url_prefix": "/reports", "app": app}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        view("Reports", "reports", "nav", "view/index.html"),
        view("Report", "report", "dag_run", RUN),
        view("Report", "stage-report", "task_instance", f"{RUN}/{{TASK_ID}}/{{MAP_INDEX}}"),
    ]
