"""What a study of `lib.power.tuning` shows: its trials, and which parameter mattered."""

from lib.charts import lines
from lib.power.study import TrialState

import optuna
import pandas as pd


def trials_frame(study: optuna.Study) -> pd.DataFrame:
    """Return one row per trial: state, mean RMSE over the folds it saw, their count, parameters.

    The value of a pruned trial is the mean over the folds it saw: compare it with trials that saw
    as many.
    """
    rows = [
        {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "rmse": trial.value,
            "n_folds": len(trial.intermediate_values),
            **trial.params,
        }
        for trial in study.get_trials(deepcopy=False)
    ]
    return pd.DataFrame(rows).set_index("number")


def history_chart(trials: pd.DataFrame) -> dict:
    """Return the search as a chart for `run.write`: every trial with its parameters, and the best.

    Pruned trials are hidden at first: their value is the mean over the folds that they saw.
    """
    partial = "pruned, over fewer folds"
    complete = trials["rmse"].where(trials["state"] == "complete")
    frame = pd.DataFrame({"complete": complete, "best": complete.cummin().ffill()})
    frame[partial] = trials["rmse"].where(trials["state"] == "pruned")
    about = []
    for _, (state, _, _, *values) in trials.iterrows():
        settings = zip(trials.columns[3:], values, strict=True)
        about.append(f"{state}: " + ", ".join(f"{name} {value:.4g}" for name, value in settings))
    return lines(
        frame,
        xlabel="trial",
        ylabel="mean validation RMSE (kW)",
        kinds={"complete": "points", "best": "step", partial: "points"},
        muted=[partial],
        hidden=[partial],
        about=about,
    )


def parameter_importance(study: optuna.Study) -> pd.Series:
    """Return how much each parameter matters for being among the best trials (PED-ANOVA).

    Source: Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter
    Importance in Arbitrary Subspaces", IJCAI 2023, as implemented by Optuna, over complete trials.
    Fractions by parameter; empty with fewer than 3 of them, or no parameter that varies.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    names = complete[0].params if len(complete) >= 3 else {}
    varied = [name for name in names if len({trial.params[name] for trial in complete}) > 1]
    if not varied:
        return pd.Series(dtype=float)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied)
    return pd.Series(shares)
