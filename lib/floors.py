"""Whether larger is better, stated once for every metric that a check may name.

Of the errors ``mae``, ``mse``, ``rmse`` and their ratios to a baseline (``*_vs_*``) smaller is
better, of ``r2``, ``skill``, ``rank_ic`` and ``hit_rate`` larger; of what `lib.classification`
returns, ``loss`` and ``expected_calibration_error`` smaller, ``accuracy`` and the others larger.
Below them are the field's other common metrics, by the names that scikit-learn and MLflow give
them. A metric of your own needs no line here: its floor says it, see
`lib.registry.lifecycle.check`. Imports nothing that is slow, so that pages and checks need no
pandas.
"""

import difflib
from collections.abc import Iterable


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


GREATER_IS_BETTER = _Directions(
    {
        "mae": False,
        "mse": False,
        "rmse": False,
        "r2": True,
        "skill": True,
        "mae_vs_persistence": False,
        "rmse_vs_persistence": False,
        "mae_vs_ridge": False,
        "rmse_vs_ridge": False,
        "mse_vs_persistence": False,
        "price_mae": False,
        "price_mse": False,
        "price_rmse": False,
        "price_mae_vs_persistence": False,
        "price_mse_vs_persistence": False,
        "price_rmse_vs_persistence": False,
        "rank_ic": True,
        "rank_ic_low": True,
        "hit_rate": True,
        "hit_rate_low": True,
        "planted_share_of_best": True,
        "accuracy": True,
        "accuracy_low": True,
        "precision": True,
        "recall": True,
        "f1_score": True,
        "loss": False,
        "expected_calibration_error": False,
        # Classification
        "roc_auc": True,
        "average_precision": True,
        "precision_recall_auc": True,
        "balanced_accuracy": True,
        "top_k_accuracy": True,
        "top_5_accuracy": True,
        "specificity": True,
        "matthews_corrcoef": True,
        "cohen_kappa": True,
        "jaccard": True,
        "log_loss": False,
        "brier_score": False,
        "hinge_loss": False,
        # Regression and forecasts
        "explained_variance": True,
        "pearson_r": True,
        "spearman_r": True,
        "mape": False,
        "smape": False,
        "wape": False,
        "mase": False,
        "msle": False,
        "rmsle": False,
        "median_absolute_error": False,
        "max_error": False,
        "pinball_loss": False,
        "mean_pinball_loss": False,
        "crps": False,
        # Ranking, segmentation, language
        "ndcg": True,
        "mrr": True,
        "mean_average_precision": True,
        "dice": True,
        "iou": True,
        "perplexity": False,
    }
)
"""Whether larger is better, by metric."""


def closest(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean rmse?)"``, or "" where nothing that is known is like `name`."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def reaches(value: float, threshold: float, *, greater_is_better: bool) -> bool:
    """Return whether a value is as good as a threshold, or better; NaN never is."""
    return bool(value >= threshold if greater_is_better else value <= threshold)
