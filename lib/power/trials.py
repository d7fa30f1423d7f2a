"""What a study of `lib.power.tuning` shows: its trials, and which parameter mattered."""

import math

from lib.chart_file import MAX_TEXT
from lib.charts import lines
from lib.power.study import DONE, quiet_optuna

import optuna
import pandas as pd
from optuna.trial import TrialState


def trials_frame(study: optuna.Study) -> pd.DataFrame:
    """Return one row per trial: state, mean RMSE over the folds it saw, their count, parameters.

    The value of a pruned trial is the mean over the folds it saw: compare it with trials that saw
    as many. Failed trials (their process was killed) have no value.
    """
    rows = [
        {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "rmse": trial.value if trial.state in DONE else math.nan,
            "n_folds": len(trial.intermediate_values),
            **trial.params,
        }
        for trial in study.get_trials(deepcopy=False)
        if trial.state != TrialState.WAITING
    ]
    return pd.DataFrame(rows).set_index("number")


def history_chart(study: optuna.Study, *, unit: str = "kW") -> dict:
    """Return the search as a chart for `run.write`: every trial with its parameters, and the best.

    Pruned trials are hidden at first: their value is the mean over the folds that they saw.
    """
    trials = trials_frame(study)
    complete = trials["rmse"].where(trials["state"] == "complete")
    frame = pd.DataFrame({"complete": complete, "best": complete.cummin().ffill()}, trials.index)
    partial = "pruned, over fewer folds"
    frame[partial] = trials["rmse"].where(trials["state"] == "pruned")
    names = trials.columns.drop(["state", "rmse", "n_folds"])
    return lines(
        frame,
        xlabel="trial",
        ylabel=f"mean validation RMSE ({unit})",
        kinds={"complete": "points", "best": "step", partial: "points"},
        muted=[partial],
        hidden=[partial],
        about=[
            f"{row['state']}: {_settings(row[names].dropna())}"[:MAX_TEXT]
            for _, row in trials.iterrows()
        ],
    )


def _settings(params: pd.Series) -> str:
    parts = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in params.items())
    return ", ".join(parts)


def parameter_importance(study: optuna.Study) -> pd.Series:
    """Return how much each parameter matters for being among the best trials (PED-ANOVA).

    Source: Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter
    Importance in Arbitrary Subspaces", IJCAI 2023, as implemented by Optuna, over complete trials.
    Fractions by parameter; empty with fewer than 3 of them, or no parameter that varies.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    varied = [
        name
        for name, distribution in (complete[0].distributions if complete else {}).items()
        if not distribution.single()
    ]
    if len(complete) < 3 or not varied:
        return pd.Series(dtype=float)
    with quiet_optuna():
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied)
    return pd.Series(shares)
