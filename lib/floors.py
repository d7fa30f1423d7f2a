"""The floors a model must reach, and whether larger is better, stated once for every metric.

Of the errors ``mae``, ``mse``, ``rmse`` and their ratios to a baseline (``*_vs_*``) smaller is
better, of ``r2``, ``skill``, ``rank_ic`` and ``hit_rate`` larger; of what `lib.classification`
returns, ``loss`` and ``expected_calibration_error`` smaller, ``accuracy`` and the others larger.
Below them are the field's other common metrics, by the names that scikit-learn and MLflow give
them. A metric of your own needs no line here: its floor says it, see
`check`. Imports nothing that is slow, so that pages and checks need no pandas.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib.run import Run


class UnknownMetric(ValueError):
    """Nothing says whether larger is better; the message names the metric and what to do."""


class _Directions(dict[str, bool]):
    """Whether larger is better, by metric; one that is asked for in vain is named in a sentence."""

    def __missing__(self, metric: str) -> bool:
        raise UnknownMetric(
            f"nothing says whether a larger {metric} is better{closest(metric, self)}. Say it with "
            f'its floor: check(metrics, minimum={{"{metric}": ...}}) where larger is better, '
            f'check(metrics, maximum={{"{metric}": ...}}) where smaller is. Known by themselves '
            f"are {', '.join(self)}"
        )


GREATER = """
r2 skill rank_ic rank_ic_low hit_rate hit_rate_low planted_share_of_best
accuracy accuracy_low precision recall f1_score
roc_auc average_precision precision_recall_auc balanced_accuracy top_k_accuracy top_5_accuracy
specificity matthews_corrcoef cohen_kappa jaccard explained_variance pearson_r spearman_r
ndcg mrr mean_average_precision dice iou
"""
SMALLER = """
mae mse rmse mae_vs_persistence mse_vs_persistence rmse_vs_persistence mae_vs_ridge rmse_vs_ridge
price_mae price_mse price_rmse
price_mae_vs_persistence price_mse_vs_persistence price_rmse_vs_persistence
loss expected_calibration_error log_loss brier_score hinge_loss
mape smape wape mase msle rmsle median_absolute_error max_error pinball_loss mean_pinball_loss
crps perplexity
"""
GREATER_IS_BETTER = _Directions(
    dict.fromkeys(GREATER.split(), True) | dict.fromkeys(SMALLER.split(), False)
)
"""Whether larger is better, by metric."""


def closest(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean rmse?)"``, or "" where nothing that is known is like `name`."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def reaches(value: float, threshold: float, *, greater_is_better: bool) -> bool:
    """Return whether a value is as good as a threshold, or better; NaN never is."""
    return bool(value >= threshold if greater_is_better else value <= threshold)


def verdict(
    run: "Run",
    metrics: Mapping[str, float],
    floors: Mapping[str, float] | None = None,
    *,
    minimum: Mapping[str, float] | None = None,
    maximum: Mapping[str, float] | None = None,
) -> str:
    """Write ``verdict.json``, which the register stage obeys, and return it in words.

    Parameters and errors are those of `check`.
    """
    found = check(metrics, floors, minimum=minimum, maximum=maximum)
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
        If `metrics` has no metric of that name, nothing says whether larger is better, a metric
        has two floors, or a floor is no number.

    Examples
    --------
    >>> check({"rmse": 0.4, "uplift": 1.2}, {"rmse": 0.5}, minimum={"uplift": 1.0})["passed"]
    True
    """
    asked = [(m, least, GREATER_IS_BETTER[m]) for m, least in (floors or {}).items()]
    asked += [(metric, least, True) for metric, least in (minimum or {}).items()]
    asked += [(metric, most, False) for metric, most in (maximum or {}).items()]
    names = [metric for metric, _, _ in asked]
    checks = []
    for metric, threshold, larger in asked:
        if metric not in metrics:
            raise ValueError(
                f"a floor names the metric {metric}, which the evaluation has not measured"
                f"{closest(metric, metrics)}. It has {', '.join(sorted(metrics)) or 'none'}"
            )
        if names.count(metric) > 1:
            raise ValueError(f"the metric {metric} has two floors; give one")
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
        value = "missing" if one["value"] is None else f"{one['value']:.4g}"
        clauses.append(
            f"{one['metric']} = {value}, required {sign} {one['threshold']:g}: {outcome}"
        )
    return "; ".join(clauses) or "no check was made"
