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

from lib.floors import explain
from lib.ground.directions import reaches

if TYPE_CHECKING:
    import pandas as pd

PROMOTED = ("first", "better")
BY_HAND = "Run by hand, it goes to @staging at most, and further only by make promote."
LEVEL = 0.95  # of the two-sided intervals
MAX_CHARACTERS = 1000  # of a reason: MLflow's tags and descriptions take few thousand
SPECIAL = str.maketrans({mark: f"\\{mark}" for mark in "\\[]<>|`*"})
ROW = {"metric": "", "unit": "", "greater_is_better": False, "floor": None, "candidate": None}
ROW |= dict.fromkeys(("champion", "difference", "low", "high", "p_value"))
ROW |= {"decisive": False, "passed": None}
"""Keys of a row of the table, in their order, and what stands there where nothing is known."""


def judge(verdict: Mapping, found: Mapping, *, margin: float = 0.0) -> dict:
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

    Returns
    -------
    dict
        As `decide`. A comparison that cannot be computed is a problem that a person must look at.
    """
    problems, rows = [found["problem"]] if found["problem"] else [], ()
    if found["champion_predictions"] is not None:
        from lib.registry.paired import compare

        pair = found["candidate"], found["champion_predictions"]
        try:
            rows = compare(found["test"], *pair, level=LEVEL)
        except ValueError as error:
            problems.append(f"the comparison cannot be computed: {error}")
    known = {key: found[key] for key in ("champion", "notes", "by_hand")}
    return decide(verdict, rows=rows, margin=margin, problem="; ".join(problems), **known)


def decide(
    verdict: Mapping,
    *,
    champion: Mapping | None,
    rows: Sequence[Mapping] = (),
    margin: float = 0.0,
    problem: str = "",
    notes: Sequence[str] = (),
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
    rows : sequence of mapping
        Of `lib.registry.paired.compare`, with the model as the candidate.
    margin : float, default 0
        By how much the decisive metric has to be better, in its unit, 0 or more.
    problem : str, default ""
        Why a person must decide, a sentence.
    notes : sequence of str
        What else a reader should know, sentences.
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
        ``level``
            Of the two-sided intervals.
        ``champion``, ``margin``, ``notes``, ``by_hand``
            As given.

    Raises
    ------
    ValueError
        If `margin` is negative or not finite.
    """
    if not 0 <= margin < math.inf:
        raise ValueError(f"margin={margin} must be 0 or more, in the unit of the decisive metric")
    outcome, reason = _outcome(verdict, champion, rows, margin, problem)
    return {
        "outcome": outcome,
        "promote": outcome in PROMOTED and not by_hand,
        "reason": textwrap.shorten(reason, MAX_CHARACTERS, placeholder=" …").rstrip("."),
        "champion": dict(champion) if champion else None,
        "rows": _table(verdict, rows, margin),
        "margin": float(margin),
        "level": LEVEL,
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
    outcome, who = promotion.get("outcome"), promotion.get("who") or "somebody"
    said = str(promotion.get("reason", "")).rstrip(".")
    if is_promoted(registration, promotion):
        first = f"Promoted: {gate['reason']}."
        if not promotion.get("who"):
            return [first]
        if gate["outcome"] in PROMOTED:
            return [first, f"{who} has agreed: {said}."]
        return [f"Promoted by {who} against the gate: {said}.", words(gate)]
    policy = promotion.get("policy") or registration.get("policy", "")
    if is_held(gate):
        command = how_to_promote(registration) if registration else ""
        follow = f"Only a person promotes it: {command}." if command else ""
    elif promotion:
        follow = {
            "kept": f"Not promoted; the policy is {policy}.",
            "rejected": f"Not promoted, {who} said no: {said}.",
            "expired": f"Not promoted: {said}.",
            "waiting": f"Not promoted yet: {said}.",
            "approved": f"Agreed by {who}, and the promotion is under way: {said}.",
            "refused": f"Not promoted, although {who} agreed: {said}.",
        }.get(outcome, "")
    else:
        follow = "Waits for a person to approve it." if policy == "approval" else ""
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
        ``metric`` with its unit and an arrow to where better is, ``result``, ``floor``,
        ``candidate``, ``in production``, ``difference``, ``interval`` and ``p``; "" where there is
        nothing to say.
    """
    larger, places = row["greater_is_better"], decimals(row)
    unit = f" ({row['unit']})" if row.get("unit") else ""
    ends = [signed(row[end], places) for end in ("low", "high")]
    return {
        "metric": f"{row['metric']}{unit} {'↑' if larger else '↓'}",
        "result": result(row),
        "floor": "" if row["floor"] is None else f"{'≥' if larger else '≤'} {row['floor']:g}",
        "candidate": number(row["candidate"], places) or "missing",
        "in production": number(row["champion"], places),
        "difference": signed(row["difference"], places),
        "interval": " to ".join(ends) if all(ends) else "",
        "p": "" if row["p_value"] is None else f"{row['p_value']:.2g}",
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
    floor, larger = row["floor"], row["greater_is_better"]
    reached = floor is None or reaches(row["candidate"], floor, greater_is_better=larger)
    return "not better" if row["decisive"] and _is_known(row) and reached else "failed"


def markdown(gate: Mapping) -> str:
    """Return the decision as Markdown: the sentence, the table, the notes.

    It is the description of the version, and what a person reads who is asked for approval.
    """
    lines = [words(gate).translate(SPECIAL), ""]
    table = _shown(gate)
    if table:
        rules = ["---" if key in ("metric", "result") else "--:" for key in table[0]]
        lines += [f"| {' | '.join(row)} |" for row in (table[0], rules)]
        lines += [f"| {' | '.join(row.values())} |" for row in table]
        lines.append("")
    if gate["margin"]:
        lines.append(f"- margin: {gate['margin']:g}")
    lines += [f"- {note.translate(SPECIAL)}" for note in gate["notes"]]
    return "\n".join(lines).strip()


def table(gate: Mapping) -> "pd.DataFrame":
    """Return the table of the gate for a notebook: a row for each metric, all as text."""
    import pandas as pd

    frame = pd.DataFrame(_shown(gate))
    return frame if frame.empty else frame.set_index("metric")


def _shown(gate: Mapping) -> list[dict[str, str]]:
    """Return the `cells` of all rows by heading, without columns that say nothing."""
    rows = [cells(row) for row in gate["rows"]]
    heads = {"interval": f"{100 * gate['level']:g} % interval", "p": "McNemar's p"}
    if gate["champion"]:
        heads["in production"] = f"in production, version {gate['champion']['version']}"
    said = {key for row in rows for key, text in row.items() if text}
    return [{heads.get(key, key): row[key] for key in row if key in said} for row in rows]


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
    rows: Sequence[Mapping],
    margin: float,
    problem: str,
) -> tuple[str, str]:
    """Return outcome and reason."""
    if not verdict["passed"]:
        return "refused", explain({"checks": [c for c in verdict["checks"] if not c["passed"]]})
    if problem:
        return "undecided", problem
    if champion is None:
        return "first", "nothing is in production, and every floor is reached"
    if champion.get("own"):
        return "not_better", f"version {champion['version']}, in production, is this very model"
    row = next((row for row in rows if row["decisive"]), None)
    if row is None:
        return "undecided", f"it was not compared with version {champion['version']}"
    if not _is_known(row):
        return "undecided", f"the comparison by {row['metric']} gave no number"
    better = _is_better(row, margin)
    return ("better" if better else "not_better"), _compared(row, champion, margin)


def _table(verdict: Mapping, compared: Sequence[Mapping], margin: float) -> list[dict]:
    """Return one row for each metric that was checked or compared, those that decide first."""
    floors = {check["metric"]: check for check in verdict["checks"]}
    rows = []
    for row in sorted(compared, key=lambda row: not row["decisive"]):
        passed = _is_better(row, margin) if row["decisive"] else None
        check = floors.get(row["metric"])
        floor = None
        if check and _same(check["value"], row["candidate"]):
            floor = floors.pop(row["metric"])["threshold"]
            passed = check["passed"] and passed is not False
        rows.append(row | {"floor": floor, "passed": passed})
    for check in floors.values():
        known = {key: check[key] for key in ("metric", "greater_is_better", "passed")}
        rows.append(known | {"floor": check["threshold"], "candidate": check["value"]})
    rows = [{key: _finite(row.get(key, default)) for key, default in ROW.items()} for row in rows]
    return sorted(rows, key=lambda row: (row["passed"] is None, not row["decisive"]))


def _finite(value: object) -> object:
    """Return a value, or None where it is a number that JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_known(row: Mapping) -> bool:
    numbers = [row[key] for key in ("candidate", "champion", "difference", "low", "high")]
    return all(value is not None and math.isfinite(value) for value in numbers)


def improvement(row: Mapping) -> tuple[float, float, float]:
    """Return the difference and its interval, turned so that above 0 the candidate is better."""
    if row["greater_is_better"]:
        return row["difference"], row["low"], row["high"]
    return -row["difference"], -row["high"], -row["low"]


def _is_better(row: Mapping, margin: float) -> bool:
    """Say whether a metric is surely better by more than the margin."""
    sure = row["p_value"] is None or row["p_value"] < alpha(LEVEL)
    return bool(_is_known(row) and sure and improvement(row)[1] > margin)


def _compared(row: Mapping, champion: Mapping, margin: float) -> str:
    """Return both values, the improvement and how sure it is, in words."""
    places, unit = decimals(row), f" {row['unit']}" if row.get("unit") else ""
    mine, theirs = (number(row[key], places) for key in ("candidate", "champion"))
    text = f"{row['metric']} {mine}{unit} against {theirs} of version {champion['version']}"
    by, low, high = improvement(row)
    if high < 0:
        by, low, high = (number(-value, places) for value in (by, high, low))
        text += f", worse by {by} ({low} to {high})"
    else:
        by, *ends = (signed(value, places) for value in (by, low, high))
        text += f", better by {by} ({' to '.join(ends)})"
        if not low > margin:
            text += f", not surely by more than margin = {margin:g}"
    if row["p_value"] is not None:
        text += f"; McNemar's p = {row['p_value']:.2g}"
        text += "" if row["p_value"] < alpha(LEVEL) else f", not below {alpha(LEVEL):g}"
    return text


def alpha(level: float) -> float:
    """Return the largest p-value that still tells a difference at `level`."""
    return round(1 - level, 12)  # 1 - 0.95 is a little above 0.05


def _same(a: float | None, b: float) -> bool:
    return a is not None and math.isclose(a, b, rel_tol=1e-6)
