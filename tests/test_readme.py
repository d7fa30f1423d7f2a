"""README: its numbers are those of the reference runs, its commands and files exist."""

import json
import re

from lib.commands import install
from lib.ground import layout
from lib.ground.files import ROOT
from lib.ground.parameters import read_parameters

import pytest

README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| \[(\w+)\]\S+, [^|]+ \| `([\w-]+)` \| (.+) \|$", README, re.MULTILINE)
BENCHMARKS = re.findall(
    r"^\| \[[\w ,]+\]\(benchmarks/results/(\S+)\) \| (\d+) \| (\S+) \| (\S+) \| (\S+) \|$",
    README,
    re.MULTILINE,
)
PAGES = [
    *ROOT.glob("README*.md"),
    *ROOT.glob("outputs/README.md"),
    *ROOT.glob("notebooks/*/README.md"),
]
COLUMNS = {
    "mnist": "accuracy f1_score loss expected_calibration_error logistic_accuracy",
    "cifar10": "accuracy one_view_accuracy f1_score expected_calibration_error logistic_accuracy",
    "power": "rmse mae r2 persistence_rmse rmse_vs_persistence",
    "lakehouse": "rmse mae r2 yesterday_rmse same_weekday_rmse week_mean_rmse",
    "tick": "rank_ic ridge_rank_ic lightgbm_rank_ic mse_vs_persistence break_even_bps spread_bps",
}


@pytest.mark.parametrize(("pipeline", "folder", "cells"), ROWS)
def test_results_are_those_of_the_reference_run(pipeline, folder, cells):
    path = ROOT / "outputs" / pipeline / folder / "metrics.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    digits = 4 if pipeline in ("mnist", "cifar10") else 3
    assert cells.split(" | ") == [f"{found[name]:.{digits}f}" for name in COLUMNS[pipeline].split()]


def test_ratios_and_intervals_of_the_lakehouse_are_those_of_its_run():
    path = ROOT / "outputs" / "lakehouse" / "reference" / "metrics.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    text = " ".join(README.split())
    for name, words in (
        ("yesterday", "{} of that, interval {} to {}"),
        ("week_mean", "({}, {} to {})"),
    ):
        ends = (found[f"rmse_vs_{name}{end}"] for end in ("", "_low", "_high"))
        assert words.format(*(f"{value:.3f}" for value in ends)) in text
    assert f"{found['n_test']:.0f} to judge by" in text
    dag = (ROOT / "dags" / "lakehouse.py").read_text(encoding="utf-8")
    floor = float(re.search(r"max_rmse_vs_week_mean=([\d.]+)", dag)[1])
    assert found["rmse_vs_week_mean"] > floor == 1, "it misses that floor"


def test_days_that_a_peak_needs_and_the_leaves_are_those_of_their_table():
    lines = (ROOT / "benchmarks/results/peaks.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if re.match(r" *\d+ +\d+ ", line)]
    few = [row for row in rows if row[0] == rows[0][0]]
    leaf = min(few, key=lambda row: row[2])[1]
    assert (
        leaf
        == f"{read_parameters(ROOT / 'notebooks/lakehouse/05_train.ipynb')['min_leaf'].default}"
    )
    text = " ".join(README.split())
    for days, size, ratio, low, high, judged in rows:
        if size == leaf:
            words = (
                f"{days} days of history come to" if days == few[0][0] else "results/peaks.txt) to"
            )
            of = " of that mean" if days == few[0][0] else ""
            assert f"{words} {ratio}{of}, {low} to {high}" in text and f"On {judged} later" in text


def test_what_a_run_prints_is_what_its_notebooks_say():
    printed = re.search(r"^power  source sample\n(.*?)^```", README, re.MULTILINE | re.DOTALL)[1]
    assert re.findall(r"^  (\d\w+) ", printed, re.MULTILINE) == layout.planned("power")
    verdict = re.search(r"^  verdict  (.+)$", printed, re.MULTILINE)[1]
    assert verdict in layout.notebook("power", "05_evaluate").read_text(encoding="utf-8")


def test_schedules_are_those_of_the_dag_files():
    part = README.split("## Schedules", 1)[1].split("\n## ", 1)[0]
    told = {}
    for names, times in re.findall(r"^\| (`\w+`[^|]*) \| (\w+ [\d:, ]+) \|", part, re.MULTILINE):
        day, *hours = times.replace(",", "").split()
        told |= {
            name: f"{day} {hour} UTC"
            for name, hour in zip(re.findall(r"\w+", names), hours, strict=True)
        }
    files = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "dags").glob("*.py")}
    found = {name: re.search(r'"(\w+ [\d:]+ UTC)"', text) for name, text in files.items()}
    assert told == {name: tag[1] for name, tag in found.items() if tag}


def test_room_that_is_needed_is_what_the_installation_says():
    sizes = re.findall(r"[\d.]+ GB", install.SIZE)
    for page in (README, KOREAN):
        assert re.findall(r"[\d.]+ GB", page)[:2] == sizes


def test_every_reference_run_has_its_row():
    paths = (ROOT / "outputs").glob("*/reference*/metrics.json")
    folders = {(path.parts[-3], path.parts[-2]) for path in paths}
    assert folders == {(pipeline, folder) for pipeline, folder, _ in ROWS}


@pytest.mark.parametrize("row", BENCHMARKS, ids=lambda row: row[0])
def test_benchmarks_are_those_of_their_tables(row):
    file, seeds, *cells = row
    lines = (ROOT / "benchmarks" / "results" / file).read_text(encoding="utf-8").splitlines()
    names = next(re.split(r"\s{2,}", line.strip()) for line in lines if " seed " in line)
    means = next(line.split() for line in lines if " mean " in line)
    mean = dict(
        zip(names, means, strict=False)
    )  # a peer that ran once has no mean, and stands last
    assert cells == [
        f"{float(mean['accuracy']):.4f}",
        f"{float(mean['one view']):.4f}",
        f"{float(mean['minutes']):.1f}",
    ]
    assert int(seeds) == sum(bool(re.match(r"\s+\d+ ", line)) for line in lines)


def test_spread_over_seeds_is_that_of_its_table():
    row = r"^\| \[power\]\(benchmarks/results/(\S+)\), [^|]+ \| (\d+) \| (.+) \|$"
    file, seeds, cells = re.search(row, README, re.MULTILINE).groups()
    lines = (ROOT / "benchmarks" / "results" / file).read_text(encoding="utf-8").splitlines()
    names = next(re.split(r"\s{2,}", line.strip())[1:] for line in lines if " seed " in line)
    mean, deviation = (
        dict(zip(names, line.split()[1:], strict=True))
        for line in lines
        if line.split()[:1] in (["mean"], ["deviation"])
    )
    assert cells.split(" | ") == [
        part[name] for name in ("rmse", "mae") for part in (mean, deviation)
    ]
    assert int(seeds) == sum(bool(re.match(r"\s+\d+ ", line)) for line in lines)


def test_make_targets_that_are_named_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z]+)\b", README))
    assert named and not {t for t in named if not re.search(rf"^{t}:", makefile, re.MULTILINE)}


def test_every_module_of_lib_is_in_the_tree_and_no_other():
    tree = re.search(r"^lib/ .*?^benchmarks/", README, re.MULTILINE | re.DOTALL)[0]
    words = set(re.findall(r"\b[a-z_]+\b", tree))
    modules = {p.stem for p in (ROOT / "lib").glob("*") if not p.stem.startswith("_")}
    assert modules <= words, modules - words


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    text = re.sub(r"`[^`]*`", "", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (path.parent / target).exists(), target


KOREAN = (ROOT / "README.ko.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\(([^)]+)\)")


def blocks(text):
    return re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def inline_commands(text):
    """The commands in running text, not cut at the end of a line."""
    return set(re.findall(r"`(make [^`]+)`", re.sub(r"\s*\n\s*", " ", text)))


def rows(text, start):
    """The first cells of the first table below the heading that begins with `start`."""
    part = text.split(f"\n## {start}", 1)[1].split("\n## ", 1)[0]
    return [line.split(" | ")[0] for line in part.splitlines() if line.startswith("| `")]


def test_korean_page_has_the_commands_of_the_english_one():
    assert rows(KOREAN, "명령") == rows(README, "Commands")
    assert inline_commands(KOREAN) <= inline_commands(README)
    tour, english = (t.split("\n1. **", 1)[1].split("\n## ", 1)[0] for t in (KOREAN, README))
    assert inline_commands(tour) == inline_commands(english)


def test_korean_page_has_code_and_links_of_the_english_one_and_no_others():
    own = blocks(KOREAN)
    assert own and set(own) <= set(blocks(README))
    links = set(LINK.findall(KOREAN)) - {"README.md"}
    assert links and links <= set(LINK.findall(README))
    assert "](README.ko.md)" in README and "](README.md)" in KOREAN


def test_every_target_is_in_the_table_of_commands():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):.*##", makefile, re.MULTILINE)) - {"help", "install"}
    named = set(re.findall(r"make ([a-z]+)", " ".join(rows(README, "Commands"))))
    assert named == targets
