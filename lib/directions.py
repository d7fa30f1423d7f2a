"""Whether larger is better, stated once for every metric that a check may name.

Of the errors ``mae``, ``mse``, ``rmse`` and their ratios to a baseline (``*_vs_*``) smaller is
better, of ``r2``, ``skill``, ``rank_ic`` and ``hit_rate`` larger; of what `lib.classification`
returns, ``loss`` and ``expected_calibration_error`` smaller, ``accuracy`` and the others larger.
Imports nothing, so that pages and checks need no pandas.
"""

GREATER_IS_BETTER = {
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
}
"""Whether larger is better, by metric."""


def reaches(value: float, threshold: float, *, greater_is_better: bool) -> bool:
    """Return whether a value is as good as a threshold, or better; NaN never is."""
    return bool(value >= threshold if greater_is_better else value <= threshold)
