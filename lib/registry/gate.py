"""Whether a version may enter production: a decision, its table and its words.

The floors come first, then the comparison with the version in production on the same rows. A
version is promoted only if it is better than that by more than the margin, surely; whatever cannot
be compared is left to a person. Each outcome has its sentence, and nothing here writes or draws.
"""

import math
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lib.ground.directions import reaches

if TYPE_CHECKING:
    import pandas as pd

PROMOTED = ("first", "better")
BY_HAND = "Run by hand, it goes to @staging at most, and further only by make promote."
HELD = {"metric": "run by hand", "result": "@staging at most"}
MAX_CHARACTERS = 1000  # of a reason: MLflow's tags and descriptions take few thousand
SPECIAL = str.maketrans({mark: f"\\{mark}" for mark in "\\[]<>|`*"})


def judge(
    verdict: Mapping,
    found: Mapping,
    *,
    margin: float = 0.0,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> dict:
    """Compare a run's model with the version in production, and decide.

    Parameters
    ----------
    verdict : mapping
        Of `lib.floors.check`: the floors.
    found : mapping
        Of `lib.registry.rematch.against_production`: ``champion``, ``test``, ``candidate``,
        ``champion_predictions``, ``problem``, ``notes`` and ``by_hand``.
    margin : float, default 0
        As in `decide`.
    level : float, default 0.95
        As in `decide`.
    n_resamples, seed : int
        Of the bootstrap, see `lib.registry.paired.compare`.

    Returns
    -------
    dict
        As `decide`. A comparison that cannot be computed is a problem that a person must look at.
    """
    problem, rows = found["problem"], None
    if found["champion"] and found["champion_predictions"] is not None:
        from lib.registry.paired import compare

        pair = found["candidate"], found["champion_predictions"]
        try:
            rows = compare(found["test"], *pair, n_resamples=n_resamples, level=level, seed=seed)
        except ValueError as error:
            failed = f"the comparison cannot be computed: {error}"
            problem = f"{problem}; {failed}" if problem else failed
    return decide(
        verdict,
        champion=found["champion"],
        rows=rows,
        margin=margin,
        problem=problem,
        notes=found["notes"],
        level=level,
        by_hand=found["by_hand"],
    )


def decide(
    verdict: Mapping,
    *,
    champion: Mapping | None,
    rows: Sequence[Mapping] | None = None,
    margin: float = 0.0,
    problem: str = "",
    notes: Sequence[str] = (),
    level: float = 0.95,
    by_hand: bool = False,
) -> dict:
    """Return what the gate says of a model, ready to be kept as ``gate.json``.

    Parameters
    ----------
    verdict : mapping
        Of `lib.floors.check`: ``passed`` and ``checks``.
    champion : mapping or None
        The version in production: ``version`` and whatever else is known of it. None if there is
        none.
    rows : sequence of mapping, optional
        Of `lib.registry.paired.compare`, with the model as the candidate.
    margin : float, default 0
        By how much the decisive metric has to be better, in its unit, 0 or more.
    problem : str, default ""
        Why a person must decide, a sentence.
    notes : sequence of str
        What else a reader should know, sentences.
    level : float, default 0.95
        Of the two-sided intervals of `rows`.
    by_hand : bool, default False
        Whether a person has run the notebook: what the gate finds is the same, but nothing enters
        production because somebody tries something.

    Returns
    -------
    dict
        ``outcome``
            The first that applies: ``refused``, a floor was not reached; ``undecided``, there is a
            problem, or no comparison although there is a champion; ``first``, nothing is in
            production; ``better``, the lower end of the improvement is above the margin and
            McNemar's p, where there is one, below ``1 - level``; else ``not_better``.
        ``promote``
            Whether it may be promoted without a person: ``first`` and ``better`` only, and not by
            hand.
        ``reason``
            Why, one sentence without its full stop.
        ``rows``
            The table: a row for each floor and each compared metric, those that decide first.
            ``metric``, ``unit``, ``greater_is_better``, ``floor``, ``candidate``, ``champion``,
            ``difference``, ``low``, ``high``, ``p_value`` (None where there is none),
            ``decisive``, and ``passed``, None where a metric is only shown.
        ``champion``, ``margin``, ``level``, ``notes``, ``by_hand``
            As given.

    Raises
    ------
    ValueError
        If `margin` is negative or not finite.
    """
    if not 0 <= margin < math.inf:
        raise ValueError(f"margin={margin} must be 0 or more, in the unit of the decisive metric")
    compared = [dict(row) for row in rows or ()]
    deciding = next((row for row in compared if row["decisive"]), None)
    outcome, reason = _outcome(verdict, champion, deciding, margin, problem, level)
    return {
        "outcome": outcome,
        "promote": outcome in PROMOTED and not by_hand,
        "reason": reason,
        "champion": dict(champion) if champion else None,
        "rows": _table(verdict, compared, margin, level),
        "margin": float(margin),
        "level": float(level),
        "notes": list(notes),
        "by_hand": by_hand,
    }


def words(gate: Mapping) -> str:
    """Return the decision of the gate in one sentence, and a second where it is not followed."""
    outcome = gate["outcome"].replace("_", " ").capitalize()
    if gate["outcome"] == "undecided":
        outcome = f"{outcome}, a person must decide"
    said = f"{outcome}: {gate['reason']}."
    return f"{said} {BY_HAND}" if is_held(gate) else said


def is_held(gate: Mapping) -> bool:
    """Say whether a version stays out of production only because it was made by hand."""
    return bool(gate.get("by_hand")) and gate["outcome"] in PROMOTED


def is_promoted(registration: Mapping, promotion: Mapping) -> bool:
    """Return whether the version of a run has entered production, as its two files say."""
    promotion = _followed(registration, promotion)
    if promotion:
        return promotion.get("outcome") == "promoted"
    return bool(registration.get("promoted"))


def _followed(registration: Mapping, promotion: Mapping) -> Mapping:
    """Return what became of the version; {} if the file is of an earlier try of this run."""
    return promotion if promotion.get("version") == registration.get("version") else {}


def settled(gate: Mapping, registration: Mapping, promotion: Mapping) -> list[str]:
    """Return what the gate said and what followed, the most important sentence first.

    Parameters
    ----------
    gate, registration, promotion : mapping
        Content of ``gate.json``, ``registration.json`` and ``promotion.json``, {} where there is
        none yet.

    Returns
    -------
    list of str
        Sentences: the gate's, as "Promoted" where the version has entered production, and then who
        agreed, who did not, or what the policy left undone.
    """
    promotion = _followed(registration, promotion)
    outcome, who = promotion.get("outcome"), promotion.get("who", "")
    said = _sentence(str(promotion.get("reason", "")))
    if is_promoted(registration, promotion):
        first = f"Promoted: {gate['reason']}."
        if not who:
            return [first]
        if gate["outcome"] in PROMOTED:
            return [first, f"{who} has agreed: {said}."]
        return [f"Promoted by {who} against the gate: {said}.", words(gate)]
    policy = promotion.get("policy") or registration.get("policy", "")
    follow = {
        "kept": f"Not promoted; the policy is {policy}.",
        "rejected": f"Not promoted, {who or 'somebody'} said no: {said}.",
        "expired": f"Not promoted: {said}.",
        "waiting": f"Not promoted yet: {said}.",
        "approved": f"{who or 'Somebody'} has agreed, and the promotion is under way: {said}.",
        "refused": f"Not promoted, although {who or 'somebody'} agreed: {said}.",
    }.get(str(outcome), "")
    if not promotion and registration and policy == "approval":
        follow = "Waits for a person to approve it."
    if is_held(gate):
        follow = (
            f"Only a person promotes it: {how_to_promote(registration)}." if registration else ""
        )
    return [words(gate), follow] if follow else [words(gate)]


def how_to_promote(registration: Mapping) -> str:
    """Return the command that puts the version of a run into production."""
    name, version = registration["name"], registration["version"]
    return f'make promote MODEL={shlex.quote(name)} VERSION={version} REASON="..."'


def cells(row: Mapping) -> dict[str, str]:
    """Return a row of the gate's table as text.

    Parameters
    ----------
    row : mapping
        One of ``rows`` of a decision.

    Returns
    -------
    dict of str to str
        ``metric`` with its unit and an arrow to where better is, ``floor``, ``candidate``,
        ``in production``, ``difference``, ``interval``, ``p`` and ``result``; "" where there is
        nothing to say.
    """
    larger, n_decimals = row["greater_is_better"], decimals(row)
    unit = f" ({row['unit']})" if row.get("unit") else ""
    floor = "" if row["floor"] is None else f"{'≥' if larger else '≤'} {row['floor']:g}"
    interval = ""
    if row["low"] is not None:
        low, high = (signed(row[end], n_decimals) for end in ("low", "high"))
        interval = f"{low} to {high}"
    return {
        "metric": f"{row['metric']}{unit} {'↑' if larger else '↓'}",
        "floor": floor,
        "candidate": number(row["candidate"], n_decimals) or "missing",
        "in production": number(row["champion"], n_decimals),
        "difference": signed(row["difference"], n_decimals),
        "interval": interval,
        "p": "" if row["p_value"] is None else f"{row['p_value']:.2g}",
        "result": result(row),
    }


def result(row: Mapping) -> str:
    """Return what became of a row: "passed", "failed", "not better" or "for information".

    A decisive metric that reached its floor, or has none, and is not surely better than what is in
    production is no failure.
    """
    if row["passed"] is None:
        return "for information"
    if row["passed"]:
        return "passed"
    if not row["decisive"] or not _is_known(row):
        return "failed"
    floor, larger = row["floor"], row["greater_is_better"]
    if floor is None or reaches(row["candidate"], floor, greater_is_better=larger):
        return "not better"
    return "failed"


def markdown(gate: Mapping) -> str:
    """Return the decision as Markdown: the sentence, the table, the notes.

    It is the description of the version, and what a person reads who is asked for approval.
    """
    lines = [words(gate).translate(SPECIAL), ""]
    if gate["rows"]:
        table = [cells(row) for row in gate["rows"]]
        heads = headings(gate)
        kept = [key for key in heads if any(row[key] for row in table)]
        lines.append("| " + " | ".join(heads[key] for key in kept) + " |")
        lines.append(
            "|" + "|".join("---" if key in ("metric", "result") else "--:" for key in kept) + "|"
        )
        lines += ["| " + " | ".join(row[key] for key in kept) + " |" for row in table]
        lines.append("")
    if gate["margin"]:
        lines.append(f"- margin: {gate['margin']:g}")
    lines += [f"- {note.translate(SPECIAL)}" for note in gate["notes"]]
    return "\n".join(lines).strip()


def table(gate: Mapping) -> "pd.DataFrame":
    """Return the table of the gate for a notebook: a row for each metric, all as text."""
    import pandas as pd

    heads = headings(gate)
    frame = pd.DataFrame([cells(row) for row in gate["rows"]], columns=list(heads))
    if is_held(gate):
        frame.loc[len(frame)] = dict.fromkeys(frame, "") | HELD
    shown = ["metric", *(key for key in frame if key != "metric" and (frame[key] != "").any())]
    return frame[shown].rename(columns=heads).set_index("metric")


def headings(gate: Mapping) -> dict[str, str]:
    """Return the heading of each of the `cells` of the table."""
    names = {key: key for key in ("metric", "result", "floor", "candidate")}
    names["in production"] = "in production"
    if gate["champion"]:
        names["in production"] += f", version {gate['champion']['version']}"
    names["difference"] = "difference"
    names["interval"] = f"{100 * gate['level']:g} % interval"
    return names | {"p": "McNemar's p"}


def decimals(row: Mapping) -> int | None:
    """Return how many decimals the interval of a difference justifies; None without interval."""
    if row["low"] is None or not row["high"] > row["low"]:
        return None
    half = (row["high"] - row["low"]) / 2
    return min(max(1 - math.floor(math.log10(half)), 0), 10)


def number(value: float | None, n_decimals: int | None) -> str:
    """Return a number with so many decimals, or four digits; "" for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if n_decimals is None else f"{value:.{n_decimals}f}"


def signed(value: float | None, n_decimals: int | None) -> str:
    """Return a difference with its sign; "" for None."""
    if value is None:
        return ""
    sign = "+" if value > 0 else "\N{MINUS SIGN}" if value < 0 else ""
    return f"{sign}{number(abs(value), n_decimals)}"


def _outcome(
    verdict: Mapping,
    champion: Mapping | None,
    row: Mapping | None,
    margin: float,
    problem: str,
    level: float,
) -> tuple[str, str]:
    """Return outcome and reason; `row` is that of the decisive metric."""
    if not verdict["passed"]:
        missed = [_missed(check) for check in verdict["checks"] if not check["passed"]]
        return "refused", "; ".join(missed) or "no floor was checked"
    if problem:
        return "undecided", _sentence(problem)
    if champion is None:
        return "first", "nothing is in production, and every floor is reached"
    if champion.get("own"):
        return "not_better", f"version {champion['version']}, in production, is this very model"
    if row is None:
        return "undecided", f"it was not compared with version {champion['version']}"
    if not _is_known(row):
        return "undecided", f"the comparison by {row['metric']} gave no number"
    better = _is_better(row, margin, level)
    return ("better" if better else "not_better"), _compared(row, champion, margin, level)


def _table(verdict: Mapping, compared: list[dict], margin: float, level: float) -> list[dict]:
    """Return one row for each metric that was checked or compared, those that decide first."""
    floors = {check["metric"]: check for check in verdict["checks"]}
    rows = []
    for row in sorted(compared, key=lambda row: not row["decisive"]):
        passed = _is_better(row, margin, level) if row["decisive"] else None
        floor = None
        check = floors.get(row["metric"])
        if check and _same(check["value"], row["candidate"]):
            floor = floors.pop(row["metric"])["threshold"]
            passed = check["passed"] and passed is not False
        rows.append(_cleaned(row | {"floor": floor, "passed": passed}))
    lonely = {"unit": "", "champion": None, "difference": None, "low": None, "high": None}
    lonely |= {"p_value": None, "decisive": False}
    for check in floors.values():
        known = {key: check[key] for key in ("metric", "greater_is_better", "passed")}
        known |= {"floor": check["threshold"], "candidate": check["value"]}
        rows.append(_cleaned(lonely | known))
    return sorted(rows, key=lambda row: (row["passed"] is None, not row["decisive"]))


def _cleaned(row: Mapping) -> dict:
    """Return the keys of the table in their order, numbers that JSON cannot hold as None."""
    keys = ("metric", "unit", "greater_is_better", "floor", "candidate", "champion", "difference")
    keys += ("low", "high", "p_value", "decisive", "passed")
    whole = {"unit": ""} | dict(row)
    return {
        key: None if isinstance(whole[key], float) and not math.isfinite(whole[key]) else whole[key]
        for key in keys
    }


def _is_known(row: Mapping) -> bool:
    numbers = [row[key] for key in ("candidate", "champion", "difference", "low", "high")]
    return all(value is not None and math.isfinite(value) for value in numbers)


def improvement(row: Mapping) -> tuple[float, float, float]:
    """Return the difference and its interval, turned so that above 0 the candidate is better."""
    if row["greater_is_better"]:
        return row["difference"], row["low"], row["high"]
    return -row["difference"], -row["high"], -row["low"]


def _is_better(row: Mapping, margin: float, level: float) -> bool:
    """Say whether a metric is surely better by more than the margin."""
    sure = row["p_value"] is None or row["p_value"] < alpha(level)
    return bool(_is_known(row) and sure and improvement(row)[1] > margin)


def _compared(row: Mapping, champion: Mapping, margin: float, level: float) -> str:
    """Return both values, the improvement and how sure it is, in words."""
    n_decimals, unit = decimals(row), f" {row['unit']}" if row.get("unit") else ""
    mine, theirs = (number(row[key], n_decimals) for key in ("candidate", "champion"))
    text = f"{row['metric']} {mine}{unit} against {theirs} of version {champion['version']}"
    by, low, high = improvement(row)
    limit = f"the margin of {margin:g}" if margin else "0"
    if low > 0 or (low == high and by > 0):
        text += f", better by {_span(by, low, high, n_decimals)}"
        if not low > margin:
            text += f", not surely by more than {limit}"
        elif margin:
            text += f", more than {limit}"
    elif high < 0:
        text += f", worse by {_span(-by, -high, -low, n_decimals)}"
    elif low == high == 0:
        text += ", no difference"
    else:
        ends = " to ".join(signed(end, n_decimals) for end in (low, high))
        text += f", an improvement of {signed(by, n_decimals)} ({ends}), not surely above {limit}"
    if row["p_value"] is not None:
        text += f"; McNemar's p = {row['p_value']:.2g}"
        if low > margin and row["p_value"] >= alpha(level):
            text += f", not below {alpha(level):g}"
    return text


def alpha(level: float) -> float:
    """Return the largest p-value that still tells a difference at `level`."""
    return round(1 - level, 12)  # 1 - 0.95 is a little above 0.05


def _span(by: float, low: float, high: float, n_decimals: int | None) -> str:
    return "{} ({} to {})".format(*(number(value, n_decimals) for value in (by, low, high)))


def _missed(check: Mapping) -> str:
    required = f"required {'at least' if check['greater_is_better'] else 'at most'}"
    value = "is missing" if check["value"] is None else f"= {check['value']:.4g}"
    return f"{check['metric']} {value}, {required} {check['threshold']:g}"


def _same(a: float | None, b: float) -> bool:
    return a is not None and math.isclose(a, b, rel_tol=1e-6)


def _sentence(text: str) -> str:
    return textwrap.shorten(text, MAX_CHARACTERS, placeholder=" …").rstrip(".")
