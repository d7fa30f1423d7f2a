"""What `deploy/` says is held against the settings file, the code and itself."""

import importlib.util
import inspect
import re
from pathlib import Path
from urllib.parse import urlsplit

from lib.commands import cli, cluster, services
from lib.ground.files import ROOT

import pytest
import yaml
from late import Late

form = Late("lib.dag.form")
DEPLOY = ROOT / "deploy"
TEXT = (DEPLOY / "cluster.env").read_text(encoding="utf-8")
SETTINGS = dict(re.findall(r"^([A-Z_]+)=(.*)$", TEXT, re.MULTILINE))
SECRETS, OF_HEAD = (
    set(re.findall(r"^#   ([A-Z_]+)", part, re.MULTILINE))
    | set(re.findall(r", ([A-Z_]+)$", part, re.MULTILINE))
    for part in TEXT.split("# --- Secrets")[1].split("# Only of the head")
)
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
MANIFESTS = {
    (one["kind"], one["metadata"]["name"]): one
    for name in ("head", "worker")
    for one in yaml.safe_load_all((DEPLOY / "kubernetes" / f"{name}.yaml").read_text())
}


def test_settings_and_secrets_are_all_that_head_and_worker_ask_for():
    assert set(cluster.SHARED) <= set(SETTINGS) | SECRETS
    assert {services.PASSWORD} <= OF_HEAD and services.MLFLOW_PASSWORD in SECRETS
    assert not set(SETTINGS) & (SECRETS | OF_HEAD)


def test_no_secret_is_in_the_settings():
    for name, text in SETTINGS.items():
        assert not urlsplit(text).password, name
        assert not re.search(r"PASSWORD|SECRET|FERNET|ACCESS_KEY", name), name


def installed(file):
    """Return the text of a file of an installed package without importing it; "" if none."""
    package = importlib.util.find_spec(file.split("/")[0])
    path = Path(package.submodule_search_locations[0]).parent / file
    return path.read_text(encoding="utf-8") if path.exists() else ""


@pytest.mark.slow
def test_every_setting_is_one_that_airflow_mlflow_aws_or_the_project_knows():
    airflow = yaml.safe_load(installed("airflow/config_templates/config.yml"))
    celery = installed("airflow/providers/celery/get_provider_info.py")  # where it is installed
    mlflow = installed("mlflow/environment_variables.py")
    known = {"OUTPUTS_DIR", "MLFLOW_HOST", "AIRFLOW_CONN_AWS_DEFAULT", "AWS_DEFAULT_REGION"}
    known |= {"AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS", "MLFLOW_BACKEND_STORE_URI", "PGPASSWORD"}
    known |= {"TUNING_STORAGE"}
    known |= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", services.PASSWORD}
    for name in (set(SETTINGS) | SECRETS | OF_HEAD) - known:
        if name.startswith("AIRFLOW__CELERY"):
            assert not celery or f'"{name.lower().split("__")[2]}": {{' in celery, name
        elif name.startswith("AIRFLOW__"):
            section, key = name.removeprefix("AIRFLOW__").lower().split("__")
            assert key in airflow[section]["options"], name
        else:
            assert re.search(rf"^{name} = ", mlflow, re.MULTILINE), name


def test_a_message_is_given_out_again_only_after_the_longest_stage():
    longest = inspect.signature(form.notebook_task).parameters["timeout_minutes"].default * 60
    written = [float(m) * 60 for p in (ROOT / "dags").glob("*.py")
               for m in re.findall(r"timeout_minutes=(\d+)", p.read_text())]  # fmt: skip
    visible = SETTINGS["AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"]
    assert float(visible) > 2 * max(longest, *written, 0)


def commands():
    yield from ((name, one["command"]) for name, one in COMPOSE["services"].items()
                if one.get("image") == "pipelines")  # fmt: skip
    for (kind, name), one in MANIFESTS.items():
        if kind == "Deployment":
            yield name, one["spec"]["template"]["spec"]["containers"][0]["command"]


def test_containers_run_commands_that_exist():
    found = list(commands())
    assert {name for name, _ in found} == {"head", "worker"} and len(found) == 4
    for name, command in found:
        assert command == ["make", name] and name in cli.COMMANDS
    docker = (DEPLOY / "Dockerfile").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake (?:\.venv\/)?(\w+)", docker):
        assert re.search(rf"^(\$\(VENV\)/)?{target}:", makefile, re.MULTILINE), target


def test_every_container_gets_the_secrets_that_it_needs_and_no_others():
    own = {name: set(COMPOSE["services"][name]["environment"]) for name in ("head", "worker")}
    assert own["worker"] - {"AWS_ENDPOINT_URL"} == SECRETS
    assert own["head"] - own["worker"] == OF_HEAD
    assert COMPOSE["services"]["worker"]["env_file"] == "cluster.env"
    for name, extra in (("head", ["head"]), ("worker", [])):
        container = MANIFESTS["Deployment", name]["spec"]["template"]["spec"]["containers"][0]
        refs = [next(iter(one.values()))["name"] for one in container["envFrom"]]
        assert refs == ["cluster", "cluster", *extra]


def test_kubernetes_is_made_of_the_manifests_and_the_settings_file():
    """Kustomize reads nothing that lies outside of the folder of its own file."""
    made = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text(encoding="utf-8"))
    (settings,) = made["configMapGenerator"]
    assert settings == {"name": "cluster", "envs": ["cluster.env"]}
    assert [DEPLOY / name for name in made["resources"]] == [
        *sorted((DEPLOY / "kubernetes").iterdir())
    ]
    assert made["images"][0]["name"] == COMPOSE["services"]["worker"]["image"]


def test_ports_and_probes_are_those_of_the_servers():
    airflow = urlsplit(SETTINGS["AIRFLOW__API__BASE_URL"])
    mlflow = urlsplit(SETTINGS["MLFLOW_TRACKING_URI"])
    assert SETTINGS["AIRFLOW__API__PORT"] == str(airflow.port)
    ports = {"airflow": airflow.port, "mlflow": mlflow.port}
    container = MANIFESTS["Deployment", "head"]["spec"]["template"]["spec"]["containers"][0]
    assert {one["name"]: one["containerPort"] for one in container["ports"]} == ports
    service = MANIFESTS["Service", "head"]
    assert {one["name"]: one["port"] for one in service["spec"]["ports"]} == ports
    assert service["metadata"]["name"] == airflow.hostname == mlflow.hostname
    assert COMPOSE["services"]["head"]["hostname"] == airflow.hostname
    assert {p.split(":")[1] for p in COMPOSE["services"]["head"]["ports"]} == {
        str(port) for port in ports.values()
    }
    exposed = re.search(r"^EXPOSE (.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)[1]
    assert set(exposed.split()) == {str(port) for port in ports.values()}
    for name in ("postgres", "redis"):
        assert name in COMPOSE["services"] and f"@{name}:" in TEXT


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"AIRFLOW__API__HOST": "0.0.0.0"},
            "AIRFLOW__API__HOST = 0.0.0.0 is open to other machines",
        ),
        ({"MLFLOW_HOST": "10.0.0.1"}, "MLFLOW_HOST = 10.0.0.1 is open"),
        ({"MLFLOW_HOST": "::", services.PASSWORD: "x"}, f"set {services.MLFLOW_PASSWORD} to"),
        ({"MLFLOW_HOST": "localhost"}, ""),
        ({"AIRFLOW__API__HOST": "0.0.0.0", services.PASSWORD: "x"}, ""),
        ({"AIRFLOW__API__HOST": "0.0.0.0", services.SIMPLE: "/passwords.json"}, ""),
        ({"AIRFLOW__API__HOST": "0.0.0.0", "AIRFLOW__CORE__AUTH_MANAGER": "keycloak"}, ""),
    ],
)
def test_servers_that_others_reach_demand_a_password_of_the_deployer(changes, said, monkeypatch):
    for name, text in changes.items():
        monkeypatch.setenv(name, text)
    settings = services.airflow_settings()
    if not said:
        services.check_listening(settings)
        return
    with pytest.raises(ValueError, match=re.escape(said)):
        services.check_listening(settings)
    if "MLFLOW_HOST" not in changes:
        with pytest.raises(ValueError, match=re.escape(said)):
            services.up()


def test_password_that_was_given_is_used_and_not_printed(monkeypatch, tmp_path):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    monkeypatch.setenv(services.PASSWORD, "of the deployer")
    settings = services.airflow_settings()
    said = services._airflow_login(settings)
    assert "of the deployer" not in said and services.PASSWORD in said
    assert services._airflow_password(settings) == "of the deployer"


def test_what_the_caller_has_set_stays_and_what_was_set_here_follows_the_place(
    monkeypatch, tmp_path
):
    for name, text in services.airflow_settings().items():
        monkeypatch.setenv(name, text)  # as in a process that was started with them
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "32")
    monkeypatch.setenv("AIRFLOW__API__HOST", "0.0.0.0")
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    settings = services.airflow_settings(8123)
    assert settings["AIRFLOW__CORE__PARALLELISM"] == "32"
    assert settings["AIRFLOW__API__HOST"] == "0.0.0.0"
    assert settings["AIRFLOW_HOME"] == str(tmp_path / ".airflow")
    assert settings["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8123"
    for name, text in settings.items():
        monkeypatch.setenv(name, text)
    assert services.airflow_settings(8123) == settings, "children see the same"


def test_missing_settings_are_named_and_runs_on_a_local_disk_refused(monkeypatch, tmp_path):
    for name in cluster.SHARED:
        monkeypatch.setenv(name, "set")
    monkeypatch.delenv("AIRFLOW__CORE__FERNET_KEY")
    with pytest.raises(ValueError, match=r"not set: AIRFLOW__CORE__FERNET_KEY \(the key"):
        cluster.worker()
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "set")
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="expected a URL"):
        cluster.head()
