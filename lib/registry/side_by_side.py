"""Two versions of a registered model on the same rows: which is better, and in which words.

A is what there is, B what might follow it; differences are always B less A. Both get the same rows,
as far as it is known rows that neither has learned from, and it is said where it is not known.
Numbers come from `lib.registry.paired`, the places of disagreement from
`lib.registry.disagreement`.
"""

from collections.abc import Mapping, Sequence

from lib import judged
from lib.registry.gate import alpha, cells, improvement
from lib.registry.paired import Test
from lib.registry.rematch import moment, require_comparable, shared_rows
from lib.registry.rows import Rows, about_training, learned_by, predict
from lib.registry.standing import SAMPLE, Version, open_version, require_test

import numpy as np
import pandas as pd

Pair = tuple[Version, Version]


# Versions and rows ----------------------------------------------------------------------------


def open_pair(name: str, a: str, b: str) -> Pair:
    """Return two versions of a registered model.

    Parameters
    ----------
    name : str
        Registered model.
    a, b : str
        Versions by number or alias: ``"3"``, ``"@production"``.

    Raises
    ------
    lib.registry.rows.NotComparable
        If the older version is made for another task than the newer one.
    ValueError
        If there is no such model, version or alias; both are the same version; or it is not known
        which pipeline made them, or what they were judged by.
    """
    pair = open_version(name, a), open_version(name, b)
    of = newer(pair)
    if pair[0].number == pair[1].number:
        raise ValueError(
            f"a = {a!r} and b = {b!r} are both version {pair[0].number} of {name}: give two "
            f"versions; make history MODEL={name} lists them"
        )
    for version in pair:
        require_comparable(version, of.pipeline, require_test(of))
    return pair


def called(pair: Pair) -> dict[str, str]:
    """Return what both versions are called, ``B (version 4)`` for example, by label."""
    return {label: f"{label} ({one.words})" for label, one in zip("AB", pair, strict=True)}


def newer(pair: Pair) -> Version:
    """Return the version that was made later: rows are read as its run has read its own."""
    return max(pair, key=lambda version: version.number or 0)


def known(pair: Pair) -> pd.DataFrame:
    """Return what is known of both versions, a column for each; nothing of what neither has."""
    table = {
        label: {
            "model": one.name,
            "version": "" if one.number is None else str(one.number),
            "alias": ", ".join(f"@{alias}" for alias in one.aliases),
            "made by run": one.run_dir,
            "trained on": one.source,
            "digest of the data": one.tags.get("data_digest", "")[:12],
            "learned until": one.learned_until,
            "verdict of the gate": one.tags.get("gate.outcome", ""),
        }
        for label, one in zip("AB", pair, strict=True)
    }
    frame = pd.DataFrame(table)
    return frame[(frame != "").any(axis=1)]


def unseen(rows: Rows, pair: Pair) -> tuple[Test, list[str]]:
    """Return the rows that neither version has learned from, as far as that is known, and notes.

    Parameters
    ----------
    rows : Rows
        Those without a time are all judged, but for those that a version knows it has learned from.
    pair : tuple of Version

    Returns
    -------
    test : Test
        Those whose truth is known, after the time until which either has learned.
    notes : list of str
        What is left out, and what is not known.

    Raises
    ------
    ValueError
        If no row is left.
    """
    truth = rows.truth.loc[rows.keys[rows.keys.isin(rows.truth.index)]]
    if not len(truth):
        raise ValueError(f"no row of {rows.facts['source']} has a known truth: give more data")
    test = Test.of(require_test(newer(pair)), truth, rows.groups)
    times, both = judged.times(truth.index), [*zip(called(pair).values(), pair, strict=True)]
    if times is None:
        kept = ~np.logical_or(*(learned_by(version, rows, truth.index) for version in pair))
        if not kept.any():
            raise ValueError(
                f"one version or the other has learned from every row of {rows.facts['source']}: "
                "give newer data as source"
            )
        return test.select(kept), [about_training(*one, rows) for one in both]
    notes = [
        f"It is not known until when {words} has learned: it may know rows of this test, which "
        "would flatter it."
        for words, version in both
        if not version.learned_until
    ]
    until = learned_until(pair)
    if until is None:
        return test, notes
    kept = np.asarray(times > until)
    if not kept.any():
        raise ValueError(
            f"the data ends at {times.max()}, and a version has learned until {until}: no row is "
            "new to both. Give newer data as source"
        )
    said = f"{kept.sum():,} of {len(kept):,} rows are judged: those after {until}."
    return test.select(kept), [said, *notes]


def answer(rows: Rows, test: Test, pair: Pair) -> tuple[Test, np.ndarray, np.ndarray, list[str]]:
    """Return what both say, on the rows that both can answer.

    Parameters
    ----------
    rows : Rows
    test : Test
    pair : tuple of Version

    Returns
    -------
    test : Test
    a, b : ndarray of shape (n,) or, for classes, (n, n_classes)
    notes : list of str
        How many rows were left out, if any.
    """
    made = [predict(one.pipeline, one.model, rows, test.truth.index) for one in pair]
    shared, of_a, of_b = shared_rows(test, *made)
    n_lost = len(test.truth) - len(shared.truth)
    notes = [f"{n_lost:,} rows that one of them cannot answer are left out."] if n_lost else []
    return shared, of_a, of_b, notes


def learned_until(pair: Pair) -> pd.Timestamp | None:
    """Return the last time that either version is known to have learned from; None if unknown."""
    known = [moment(one.learned_until) for one in pair if one.learned_until]
    return max(known, default=None)


# Which is better ------------------------------------------------------------------------------


def better(row: Mapping, level: float = 0.95) -> str:
    """Return "A" or "B" where a metric tells which is better at `level`, "" where it does not.

    Parameters
    ----------
    row : mapping
        Of `lib.registry.paired.compare`, with B as the candidate.
    level : float, default 0.95
        Of the interval. Where there is a p-value, it has to be below ``1 - level`` as well.
    """
    _, low, high = improvement(row)
    if row.get("p_value") is not None and row["p_value"] >= alpha(level):
        return ""
    return "B" if low > 0 else "A" if high < 0 else ""


def explain(rows: Sequence[Mapping], pair: Pair, level: float = 0.95) -> str:
    """Return in one sentence which version is better by the metric that decides, if one is."""
    row, names = rows[0], called(pair)
    winner = better(row, level)
    verdict = f"{names[winner]} is better" if winner else "It cannot be told which is better"
    unit = f" {row['unit']}" if row.get("unit") else ""
    test = "" if row.get("p_value") is None else f", McNemar's p = {row['p_value']:.2g}"
    return (
        f"{verdict}: {row['metric']} is {row['champion']:.4g}{unit} of {names['A']} and "
        f"{row['candidate']:.4g}{unit} of {names['B']}, B less A is {row['difference']:+.3g}{unit} "
        f"({row['low']:+.3g} to {row['high']:+.3g}){test}."
    )


def table(rows: Sequence[Mapping], level: float = 0.95) -> pd.DataFrame:
    """Return the paired comparison for people: a line for each metric."""
    heads = {"in production": "A", "candidate": "B", "difference": "B less A"}
    heads |= {"interval": "interval", "p": "p"}
    frame = pd.DataFrame([cells({"floor": None, "passed": None} | row) for row in rows])
    frame = frame.set_index("metric")[list(heads)].rename(columns=heads)
    return frame.assign(better=[better(row, level) or "cannot be told" for row in rows])


def flat_metrics(rows: Sequence[Mapping], costs: pd.DataFrame) -> dict[str, float]:
    """Return everything that was measured by name, for ``metrics.json``.

    Parameters
    ----------
    rows : sequence of mapping
        Of `lib.registry.paired.compare`.
    costs : pandas.DataFrame
        Of `lib.registry.disagreement.measure_costs`.

    Returns
    -------
    dict of str to float
        ``a_rmse``, ``b_rmse``, ``difference_rmse``, its ``_low`` and ``_high``, ``p_accuracy``;
        ``a_latency_ms``, ``a_batch_latency_ms``, ``a_size_mb`` …
    """
    found = {}
    for row in rows:
        name = row["metric"]
        found |= {f"a_{name}": row["champion"], f"b_{name}": row["candidate"]}
        found |= {f"difference_{name}": row["difference"]}
        found |= {f"difference_{name}_low": row["low"], f"difference_{name}_high": row["high"]}
        if row["p_value"] is not None:
            found[f"p_{name}"] = row["p_value"]
    for label in costs.columns:
        found |= {f"{label.lower()}_{cost}": costs.loc[cost, label] for cost in costs.index}
    return {name: float(value) for name, value in found.items()}


def summary(
    pair: Pair,
    test: Test,
    rows: Sequence[Mapping],
    notes: Sequence[str],
    level: float,
    data: Mapping,
) -> dict:
    """Return the comparison as one JSON object, for ``comparison.json`` and the run's page.

    Returns
    -------
    dict
        ``model``, ``a`` and ``b`` (version and run of each), ``better`` ("A", "B" or ""),
        ``words``, ``rows``, ``level``, ``notes``, ``n_rows``, ``source`` and ``digest`` of the
        data.
    """
    versions = {
        label: {"name": one.name, "version": one.number, "run_dir": one.run_dir}
        for label, one in zip("ab", pair, strict=True)
    }
    return versions | {
        "model": pair[0].name if pair[0].number is not None else SAMPLE,
        "better": better(rows[0], level),
        "words": explain(rows, pair, level),
        "rows": [dict(row) for row in rows],
        "level": level,
        "notes": list(notes),
        "n_rows": len(test.truth),
        "source": data["source"],
        "digest": data["digest"],
    }
