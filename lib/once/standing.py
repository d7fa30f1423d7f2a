"""Whether what a stage did on the outside still stands, so that doing it again would add nothing.

A registration stands while its version is there and the version in production is the one from
then: the same gate would decide the same. Of any other deed nothing is known, so it is done again;
that is for stages which look themselves what is done, as the scoring of new rows does.
"""

from lib.ground.files import read_object
from lib.ground.folder import Run

REGISTRATION = "registration.json"


def stands(run: Run, stage: str) -> bool:
    """Say whether what a stage of `run` did on the outside is still so."""
    try:
        if REGISTRATION not in run.record(stage)["writes"]:
            return False
        made = read_object(run.path / REGISTRATION)
        name, number, champion = made["name"], made["version"], made["champion"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    from lib.registry import lifecycle  # MLflow takes a second to import

    from mlflow import MlflowException

    try:
        return (
            int(lifecycle.version(name, number).version) == number
            and lifecycle.champion(name) == champion
        )
    except (MlflowException, ValueError):
        return False
