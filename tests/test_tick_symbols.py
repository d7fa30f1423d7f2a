"""Ticks of many symbols: which there are, the notebooks of tick in child runs, the table of all."""

from lib.ground import layout
from lib.ground.folder import MAPPED, look_at
from lib.ground.runs import gather, note_start
from lib.run import open_run
from lib.tick.names import list_symbols

import pytest
from serving import executed_here

TICK = ["01_load", "02_features", "03_train", "04_evaluate", "05_register"]
SMALL = {"sample_ticks": 2_000, "train_days": 2, "test_days": 1}
RUN = "tick_symbols/t"


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))


@pytest.mark.parametrize(
    ("names", "symbols"),
    [
        (["SPY/2013-10-07.csv", "QQQ/2013-10-07.csv", "QQQ/2013-10-08.csv"], ["QQQ", "SPY"]),
        (["BBB_2024-03-04.csv", "AAA_2024-03-04.csv"], ["AAA", "BBB"]),
    ],
)
def test_symbols_are_those_that_names_tell(put, names, symbols):
    put([], "README.md")
    for name in names:
        path = put([], name)
    root = path.removesuffix(names[-1])
    assert list_symbols(root) == symbols


def test_symbols_that_no_name_tells_are_asked_for(put):
    source = put([], "2013-10-07.csv")
    for nameless in (source, "iceberg:lake.market.ticks"):
        with pytest.raises(ValueError, match="tells its symbol: give symbols"):
            list_symbols(nameless)


def test_stages_of_tick_are_links_and_run_in_the_folders_of_the_symbols():
    own = layout.own_stages("tick_symbols")
    assert layout.planned("tick_symbols") == [own[0], *TICK, own[1]]
    for stage in TICK:
        assert layout.notebook("tick_symbols", stage) == layout.notebook("tick", stage)
    assert "tick_symbols" not in layout.pipelines(ending="_register"), "make run trains tick alone"


@pytest.mark.slow
def test_every_symbol_has_data_of_its_own_and_an_outcome_in_the_table():
    executed_here(RUN, "00_symbols")
    run = look_at(RUN)
    facts = {"dag_id": "tick_symbols", "run_id": "t", MAPPED: TICK}
    note_start(run, **facts)
    each = run.read("symbols.json")
    assert [values["symbol"] for values in each] == ["AAA", "BBB", "CCC"]
    for index, values in enumerate(each):
        child = run.child(index)
        note_start(child, **facts, map_index=str(index), values=values)
        executed_here(child.run_dir, "01_load", **values, **SMALL)
        assert child.read("dataset.json")["name"] == f"{values['symbol'].lower()}_trades_sample"
    assert len({child.read("dataset.json")["digest"] for child in run.children()}) == 3

    for index, passed in ((0, True), (1, False)):
        judge = open_run(run.child(index).run_dir, "04_evaluate")
        judge.write("metrics.json", {"rank_ic": 0.1, "rank_ic_low": 0.0, "rank_ic_high": 0.2})
        judge.write("verdict.json", {"passed": passed, "checks": []})
        judge.finish()
        register = open_run(run.child(index).run_dir, "05_register")
        if passed:
            register.write("registration.json", {"name": "tick_gru_aaa", "version": 1, "alias": ""})
            register.finish()
        else:
            register.start()
    open_run(run.child(2).run_dir, "02_features").start()  # and fails
    gather(run, TICK)
    with pytest.raises(AssertionError, match="failed: CCC; see max_failed"):
        executed_here(RUN, "06_table")
    executed_here(RUN, "06_table", max_failed=0.5)
    table = run.read("symbols.csv")
    assert table["outcome"].tolist() == ["registered", "refused", "failed"]
    assert table["stage"].tolist() == ["05_register", "05_register", "02_features"]
    assert table["name"].tolist()[0] == "tick_gru_aaa" and table["rank_ic"].notna().sum() == 2
    found = run.read("metrics.json")
    assert (found["n_registered"], found["n_refused"], found["n_failed"]) == (1, 1, 1)
