"""The search that workers share, as a pipeline: all through Airflow, with two workers."""

from lib.ground import layout
from lib.power.tuning import SPACE

import pytest
from late import Late
from whole_runs import errors, go, impatient, prepare

form = Late("lib.dag.form")
LINKS = ["01_load", "02_features", "04_train", "05_evaluate", "06_register"]
N_TRIALS = 5


def test_all_but_the_search_are_links_to_power():
    own = set(layout.own_stages("power_search"))
    assert own == {"03_begin", "03_search", "03_tune"}
    assert set(layout.planned("power_search")) - own == set(LINKS)
    assert layout.owner("power_search") == layout.owner("power") == "power"
    for stage in LINKS:
        assert layout.notebook("power_search", stage) == layout.notebook("power", stage)


def test_version_that_enters_production_is_told_as_one_of_power():
    assert form.promotion_task("power_search").outlets == form.promotion_task("power").outlets


@pytest.mark.kernel
@pytest.mark.timeout(600)
def test_workers_share_a_search_of_an_exact_total_and_the_gate_of_power_registers(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("TUNING_STORAGE", f"sqlite:///{tmp_path}/tuning.db")
    prepare()
    dag = impatient("power_search")
    done, _, run = go(dag, source="sample", n_trials=N_TRIALS, n_workers=2)
    assert done.state == "success", [errors(one, "0") for one in (run, *run.children())]
    trials = run.read("trials.csv")
    assert trials["state"].tolist() == N_TRIALS * ["complete"]
    found = run.read_all("worker.json")
    assert [one["worker"] for one in found.values()] == [0, 1]
    assert sum(one["n_trials"] for one in found.values()) == N_TRIALS - 1, "and the first one"
    assert set(SPACE) < set(run.read("best_params.json"))
    registered = run.read("registration.json")
    assert registered["name"] == "household_power_lightgbm_sample"
    assert run.read("gate.json")["outcome"], "the gate of power has decided"
    assert (tmp_path / "tuning.db").exists()


@pytest.mark.kernel
def test_run_that_fails_before_the_search_does_not_gather_it():
    prepare()
    done, tasks, _ = go(impatient("power_search"), horizont=1)
    states = {name: task.state for name, task in tasks.items()}
    assert done.state == states.pop("01_load") == "failed"
    assert set(states.values()) == {"upstream_failed"}
