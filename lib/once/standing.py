"""Whether what a stage did on the outside still stands, so that doing it again would add nothing.

A registration stands while its version is there and the version in production is the one from
then: the same gate would decide the same. Of any other deed nothing is known, so it is done again;
that is for stages which look themselves what is done, as the scoring of new rows does. A stage
that brings tables up to date writes a file `*.tables.json`, their names and snapshots: it is done
again where one is another by now.
"""

from collections.abc import Mapping

from lib.ground.files import read_object
from lib.ground.folder import Run

REGISTRATION, TABLES = "registration.json", ".tables.json"


def acts(run: Run, stage: str, key: Mapping) -> bool:
    """Say whether a stage with a key, which `run` has done, did something on the outside."""
    return key["acts"] or any(name.endswith(TABLES) for name in run.record(stage).get("writes", ()))


def stands(run: Run, stage: str) -> bool:
    """Say whether what a stage of `run` did on the outside is still so."""
    try:
        writes = run.record(stage)["writes"]
        if of_tables := [name for name in writes if name.endswith(TABLES)]:
            from lib.catalogs import load_table  # pyiceberg takes a second to import

            left = read_object(run.path / of_tables[0])
            return all(load_table(table)[1] == snapshot for table, snapshot in left.items())
        if REGISTRATION not in writes:
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
