"""Reports inside Airflow: who may read them, and what can be asked for."""

import json
import os
import re
import shutil
import subprocess
import sys

from lib.ground.files import ROOT
from lib.pages import run_index, summary
from lib.run import open_run
from tests import airflow_reports
from tests.airflow_reports import REPORT, RUN, SECRET

import pytest

folder = airflow_reports.folder
tokens = airflow_reports.tokens
client = airflow_reports.client
get = airflow_reports.get


PLACES = (
    "index.html",
    REPORT,
    f"{RUN}/01_load.html",
    f"{RUN}/01_load.ipynb",
    "compare?a=x/y&b=x/z",
)


@pytest.mark.parametrize("place", PLACES)
def test_logged_out_leads_to_the_login_and_shows_nothing(client, folder, place):
    answer = client.get(f"/reports/view/{place}")
    assert answer.status_code == 307 and "first words" not in answer.text
    assert answer.headers["location"].startswith("/auth/login?next=%2Freports%2Fview%2F")
    for kind in ("page", "state"):
        answer = client.get(f"/reports/{kind}/{place}")
        assert answer.status_code == 401 and "first words" not in answer.text


@pytest.mark.parametrize("change", [lambda t: t[:-8] + "AAAAAAAA", lambda t: "", lambda t: "x.y.z"])
def test_token_that_airflow_did_not_sign_is_refused(client, tokens, folder, change):
    token = change(tokens["viewer"])
    for headers in ({"Cookie": f"_token={token}"}, {"Authorization": f"Bearer {token}"}):
        assert client.get(f"/reports/page/{REPORT}", headers=headers).status_code == 401
        assert client.get(f"/reports/view/{REPORT}", headers=headers).status_code == 307


@pytest.mark.slow
def test_token_opens_reports_from_the_cookie_and_from_the_header(client, tokens, folder):
    for role, headers in (
        ("viewer", {"Cookie": f"_token={tokens['viewer']}"}),
        ("admin", {"Authorization": f"Bearer {tokens['admin']}"}),
    ):
        answer = client.get(f"/reports/page/{RUN}/01_load.html", headers=headers)
        assert answer.status_code == 200 and "first words" in answer.text, role


def test_caller_who_may_not_read_the_dag_sees_neither_its_reports_nor_its_rows(
    get, folder, monkeypatch
):
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    other = folder.parents[1] / "tick" / "20260102"
    other.mkdir(parents=True)
    (other / "run.json").write_text("{}")
    run_index.write_index()
    monkeypatch.setattr(
        SimpleAuthManager,
        "is_authorized_dag",
        lambda self, *, details, **_: details.id != "power",
    )
    for kind in ("view", "page", "state"):
        answer = get(f"{kind}/{REPORT}")
        assert answer.status_code == 403 and "first words" not in answer.text
        assert get(f"{kind}/compare?a=tick/20260102&b={RUN.replace('+', '%2B')}").status_code == 403
    index = get("page/index.html")
    assert index.status_code == 200 and "20260102" in index.text and RUN[6:] not in index.text


@pytest.mark.parametrize("kind", ["view", "page", "state"])
@pytest.mark.parametrize(
    "path",
    [
        "../secret.ipynb",
        "power/../secret.ipynb",
        "../../secret.ipynb",
        "%2e%2e/secret.ipynb",
        "power/%2e%2e/secret.ipynb",
        "power/%252e%252e/secret.ipynb",
        "power/..%2f..%2f/secret.ipynb",
        f"{RUN}/..%2f..%2f..%2fsecret.ipynb",
        f"{RUN}/..%5c..%5c..%5csecret.ipynb",
        f"{RUN}/%252e%252e%252fsecret.ipynb",
        f"{RUN}/01_load.ipynb%00.html",
        f"{RUN}/%00",
        f"{RUN}/01_load.ipynb%0a",
        "{outside}",
        "%2F{outside}",
        "power/x/{outside}",
        f"{RUN}/run.json",
        f"{RUN}/stages/01_load.json",
        f"{RUN}/.scratch",
        "power//01_load.ipynb",
        "//secret.ipynb",
        "compare?a=../x&b=power/x",
        "compare?a=power/x&b=power/%252e%252e",
        ".index.json",
        "mlflow.db",
        "",
    ],
)
def test_only_names_of_reports_can_be_asked_for(get, folder, tmp_path, kind, path):
    answer = get(f"{kind}/{path.replace('{outside}', f'{tmp_path}/secret.ipynb')}")
    assert answer.status_code == 404 and SECRET not in answer.text


def linked(place, target):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


@pytest.mark.parametrize(
    "make",
    [
        lambda folder, out: linked(folder / "02_features.ipynb", out / "secret.ipynb"),
        lambda folder, out: linked(folder / "stages" / "01_load.json", out / "secret.ipynb"),
        lambda folder, out: linked(folder / "figures", out),
        lambda folder, out: linked(folder / "gone.png", out / "nowhere"),
    ],
)
def test_run_folder_with_a_link_that_leads_out_is_refused(get, folder, tmp_path, make):
    make(folder, tmp_path)
    for file in ("report.html", "01_load.html", "02_features.html", "02_features.ipynb"):
        answer = get(f"page/{RUN}/{file}")
        assert answer.status_code == 404 and SECRET not in answer.text


@pytest.mark.parametrize("level", ["pipeline", "run"])
def test_folder_that_is_a_link_out_of_the_outputs_is_refused(get, folder, tmp_path, level):
    outside = tmp_path / "elsewhere" / "run-1"
    shutil.copytree(folder, outside)
    if level == "pipeline":
        linked(folder.parents[1] / "tick", outside.parent)
        answer = get("page/tick/run-1/01_load.html")
    else:
        linked(folder.parent / "run-1", outside)
        answer = get("page/power/run-1/01_load.html")
    assert answer.status_code == 404 and "first words" not in answer.text


def test_link_to_another_run_of_the_same_pipeline_is_followed(get, folder):
    linked(folder.parent / "dev" / "01_load.ipynb", folder / "01_load.ipynb")
    assert "first words" in get("page/power/dev/01_load.html").text


def test_figure_that_a_record_names_outside_of_the_run_is_not_shown(folder, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"png")
    record = {"state": "running", "started": "2026-01-02T03:04:05+00:00"}
    record["writes"] = {"../../../secret.png": "", f"{tmp_path}/secret.png": "", "seen.png": ""}
    (folder / "stages").mkdir()
    (folder / "stages" / "01_load.json").write_text(json.dumps(record))
    assert summary.summarise(open_run(RUN))["stages"][0]["figures"] == ["seen.png"]


def test_report_is_sandboxed_and_our_own_page_runs_one_script(get, folder):
    inner = get(f"page/{RUN}/01_load.html")
    policy = inner.headers["content-security-policy"]
    assert "sandbox allow-scripts; frame-ancestors 'self'" in policy
    assert "default-src 'none'" in policy and "allow-same-origin" not in policy
    assert "'unsafe-inline'" not in re.search(r"script-src ([^;]*)", policy)[1]
    outer = get(f"view/{RUN}/01_load.html")
    policy = outer.headers["content-security-policy"]
    assert len(re.search(r"script-src ([^;]*)", policy)[1].split()) == 1
    for answer in (inner, outer, get(f"page/{RUN}/nothing"), get(f"page/{RUN}/01_load.ipynb")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]


def test_report_opened_by_itself_leads_to_the_page_around_it(get, folder):
    answer = get(f"page/{RUN}/01_load.html", **{"Sec-Fetch-Dest": "document"})
    assert answer.status_code == 307
    assert answer.headers["location"] == f"/reports/view/{RUN.replace('+', '%2B')}/01_load.html"


@pytest.mark.kernel
def test_plugin_follows_the_address_of_airflow_and_imports_nothing_heavy():
    code = (
        "import sys; sys.path.insert(0, 'plugins'); import airflow.sdk.configuration\n"
        "before = set(sys.modules); import reports\n"
        "print(*(view['href'] for view in reports.ReportsPlugin.external_views),\n"
        "*sorted({name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "& {'fastapi', 'lib', 'pandas'}))"
    )
    settings = {"AIRFLOW__API__BASE_URL": "https://example.org/airflow/"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | settings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [
        "/airflow/reports/view/index.html",
        "/airflow/reports/run/{DAG_ID}/{RUN_ID}",
        "/airflow/reports/run/{DAG_ID}/{RUN_ID}/{TASK_ID}/{MAP_INDEX}",
    ]
