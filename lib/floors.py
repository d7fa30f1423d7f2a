"""The floors that a model must reach to be registered: checked, written down, said in words."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lib.ground.directions import GREATER_IS_BETTER, closest, reaches

if TYPE_CHECKING:
    from lib.run import Run


def verdict(
    run: "Run",
    metrics: Mapping[str, float],
    floors: Mapping[str, float] | None = None,
    *,
    minimum: Mapping[str, float] | None = None,
    maximum: Mapping[str, float] | None = None,
) -> str:
    """Write ``verdict.json``, which the register stage obeys, and return it in words.

    Parameters and errors are those of `check`. Where a parameter of the stage is the floor, a check
    names it as ``parameter``: ``max_rmse`` of ``rmse``, ``min_accuracy`` of ``accuracy_low``.
    """
    found = check(metrics, floors, minimum=minimum, maximum=maximum)
    for one in found["checks"]:
        one |= _set_by(run.parameters, one)
    run.write("verdict.json", found)
    return explain(found)


def check(
    metrics: Mapping[str, float],
    floors: Mapping[str, float] | None = None,
    *,
    minimum: Mapping[str, float] | None = None,
    maximum: Mapping[str, float] | None = None,
) -> dict:
    """Compare `metrics` with the floors and return the verdict.

    Parameters
    ----------
    metrics : mapping of str to float
        What the evaluation found.
    floors : mapping of str to float, optional
        Worst acceptable value by metric, where `GREATER_IS_BETTER` knows whether
        larger is better.
    minimum, maximum : mapping of str to float, optional
        Likewise, for any metric, one of your own too: the least value that is acceptable where
        larger is better, the largest where smaller is.

    Returns
    -------
    dict
        ``passed`` and ``checks``: a list of ``metric``, ``value``, ``threshold``,
        ``greater_is_better`` and ``passed``. A value that is not finite has failed.

    Raises
    ------
    ValueError
        If `metrics` has no metric of that name, nothing says whether larger is better, or a floor
        is no number.

    Examples
    --------
    >>> check({"rmse": 0.4, "uplift": 1.2}, {"rmse": 0.5}, minimum={"uplift": 1.0})["passed"]
    True
    """
    asked = [(m, least, GREATER_IS_BETTER[m]) for m, least in (floors or {}).items()]
    asked += [(metric, least, True) for metric, least in (minimum or {}).items()]
    asked += [(metric, most, False) for metric, most in (maximum or {}).items()]
    checks = []
    for metric, threshold, larger in asked:
        if metric not in metrics:
            raise ValueError(
                f"a floor names the metric {metric}, which the evaluation has not measured"
                f"{closest(metric, metrics)}. It has {', '.join(sorted(metrics)) or 'none'}"
            )
        if isinstance(threshold, str) or not math.isfinite(threshold):
            raise ValueError(f"the floor of {metric} is {threshold!r}; expected a finite number")
        value = metrics[metric]
        checks.append(
            {
                "metric": metric,
                "value": value if math.isfinite(value) else None,
                "threshold": threshold,
                "greater_is_better": larger,
                "passed": reaches(value, threshold, greater_is_better=larger),
            }
        )
    return {"passed": bool(checks) and all(c["passed"] for c in checks), "checks": checks}


def explain(verdict: dict) -> str:
    """Return the verdict in words, one clause for each check."""
    clauses = []
    for one in verdict["checks"]:
        sign = ">=" if one["greater_is_better"] else "<="
        outcome = "passed" if one["passed"] else "FAILED"
        if not one["passed"] and one.get("parameter"):
            outcome += f" (the parameter {one['parameter']} sets this floor)"
        value = "missing" if one["value"] is None else f"{one['value']:.4g}"
        clauses.append(
            f"{one['metric']} = {value}, required {sign} {one['threshold']:g}: {outcome}"
        )
    return "; ".join(clauses) or "no check was made"


def _set_by(parameters: Mapping[str, object], one: Mapping) -> dict[str, str]:
    """Return the parameter that holds the threshold of a check, {} where none is called so."""
    prefix = "min_" if one["greater_is_better"] else "max_"
    named = [
        name
        for name, value in parameters.items()
        if name.startswith(prefix) and name.removeprefix(prefix) in one["metric"]
        if value == one["threshold"]
    ]
    return {"parameter": max(named, key=len)} if named else {}
