"""What differs between two runs: metrics, parameters, data and environment, and in a few words.

Everything comes from the runs' summaries; neither run is touched. The first run is A, the second B;
a difference is B less A, and "better" is said of B, by the direction that `lib.ground.directions`
states for a metric. Nothing here is a statistical test.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping

from lib.ground.console import redact
from lib.pages.html import ZERO, decimals, duration, number, plain
from lib.pages.tables import directions_of, finite, metric_rows, other_numbers

SAME_TEST = ("n_test", "horizon")  # metrics that say what was asked of the model, not how it did
ENVIRONMENT = {"commit": "commit", "lock": "lock file", "python": "Python"}
DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,}")


def metric_pairs(
    a: Mapping[str, float],
    b: Mapping[str, float],
    directions: Mapping[str, bool] | None = None,
) -> list[dict]:
    """Return the metrics of two runs as rows, those first whose direction is known.

    Parameters
    ----------
    a, b : mapping of str to float
        Content of the two runs' `metrics.json`.
    directions : mapping of str to bool, optional
        As in `lib.pages.tables.metric_rows`.

    Returns
    -------
    list of dict
        ``metric``, ``kind`` (``metric``, ``baseline`` or ``other``), ``values`` of A and B (None
        where a run lacks it) and their ``intervals`` ((low, high) or None), ``places`` (decimals
        to show), ``greater_is_better`` (None where unknown), ``difference`` (b - a), ``share`` (of
        A's value, as text) and ``change`` (``better``, ``worse``, ``equal``, ``differs``, ``only in
        A``, ``only in B``).
    """
    a, b = finite(a), finite(b)
    both = {**b, **a}
    rows = metric_rows(both, directions)
    pairs = [_pair(row["metric"], "metric", a, b, row["greater_is_better"]) for row in rows]
    names = dict.fromkeys(f"{name}_{row['metric']}" for row in rows for name in row["baselines"])
    pairs += [_pair(name, "baseline", a, b) for name in names]
    return pairs + [_pair(name, "other", a, b) for name in other_numbers(both, rows)]


def _pair(name: str, kind: str, a: Mapping, b: Mapping, larger: bool | None = None) -> dict:  # noqa: FBT001
    one, other = values = a.get(name), b.get(name)
    ends = [(run.get(f"{name}_low"), run.get(f"{name}_high")) for run in (a, b)]
    difference = None
    if None in values:
        change = "only in A" if other is None else "only in B"
    elif math.isclose(one, other, rel_tol=1e-9, abs_tol=ZERO):
        change, difference = "equal", 0.0
    else:
        change, difference = "differs", other - one
        if larger is not None:
            change = "better" if (difference > 0) == larger else "worse"
    return {
        "metric": name,
        "kind": kind,
        "values": values,
        "intervals": [None if None in pair else pair for pair in ends],
        "places": places(*values),
        "greater_is_better": larger,
        "difference": difference,
        "share": f"{plain(100 * abs(difference / one), 2)}%" if difference and one else "",
        "change": change,
    }


def parameter_pairs(a: Mapping[str, dict], b: Mapping[str, dict]) -> list[dict]:
    """Return the parameters whose values differ, then those that only one of the runs has.

    Parameters
    ----------
    a, b : mapping of str to dict
        ``parameters`` of the two summaries.

    Returns
    -------
    list of dict
        ``name``, ``stage``, ``meaning``, ``a`` and ``b``: the values as text, None where a run has
        no such parameter.
    """
    found = []
    for name in {**a, **b}:
        one, other = (value_text(run[name]["value"]) if name in run else None for run in (a, b))
        if one != other:
            facts = {key: (b.get(name) or a[name])[key] for key in ("stage", "meaning")}
            found.append({"name": name, "a": one, "b": other} | facts)
    return sorted(found, key=lambda pair: None in (pair["a"], pair["b"]))


def differences(a: dict, b: dict, code: Mapping[str, list | None]) -> list[tuple[str, str]]:
    """Return what differs between two runs in a few lines: topic and words.

    Parameters
    ----------
    a, b : dict
        Summaries of the two runs.
    code : mapping
        What `lib.pages.code_diff.code_changes` returns.

    Returns
    -------
    list of (str, str)
        Topics of which there is nothing to say are left out.
    """
    pairs = metric_pairs(a["metrics"], b["metrics"], directions_of(b) | directions_of(a))
    headline = (a["headline"] or b["headline"]).get("metric", "")
    lines = {
        "metrics": _metric_words(pairs, headline),
        "take care": unlike_tests(a, b),
        "parameters": _parameter_words(a["parameters"], b["parameters"]),
        "data": data_words(a["dataset"], b["dataset"]),
        "environment": environment_words(a["start"], b["start"]),
        "code": _code_words(code) if a["pipeline"] == b["pipeline"] else "",
    }
    if a["seconds"] and b["seconds"]:
        times = f"{duration(a['seconds'])} and {duration(b['seconds'])}"
        lines["time"] = f"{times}, ratio {b['seconds'] / a['seconds']:.2f}"
    return [(topic, words) for topic, words in lines.items() if words]


def unlike_tests(a: dict, b: dict) -> str:
    """Say why the metrics of two runs do not answer the same question; "" if nothing speaks so."""
    reasons = ["the pipelines differ"] if a["pipeline"] != b["pipeline"] else []
    if len({run["dataset"].get("digest") for run in (a, b)} - {None}) > 1:
        reasons.append("the data differ")
    one, other = a["metrics"], b["metrics"]
    unlike = (name for name in sorted(one.keys() & other.keys()) if one[name] != other[name])
    asked = [name for name in unlike if name in SAME_TEST or name.startswith("persistence_")]
    reasons += [f"{name} differs" for name in asked[:1]]
    return f"{', '.join(reasons)}: the runs were not judged by the same test" if reasons else ""


def data_words(a: Mapping, b: Mapping, names: tuple[str, str] = ("in A", "in B")) -> str:
    """Say whether two runs had the same data, from their `dataset.json`."""
    if not a or not b:
        missing = [name for name, facts in zip(names, (a, b), strict=True) if not facts]
        return f"unknown, no dataset.json {' and '.join(missing)}"
    if a.get("digest") == b.get("digest"):
        return f"the same, {_rows(a)}, digest {str(a.get('digest'))[:12]}"
    one, other = (redact(str(facts.get("source"))) for facts in (a, b))
    origin = f"although both are from {one}" if one == other else f"from {one} and {other}"
    return f"different: {_rows(a)} {names[0]}, {_rows(b)} {names[1]}, {origin}"


def environment_words(a: Mapping, b: Mapping) -> str:
    """Say whether commit, lock file and Python were the same, from the runs' `run.json`."""
    words = []
    for key, name in ENVIRONMENT.items():
        one, other = a.get(key), b.get(key)
        if not one or not other:
            words.append(f"{name} unknown")
        elif one == other:
            words.append(f"same {name}{' with changes, which may differ' if '+' in one else ''}")
        else:
            words.append(f"{name} {value_text(one)} and {value_text(other)}")
    return ", ".join(words)


def places(*values: float | None) -> int | None:
    """Return with how many decimals to show numbers, so that different ones look different.

    See `lib.pages.html.decimals`; what differs by rounding only does not count as different.
    """
    known = [value for value in values if value is not None]
    unlike = {f"{value:.9g}" for value in known}
    for digits in (4, 6, 9):
        found = decimals(known, digits=digits)
        if found is None or len({number(value, found) for value in known}) == len(unlike):
            break
    return found


def value_text(value: object) -> str:
    """Return a parameter or a fact as JSON, text as it is but without secrets, digests short."""
    return DIGEST.sub(r"\1…", redact(value)) if isinstance(value, str) else json.dumps(value)


def _metric_words(pairs: list[dict], headline: str) -> str:
    known = {row["metric"]: row for row in pairs if row["kind"] == "metric"}
    if not known:
        return "none to compare"
    counts = Counter(row["change"] for row in known.values())
    words = ", ".join(f"{n} {change}" for change, n in sorted(counts.items()))
    words = f"of {len(known)} metrics {words}"
    row = known.get(headline)
    if row is None or row["difference"] is None:
        return words
    one, other = (number(value, row["places"]) for value in row["values"])
    by = f" by {plain(abs(row['difference']), 3)}" if row["difference"] else ""
    share = f", {row['share']}" if row["share"] else ""
    return f"{headline} {one} in A, {other} in B: {row['change']}{by}{share}; {words}"


def _parameter_words(a: Mapping[str, dict], b: Mapping[str, dict]) -> str:
    pairs = parameter_pairs(a, b)
    differ = [
        f"{pair['name']} {_clip(pair['a'])} → {_clip(pair['b'])}"
        for pair in pairs
        if None not in (pair["a"], pair["b"])
    ]
    shown = ", ".join([*differ[:4], "…"] if len(differ) > 4 else differ)
    words = [f"{len(differ)} of {len(a.keys() & b.keys())} differ{': ' if shown else ''}{shown}"]
    for letter, other in (("A", "b"), ("B", "a")):
        alone = [pair for pair in pairs if pair[other] is None]
        words += [f"{len(alone)} only in {letter}"] if alone else []
    return ", ".join(words)


def _clip(text: str, length: int = 40) -> str:
    return (text if len(text) <= length else f"{text[: length - 1]}…") or '""'


def _code_words(code: Mapping[str, list | None]) -> str:
    lacking = [stage for stage, lines in code.items() if lines is None]
    words = [f"not in both runs: {', '.join(lacking)}"] if lacking else []
    for stage, lines in code.items():
        if lines:
            signs = Counter(sign for sign, _ in lines)
            words.append(f"{stage} {signs['+']} lines added, {signs['-']} removed")
    return "; ".join(words) or "no notebook differs"


def _rows(facts: Mapping) -> str:
    n_rows = facts.get("n_rows")
    days = [str(facts.get(end, ""))[:10] for end in ("start", "end")]
    span = f", {' to '.join(days)}" if all(days) else ""
    return (f"{n_rows:,} rows" if isinstance(n_rows, int) else "unknown rows") + span
