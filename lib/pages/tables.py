"""The tables of numbers on a run's page: the gate, two versions, the metrics and what is beside.

Everything here is plain data, of which `templates/tables.html` makes HTML: a table has ``heads``
and ``rows``, a row its ``name`` and ``cells``, a cell its ``text`` and ``notes`` below it.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lib.ground.directions import GREATER_IS_BETTER
from lib.pages.html import decimals, number, plain, when
from lib.pages.summary import PAGE
from lib.registry.gate import alpha, cells, headings, signed

SURELY, NOT_SURELY, INSIDE = "surely", "not surely", "inside the interval"
RESULTS = {"passed": "better", "failed": "worse"}


def _head(text: str, note: str = "", address: str = "", *, kind: str = "number") -> dict:
    return {"text": text, "note": note, "address": address, "kind": kind}


METRIC = _head("Metric", kind="")


def page_of(run_dir: str | None) -> str:
    """Return the address of another run's page, seen from a run's page; "" without a run."""
    return f"../../{run_dir}/{PAGE}" if run_dir else ""


def metric_rows(
    metrics: Mapping[str, float], directions: Mapping[str, bool] | None = None
) -> list[dict]:
    """Return the metrics of a run as rows of a table, with intervals and baselines beside them.

    Parameters
    ----------
    metrics : mapping of str to float
        Content of `metrics.json`: ``rmse``, ``rmse_low``, ``persistence_rmse`` …
    directions : mapping of str to bool, optional
        Whether larger is better, of metrics that only their run knows, see `directions_of`.

    Returns
    -------
    list of dict
        ``metric``, ``value``, ``low`` and ``high`` (None where there is no interval),
        ``greater_is_better`` and ``baselines`` (value by name), for every metric whose direction is
        known, in their order; those with baselines first. What validation found is no baseline.
    """
    metrics = {k: v for k, v in finite(metrics).items() if not k.startswith("validation_")}
    known = GREATER_IS_BETTER | dict(directions or {})
    rows = []
    for metric in metrics:
        if metric not in known or metric.endswith(("_low", "_high")):
            continue
        ending = f"_{metric}"
        longer = tuple(f"_{other}" for other in known if other.endswith(ending))
        baselines = {
            name.removesuffix(ending): value
            for name, value in metrics.items()
            if name.endswith(ending) and not name.endswith(longer) and name not in known
        }
        row = {"metric": metric, "value": metrics[metric], "greater_is_better": known[metric]}
        row |= {end: metrics.get(f"{metric}_{end}") for end in ("low", "high")}
        rows.append(row | {"baselines": baselines})
    return sorted(rows, key=lambda row: not row["baselines"])


def other_numbers(metrics: Mapping[str, float], rows: Iterable[Mapping]) -> dict[str, float]:
    """Return the metrics that stand in none of the rows of `metric_rows`, by name.

    Nothing says of them whether larger is better. Ends of intervals are left out.
    """
    shown = set()
    for row in rows:
        shown |= {row["metric"], *(f"{name}_{row['metric']}" for name in row["baselines"])}
    return {
        name: value
        for name, value in sorted(finite(metrics).items())
        if name not in shown and re.sub("_(low|high)$", "", name) not in metrics.keys() - {name}
    }


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that are numbers, as all are unless the file is damaged."""
    numeric = {k: v for k, v in metrics.items() if isinstance(v, int | float)}
    return {name: value for name, value in numeric.items() if math.isfinite(value)}


def directions_of(summary: Mapping) -> dict[str, bool]:
    """Return whether larger is better of the metrics that a run's test and floors name."""
    stated = (summary.get("test") or {}, *summary["verdict"].get("checks", ()))
    return {
        one["metric"]: bool(one["greater_is_better"])
        for one in stated
        if isinstance(one, dict) and {"metric", "greater_is_better"} <= set(one)
    }


def gate_table(gate: Mapping) -> dict:
    """Return the table of the gate: floors, and the model beside the version in production.

    Parameters
    ----------
    gate : mapping
        A decision of `lib.registry.gate.decide`.

    Returns
    -------
    dict
        {} where there is none.
    """
    if not gate.get("rows"):
        return {}
    heads = [METRIC, _head("Result", kind=""), _head("Floor"), _head("Candidate")]
    version = (gate["champion"] or {}).get("version")
    is_compared = any(row["difference"] is not None for row in gate["rows"])
    if is_compared:
        address = page_of((gate["champion"] or {}).get("run_dir"))
        heads.append(_head("In production then", f"version {version}", address))
        heads.append(_head("Difference", headings(gate)["interval"]))
    rows = [_gate_row(row, is_compared=is_compared) for row in gate["rows"]]
    compared_with = version if is_compared else None
    return {"heads": heads, "rows": rows, "few": False, "compared_with": compared_with}


def _gate_row(row: Mapping, *, is_compared: bool) -> dict:
    text = cells(row)
    if row["low"] is None and row["candidate"] is not None:  # no interval says how many digits
        text["candidate"] = plain(row["candidate"])
    result = {"text": text["result"], "kind": RESULTS.get(text["result"], "dim"), "notes": []}
    made = [result, _cell(text["floor"]), _cell(text["candidate"])]
    if is_compared:
        p = text["p"] and f"McNemar's p = {text['p']}"
        made += [_cell(text["in production"]), _cell(text["difference"], text["interval"], p)]
    return _row(text["metric"], made, bold=row["decisive"])


def versions_table(comparison: Mapping) -> dict:
    """Return the paired metrics of two versions, where a run has compared such; {} elsewhere."""
    if not comparison.get("rows"):
        return {}
    level = f"{100 * comparison['level']:g} % interval"
    versions = (_version(label, comparison[label.lower()]) for label in "AB")
    heads = [METRIC, *versions, _head("B less A", level)]
    rows = [_paired_row(row) for row in comparison["rows"]]
    return {"heads": heads, "rows": rows, "few": False}


def _version(label: str, version: Mapping) -> dict:
    known = version["version"] is not None
    which = f"version {version['version']}" if known else version["name"]
    address = page_of(version["run_dir"]) if known else ""
    return _head(f"{label}, {which}", version["run_dir"], address)


def _paired_row(row: Mapping) -> dict:
    values = row["champion"], row["candidate"]
    places = decimals(values)
    shown = [number(value, places) for value in values]
    best = (max if row["greater_is_better"] else min)(values)
    made = [
        _cell(text, best=value == best and shown[0] != shown[1])
        for value, text in zip(values, shown, strict=True)
    ]
    interval = f"{signed(row['low'], places)} to {signed(row['high'], places)}"
    p = "" if row["p_value"] is None else f"McNemar's p = {row['p_value']:.2g}"
    made.append(_cell(signed(row["difference"], places), interval, p))
    return _row(_name(row, row["unit"]), made, bold=row["decisive"])


def metric_tables(summary: Mapping, previous: Mapping, served: Mapping) -> dict:
    """Return the metrics of a run: those with baselines, then the others, then plain numbers.

    Parameters
    ----------
    summary, previous : mapping
        Of `lib.pages.summary.summarise`: the run, and the one before, {} without one.
    served : mapping
        The version that serves, as `lib.registry.standing.serving` returns it.

    Returns
    -------
    dict
        ``tables``, ``notes`` (sentences) and ``numbers`` (``name``, ``text``, ``interval``).
    """
    rows = metric_rows(summary["metrics"], directions_of(summary))
    rest = other_numbers(summary["metrics"], rows)
    gates = {c["metric"].removesuffix("_low") for c in summary["verdict"].get("checks", [])}
    test = summary.get("test") or {}
    units = {test.get("metric"): test.get("unit", "")}
    rows.sort(key=lambda row: row["metric"] not in gates)
    beside = [row for row in rows if row["baselines"]]
    alone = [row for row in rows if not row["baselines"]]
    count = Counter(name for row in beside for name in row["baselines"])
    shared = [name for name, n in count.items() if n > 1 or len(beside) == 1]
    columns = _columns(summary, previous, served)
    tables = []
    for some, names in ((beside, shared), (alone, [])):
        lines = [
            _metric_row(r, columns, names, _name(r, units.get(r["metric"], "")), gates)
            for r in some
        ]
        if lines:
            interval = "95 % interval" if any(row["low"] is not None for row in some) else ""
            heads = [METRIC, _head("This run", interval), *(column["head"] for column in columns)]
            heads += [_head(name.replace("_", " "), "baseline") for name in names]
            tables.append({"heads": heads, "rows": lines, "few": not names})
    return {
        "tables": tables,
        "notes": _notes(tables, summary["gate"], has_baselines=bool(beside)),
        "numbers": [_other(name, value, summary["metrics"]) for name, value in rest.items()],
    }


def _notes(tables: Sequence[Mapping], gate: Mapping, *, has_baselines: bool) -> list[str]:
    """Return the sentences that explain what the tables show, those that are needed."""
    if not tables:
        return []
    notes = [n for t in tables for row in t["rows"] for cell in row["cells"] for n in cell["notes"]]
    words = {part for note in notes for part in note["parts"]}
    said = ["Arrows: which way is better. Bold names: what the gate checks."]
    said += ["Bold numbers: best of model and baselines."] if has_baselines else []
    said += [f"{INSIDE.capitalize()}: may be chance."] if INSIDE in words else []
    if {SURELY, NOT_SURELY} & words:
        version = gate["champion"].get("version")
        paired = "Surely, not surely: compared row by row with version"
        said.append(f"{paired} {version}, as the gate has found it.")
    return said


def _columns(summary: Mapping, previous: Mapping, served: Mapping) -> list[dict]:
    """Return what to compare this run with: heading, metrics, and what the gate says of a pair."""
    gate = summary["gate"]
    champion = gate.get("champion") or {}
    is_same = bool(previous and served and previous["run_dir"] == served["run_dir"])
    alias = f"@{served['alias']}, version {served['version']}" if served else ""
    found = []
    if previous:
        same = _same_data(summary, previous["dataset"].get("digest"))
        note = f"{alias}; {same}" if is_same else f"{when(previous['started'])}, {same}"
        head = _head("Previous run", note, page_of(previous["run_dir"]))
        found.append((head, previous, champion.get("run_dir") == previous["run_dir"]))
    if served and not is_same:
        same = _same_data(summary, served.get("digest"))
        head = _head(alias, same, page_of(served["run_dir"]))
        found.append((head, served, champion.get("version") == served["version"]))
    pairs = {row["metric"]: row for row in gate.get("rows", ()) if row["difference"] is not None}
    columns = []
    for head, other, is_champion in found:  # the gate compares on the same rows
        own = pairs if is_champion else {}
        known = other["metrics"] | {metric: pair["champion"] for metric, pair in own.items()}
        column = {"head": head, "metrics": known, "pairs": own, "compared": pairs.keys()}
        columns.append(column | {"level": gate.get("level", 0.95)})
    return columns


def _same_data(summary: Mapping, digest: str | None) -> str:
    mine = summary["dataset"].get("digest")
    if not mine or not digest:
        return "data unknown"
    return "same data" if mine.startswith(digest) else "other data"


def _metric_row(
    row: Mapping, columns: list[dict], baselines: list[str], name: str, gates: set[str]
) -> dict:
    others = [column["metrics"].get(row["metric"]) for column in columns]
    known = {"": row["value"], **row["baselines"]}
    places = decimals([*known.values(), row["low"], row["high"], *others], row["value"])
    shown = {one: value if places is None else round(value, places) for one, value in known.items()}
    best = (max if row["greater_is_better"] else min)(shown.values())
    bold = {one: value == best and len({*shown.values()}) > 1 for one, value in shown.items()}
    ends = [number(row[end], places) for end in ("low", "high")]
    made = [_cell(number(row["value"], places), " to ".join(ends) * all(ends), best=bold[""])]
    for column, found in zip(columns, others, strict=True):
        change = "" if found is None else _change(row, found, places, column)
        made.append(_cell(number(found, places), change))
    for one in baselines:
        made.append(_cell(number(known.get(one), places), best=bold.get(one, False)))
    aside = [
        {"name": one.replace("_", " "), "text": number(value, places), "best": bold[one]}
        for one, value in row["baselines"].items()
        if one not in baselines
    ]
    return _row(name, made, bold=row["metric"] in gates, aside=aside)


def _change(row: Mapping, before: float, places: int | None, column: Mapping) -> str | dict:
    """Return how this run's value differs from another's, whether that is better, and how surely.

    Where the gate has compared both on the same rows, its answer is the one that counts.
    """
    pair = column["pairs"].get(row["metric"])
    change = pair["difference"] if pair else row["value"] - before
    by = number(abs(change), places)
    if by == "0":
        return "no change"
    kind = word = "better" if (change > 0) == row["greater_is_better"] else "worse"
    surely = []
    if pair and pair["low"] is not None:
        is_sure = pair["low"] > 0 or pair["high"] < 0
        is_sure &= pair["p_value"] is None or pair["p_value"] < alpha(column["level"])
        surely, kind = ([SURELY], word) if is_sure else ([NOT_SURELY], "dim")
    elif row["low"] is not None and row["low"] <= before <= (row["high"] or before):
        kind = "dim"  # and no word where the gate has a better answer for this metric
        surely = [] if row["metric"] in column["compared"] else [INSIDE]
    sign = "+" if change > 0 else "\N{MINUS SIGN}"
    return {"parts": [f"{sign}{by} {word}", *surely], "kind": kind}


def _other(name: str, value: float, metrics: Mapping) -> dict:
    """Return a number of which nothing says whether larger is better, with its interval if any."""
    ends = [metrics.get(f"{name}_{end}") for end in ("low", "high")]
    if None in ends:
        return {"name": name, "text": plain(value), "interval": ""}
    places = decimals([value, *ends], value)
    interval = " to ".join(number(end, places) for end in ends)
    return {"name": name, "text": number(value, places), "interval": interval}


def _name(row: Mapping, unit: str) -> str:
    arrow = "↑" if row["greater_is_better"] else "↓"
    return f"{row['metric']} ({unit}) {arrow}" if unit else f"{row['metric']} {arrow}"


def _row(name: str, made: list[dict], *, bold: bool, aside: Sequence[Mapping] = ()) -> dict:
    return {"name": name, "cells": made, "bold": bold, "aside": aside}


def _cell(text: str, *notes: str | dict, best: bool = False) -> dict:
    """Return a cell with a number; a note is text, or parts with the kind of change they tell."""
    parts = [n if isinstance(n, dict) else {"parts": [n], "kind": ""} for n in notes if n]
    return {"text": text, "kind": f"number{' best' * best}", "notes": parts}
