"""The numbers on a run's page: its metrics, and what stands beside them.

Everything here is plain data, of which `templates/tables.html` makes tables.
"""

import math
import re
from collections.abc import Iterable, Mapping

from lib.ground.directions import GREATER_IS_BETTER, unit_of
from lib.pages.html import decimals, number, plain, when
from lib.registry.gate import cells

MINUS = "\N{MINUS SIGN}"


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
    said = (one for one in stated if {"metric", "greater_is_better"} <= one.keys())
    return {one["metric"]: bool(one["greater_is_better"]) for one in said}


def paired_rows(decision: Mapping) -> list[dict]:
    """Return the rows of a gate or of a comparison of versions, each with its `cells` as ``text``.

    Parameters
    ----------
    decision : mapping
        Content of ``gate.json`` or ``comparison.json``, {} where there is none.
    """
    rows = [{"floor": None, "passed": None} | row for row in decision.get("rows", ())]
    return [row | {"text": cells(row)} for row in rows]


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
        ``columns``: what the run is compared with, ``name``, ``note`` and ``run_dir``. ``tables``:
        ``baselines`` (names), ``has_intervals`` and ``rows``, as in `metric_rows` with ``unit``,
        ``is_gated`` and ``cells`` for the run itself, each column and each baseline: ``text``,
        ``note`` below it, ``kind`` of what the note tells, ``best``. ``numbers``: ``name``,
        ``text``, ``interval``.
    """
    rows = metric_rows(summary["metrics"], directions_of(summary))
    rest = other_numbers(summary["metrics"], rows)
    gates = {c["metric"].removesuffix("_low") for c in summary["verdict"].get("checks", [])}
    test = summary.get("test") or {}
    unit, own = test.get("unit", ""), {test.get("metric")} - GREATER_IS_BETTER.keys()
    rows.sort(key=lambda row: row["metric"] not in gates)
    columns = _columns(summary, previous, served)
    tables = []
    for has_baselines in (True, False):
        some = [row for row in rows if bool(row["baselines"]) == has_baselines]
        if not some:
            continue
        names = list(dict.fromkeys(name for row in some for name in row["baselines"]))
        lines = [
            row
            | {"unit": unit if row["metric"] in own else unit_of(row["metric"], unit)}
            | {"is_gated": row["metric"] in gates}
            | {"cells": _cells(row, columns, names)}
            for row in some
        ]
        has_intervals = any(row["low"] is not None for row in some)
        tables.append({"baselines": names, "rows": lines, "has_intervals": has_intervals})
    numbers = [_other(name, value, summary["metrics"]) for name, value in rest.items()]
    return {"columns": columns, "tables": tables, "numbers": numbers}


def _columns(summary: Mapping, previous: Mapping, served: Mapping) -> list[dict]:
    """Return what to compare this run with, ``metrics`` of it and those the gate has compared."""
    champion = summary["gate"].get("champion") or {}
    rows = summary["gate"].get("rows", ())
    same_rows = {row["metric"]: row["champion"] for row in rows if row["difference"] is not None}
    is_same = bool(previous and served and previous["run_dir"] == served["run_dir"])
    alias = f"@{served['alias']}, version {served['version']}" if served else ""
    found = []
    if previous:
        same = _same_data(summary, previous["dataset"].get("digest"))
        note = f"{alias}; {same}" if is_same else f"{when(previous['started'])}, {same}"
        is_champion = champion.get("run_dir") == previous["run_dir"]
        found.append(("Previous run", note, previous, is_champion))
    if served and not is_same:
        note = _same_data(summary, served.get("digest"))
        found.append((alias, note, served, champion.get("version") == served["version"]))
    return [
        {
            "name": name,
            "note": note,
            "run_dir": other["run_dir"],
            "metrics": other["metrics"] | (same_rows if is_champion else {}),
            "gated": same_rows.keys(),
        }
        for name, note, other, is_champion in found
    ]


def _same_data(summary: Mapping, digest: str | None) -> str:
    mine = summary["dataset"].get("digest")
    if not mine or not digest:
        return "data unknown"
    return "same data" if mine.startswith(digest) else "other data"


def _cells(row: Mapping, columns: list[dict], baselines: list[str]) -> list[dict]:
    others = [column["metrics"].get(row["metric"]) for column in columns]
    known = {"": row["value"], **row["baselines"]}
    places = decimals([*known.values(), row["low"], row["high"], *others], row["value"])
    shown = {one: value if places is None else round(value, places) for one, value in known.items()}
    best = (max if row["greater_is_better"] else min)(shown.values())
    bold = [one for one in shown if shown[one] == best] if len({*shown.values()}) > 1 else []
    ends = [number(row[end], places) for end in ("low", "high")]
    made = [_cell(number(row["value"], places), " to ".join(ends) * all(ends), best="" in bold)]
    for column, found in zip(columns, others, strict=True):
        is_gated = row["metric"] in column["gated"]
        change = ("",) if found is None else _change(row, found, places, is_gated=is_gated)
        made.append(_cell(number(found, places), *change))
    return made + [_cell(number(known.get(b), places), best=b in bold) for b in baselines]


def _change(row: Mapping, before: float, places: int | None, *, is_gated: bool) -> tuple[str, str]:
    """Return how this run's value differs from another's, and the kind of change that is.

    Whether it may be chance is the gate's to say where it has compared this metric.
    """
    change = row["value"] - before
    by = number(abs(change), places)
    if by == "0":
        return "no change", ""
    word = "better" if (change > 0) == row["greater_is_better"] else "worse"
    text = f"{'+' if change > 0 else MINUS}{by} {word}"
    is_inside = row["low"] is not None and row["low"] <= before <= (row["high"] or before)
    if is_inside and not is_gated:
        text += ", inside the interval"
    return text, "dim" if is_inside or is_gated else word


def _other(name: str, value: float, metrics: Mapping) -> dict:
    """Return a number of which nothing says whether larger is better, with its interval if any."""
    ends = [metrics.get(f"{name}_{end}") for end in ("low", "high")]
    if None in ends:
        return {"name": name, "text": plain(value), "interval": ""}
    places = decimals([value, *ends], value)
    interval = " to ".join(number(end, places) for end in ends)
    return {"name": name, "text": number(value, places), "interval": interval}


def _cell(text: str, note: str = "", kind: str = "", *, best: bool = False) -> dict:
    return {"text": text, "note": note, "kind": kind, "best": best}
