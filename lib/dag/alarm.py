"""The last task of scoring: an alarm starts a retraining, and without one nothing happens.

`AlarmOperator` obeys what the notebook that watches has written. It succeeds only if there is
something to say, and then updates the asset ``drift/<pipeline>`` of the model that was scored;
otherwise it is skipped, and no asset is updated.
"""

from typing import TYPE_CHECKING

from lib.dag.assets import drift_asset
from lib.ground.runs import run_of_airflow

from airflow.sdk import AssetAlias, BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

if TYPE_CHECKING:
    from airflow.sdk import Context

WATCH = "watch.json"
ALIAS = "drift"
"""Stands for the asset of whichever pipeline the model belongs to, which only a run knows."""


class AlarmOperator(BaseOperator):
    """Update the drift asset of a model's pipeline if `watch.json` of the run says so.

    Parameters
    ----------
    pipeline : str
        The folder below `notebooks/` whose run has watched.
    **kwargs
        Passed to Airflow's `BaseOperator`.

    Notes
    -----
    The event carries ``name`` and ``version`` of the model, the ``run_dir`` that found it and
    ``why``, a list of sentences.
    """

    ui_color = "#f7e8e8"

    def __init__(self, *, pipeline: str, **kwargs: object) -> None:
        super().__init__(outlets=[AssetAlias(ALIAS)], **kwargs)
        self.pipeline = pipeline

    def execute(self, context: "Context") -> list[str]:
        """Return why the alarm was raised; skip the task where it was not."""
        run = run_of_airflow(self.pipeline, context["run_id"])
        watch = run.read(WATCH)
        if not watch["drifted"]:
            raise AirflowSkipException("the data and the errors are as they were in training")
        context["outlet_events"][AssetAlias(ALIAS)].add(
            drift_asset(watch["pipeline"]),
            extra={
                "name": watch["name"],
                "version": watch["version"],
                "run_dir": run.run_dir,
                "why": watch["why"],
            },
        )
        return watch["why"]
