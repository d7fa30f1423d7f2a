"""Whether larger is better, stated once for every metric, and the unit that it is in.

Of the errors ``mae``, ``mse``, ``rmse`` and their ratios to a baseline (``*_vs_*``) smaller is
better, of ``r2``, ``skill``, ``rank_ic`` and ``hit_rate`` larger; of what `lib.classification`
returns, ``loss`` and ``expected_calibration_error`` smaller, ``accuracy`` and the others larger.
Below them are the field's other common metrics, by the names that scikit-learn and MLflow give
them. A metric of your own needs no line here: its floor says it, see `lib.floors.check`. Imports
nothing that is slow, so that pages and checks need no pandas.
"""

import difflib
from collections.abc import Iterable


class _Directions(dict[str, bool]):
    """Whether larger is better, by metric; one that is asked for in vain is named in a sentence."""

    def __missing__(self, metric: str) -> bool:
        raise ValueError(
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


def unit_of(metric: str, unit: str) -> str:
    """Return the unit of a metric of a truth in `unit`, "" of one that is a plain number."""
    return {"mae": unit, "rmse": unit, "mse": f"{unit}²" if unit else ""}.get(metric, "")


def closest(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean rmse?)"``, or "" where nothing that is known is like `name`."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def reaches(value: float, threshold: float, *, greater_is_better: bool) -> bool:
    """Return whether a value is as good as a threshold, or better; NaN never is."""
    return bool(value >= threshold if greater_is_better else value <= threshold)
