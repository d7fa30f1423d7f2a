"""What differs between two runs: metrics, parameters, data, environment and code cells.

Everything comes from the runs' summaries and executed notebooks; neither run is touched. The first
run is A, the second B; a difference is B less A, and "better" is said of B, by the direction that
`lib.floors` states for a metric. Nothing here is a statistical test.
"""

import json
import math
from collections.abc import Mapping

from lib.pages import tables
from lib.pages.html import ZERO, decimals, duration, number, plain
from lib.sources import redact

SAME_TEST = ("n_test", "horizon")  # metrics that say what was asked of the model, not how it did
CHANGES = ("better", "worse", "equal", "only in A", "only in B")
KINDS = ("changed", "added", "removed")
PARTLY = "code is not compared, the rest where names are the same"


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
        ``metric``, ``kind`` (``metric``, ``baseline`` or ``other``), ``a`` and ``b`` (None where
        a run lacks it), ``a_interval`` and ``b_interval`` ((low, high) or None),
        ``greater_is_better`` (None where unknown), ``difference`` (b - a), ``change``
        (``better``, ``worse``, ``equal``, ``differs``, ``only in A``, ``only in B``) and
        ``overlap`` (of the intervals; None unless both runs have one).
    """
    a, b = _finite(a), _finite(b)
    rows: dict[str, dict] = {}
    ends: set[str] = set()
    for row in tables.metric_rows({**b, **a}, directions):
        name, larger = row["metric"], row["greater_is_better"]
        rows[name] = _pair(name, "metric", a, b, larger)
        ends |= {f"{name}_low", f"{name}_high"} if rows[name]["overlap"] is not None else set()
        for baseline in row["baselines"]:
            full = f"{baseline}_{name}"
            rows.setdefault(full, _pair(full, "baseline", a, b, None))
    for name in sorted({**a, **b}.keys() - rows.keys() - ends):
        rows[name] = _pair(name, "other", a, b, None)
    return sorted(rows.values(), key=lambda row: row["kind"] == "other")


def directions_of(a: Mapping, b: Mapping) -> dict[str, bool]:
    """Return whether larger is better of the metrics that the floors of two runs name."""
    return tables.directions_of(b) | tables.directions_of(a)


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


def differences(a: dict, b: dict, code: Mapping[str, list[dict] | str]) -> list[tuple[str, str]]:
    """Return what differs between two runs in a few lines: topic and words.

    Parameters
    ----------
    a, b : dict
        Summaries of the two runs.
    code : mapping
        What `code_changes` returns.

    Returns
    -------
    list of (str, str)
    """
    pairs = metric_pairs(a["metrics"], b["metrics"], directions_of(a, b))
    lines = []
    if a["pipeline"] != b["pipeline"]:
        lines.append(("pipelines", f"different, {a['pipeline']} and {b['pipeline']}; {PARTLY}"))
    headline = a["headline"] or b["headline"]
    lines.append(("metrics", _metric_words(pairs, headline.get("metric", ""))))
    if reason := unlike_tests(a, b):
        lines.append(("take care", reason))
    lines.append(("parameters", _parameter_words(a["parameters"], b["parameters"])))
    lines.append(("data", data_words(a["dataset"], b["dataset"])))
    lines.append(("environment", environment_words(a["start"], b["start"])))
    if a["pipeline"] == b["pipeline"]:
        lines.append(("code", _code_words(code)))
    if a["seconds"] and b["seconds"]:
        times = f"{duration(a['seconds'])} and {duration(b['seconds'])}"
        lines.append(("time", f"{times}, ratio {b['seconds'] / a['seconds']:.2f}"))
    return lines


def unlike_tests(a: dict, b: dict) -> str:
    """Say why the metrics of two runs do not answer the same question; "" if nothing speaks so."""
    reasons = []
    if a["pipeline"] != b["pipeline"]:
        reasons.append("the pipelines differ")
    digests = [run["dataset"].get("digest") for run in (a, b)]
    if all(digests) and digests[0] != digests[1]:
        reasons.append("the data differ")
    for name in sorted(a["metrics"].keys() & b["metrics"].keys()):
        asked = name in SAME_TEST or name.startswith("persistence_")
        if asked and a["metrics"][name] != b["metrics"][name]:
            reasons.append(f"{name} differs")
            break
    if not reasons:
        return ""
    return f"{', '.join(reasons)}: the runs were not judged by the same test"


def data_words(a: Mapping, b: Mapping, names: tuple[str, str] = ("in A", "in B")) -> str:
    """Say whether two runs had the same data, from their `dataset.json`."""
    if not a or not b:
        missing = [name for name, facts in zip(names, (a, b), strict=True) if not facts]
        return f"unknown, no dataset.json {' and '.join(missing)}"
    if a.get("digest") == b.get("digest"):
        return f"the same, {_rows(a)}, digest {str(a.get('digest'))[:12]}"
    words = [f"different: {_rows(a)} {names[0]}, {_rows(b)} {names[1]}"]
    if a.get("source") != b.get("source"):
        words.append(f"from {redact(str(a.get('source')))} and {redact(str(b.get('source')))}")
    else:
        words.append(f"although both are from {redact(str(a.get('source')))}")
    return ", ".join(words)


def environment_words(a: Mapping, b: Mapping) -> str:
    """Say whether commit, lock file and Python were the same, from the runs' `run.json`."""
    words = []
    for key, name in (("commit", "commit"), ("lock", "lock file"), ("python", "Python")):
        if not a.get(key) or not b.get(key):
            words.append(f"{name} unknown")
        elif a[key] == b[key]:
            unsure = " with changes, which may differ" if "+" in a[key] else ""
            words.append(f"same {name}{unsure}")
        else:
            words.append(f"{name} {_short(key, a[key])} and {_short(key, b[key])}")
    return ", ".join(words)


def places(*values: float | None) -> int | None:
    """Return with how many decimals to show numbers, so that different ones look different.

    See `lib.pages.html.decimals`; what differs by rounding only does not count as different.
    """
    known = [value for value in values if value is not None]
    for digits in (4, 6, 9):
        found = decimals(known, digits=digits)
        if found is None or len({number(v, found) for v in known}) == len(set(map(_whole, known))):
            break
    return found


def numbers(*values: float | None) -> list[str]:
    """Return numbers as text, with so many digits that different ones look different."""
    found = places(*values)
    return [number(value, found) for value in values]


def _whole(value: float) -> float:
    return float(f"{value:.9g}") if abs(value) > ZERO else 0.0


def share_text(share: float) -> str:
    """Return a fraction, 0 or more, in percent; one that rounding would hide is "under 0.1%"."""
    return f"{share:.1%}" if not 0 < share < 0.0005 else "under 0.1%"


def value_text(value: object) -> str:
    """Return the value of a parameter or a fact as JSON, text as it is but without secrets."""
    return redact(value) if isinstance(value, str) else json.dumps(value)


def _pair(
    name: str,
    kind: str,
    a: Mapping[str, float],
    b: Mapping[str, float],
    larger: bool | None,  # noqa: FBT001
) -> dict:
    one, other = a.get(name), b.get(name)
    intervals = [_interval(name, run) for run in (a, b)]
    overlap = None
    if all(intervals):
        overlap = intervals[0][0] <= intervals[1][1] and intervals[1][0] <= intervals[0][1]
    if one is None or other is None:
        difference, change = None, "only in A" if other is None else "only in B"
    else:
        is_equal = math.isclose(one, other, rel_tol=1e-9, abs_tol=ZERO)
        difference = 0.0 if is_equal else other - one
        change = "equal" if is_equal else "differs"
        if difference and larger is not None:
            change = "better" if (difference > 0) == larger else "worse"
    row = {"metric": name, "kind": kind, "a": one, "b": other, "greater_is_better": larger}
    row |= {"a_interval": intervals[0], "b_interval": intervals[1], "overlap": overlap}
    return row | {"difference": difference, "change": change}


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that are numbers, as all are unless the file is damaged."""
    numeric = {k: v for k, v in metrics.items() if isinstance(v, int | float)}
    return {name: value for name, value in numeric.items() if math.isfinite(value)}


def _interval(name: str, metrics: Mapping[str, float]) -> tuple[float, float] | None:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return None if low is None or high is None else (low, high)


def _metric_words(pairs: list[dict], headline: str) -> str:
    known = [row for row in pairs if row["kind"] == "metric"]
    if not known:
        return "none to compare"
    counts = {change: sum(row["change"] == change for row in known) for change in CHANGES}
    words = ", ".join(f"{count} {change}" for change, count in counts.items() if count)
    words = f"of {len(known)} metrics {words}"
    first = next((row for row in known if row["metric"] == headline), None)
    if first is None or first["difference"] is None:
        return words
    one, other = numbers(first["a"], first["b"])
    lead = f"{headline} {one} in A, {other} in B: {first['change']}{_by(first)}"
    return f"{lead}; {words}"


def _by(row: dict) -> str:
    """Return how much a metric differs, with what the intervals say."""
    if not row["difference"]:
        return ""
    share = f", {share_text(abs(row['difference'] / row['a']))}" if row["a"] else ""
    intervals = {True: "; the intervals overlap", False: "; the intervals are apart", None: ""}
    return f" by {plain(abs(row['difference']), 3)}{share}{intervals[row['overlap']]}"


def _parameter_words(a: Mapping[str, dict], b: Mapping[str, dict]) -> str:
    both = a.keys() & b.keys()
    pairs = parameter_pairs(a, b)
    differ = [pair for pair in pairs if pair["name"] in both]
    shown = [f"{p['name']} {_clip(p['a'])} → {_clip(p['b'])}" for p in differ[:4]]
    more = f" and {len(differ) - 4} more" if len(differ) > 4 else ""
    words = f"{len(differ)} of {len(both)} differ: {', '.join(shown)}{more}"
    if not differ:
        words = f"all {len(both)} agree" if both else "none in both"
    for name, half in (("A", "b"), ("B", "a")):
        alone = sum(pair[half] is None for pair in pairs)
        words += f", {alone} only in {name}" if alone else ""
    return words


def _clip(text: str, length: int = 40) -> str:
    return (text if len(text) <= length else f"{text[: length - 1]}…") or '""'


def _code_words(code: Mapping[str, list[dict] | str]) -> str:
    if not code:
        return "no executed notebook in either run"
    words = []
    for stage, changes in code.items():
        if changes and not isinstance(changes, str):
            counts = [(kind, sum(c["change"] == kind for c in changes)) for kind in KINDS]
            words.append(f"{stage} {', '.join(f'{n} {kind}' for kind, n in counts if n)}")
    compared = sum(not isinstance(changes, str) for changes in code.values())
    skipped = len(code) - compared
    rest = f"; {skipped} of {len(code)} notebooks not compared" if skipped else ""
    if not compared:
        return "not compared, no notebook is in both runs"
    return f"cells: {'; '.join(words)}{rest}" if words else f"the same in all cells{rest}"


def _rows(facts: Mapping) -> str:
    n_rows = facts.get("n_rows")
    days = [str(facts.get(end, ""))[:10] for end in ("start", "end")]
    span = f", {' to '.join(days)}" if all(days) else ""
    return (f"{n_rows:,} rows" if isinstance(n_rows, int) else "unknown rows") + span


def _short(key: str, value: str) -> str:
    if key == "python":
        return value
    name, sign, rest = value.partition("+")
    return name[:10] + sign + rest
