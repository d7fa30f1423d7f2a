"""Models that travel with their code, under a name of its own.

A registered model must predict for years, in processes that know nothing of this project or know
another version of it. So the modules it needs are copied into its folder as a package whose name
contains their digest: two versions of a model in one process never share code by accident. What it
needs of others is pinned to the installed versions. What is wrong with an input is a `BadInput`, so
that a server answers with its sentence and nothing else.
"""

import hashlib
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm, once, in a notebook
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import PyFuncModel
    from sklearn.base import BaseEstimator

LIB = Path(__file__).resolve().parent
TRUSTED = (
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
)
"""What skops does not know by itself in the trees of scikit-learn, and reads as plain arrays."""

LEARNED = "learned_keys_"  # attribute of an estimator: `key_digests` of the rows it has seen
IMPORT = re.compile(r"^([ \t]*)from lib\.([\w.]+) import ", re.MULTILINE)
OTHER_IMPORT = re.compile(r"^[ \t]*(?:import lib\b|from lib import\b).*", re.MULTILINE)


class BadInput(MlflowException, ValueError):
    """Input that a model cannot predict from; a server answers 400 with the message alone."""

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)


def read_times(given: pd.Series, example: str, *, utc: bool = False) -> pd.DatetimeIndex:
    """Return a column of a model's input as times.

    Parameters
    ----------
    given : pandas.Series of shape (n,)
        Times, or ISO 8601 as text.
    example : str
        A time as it may be given, for messages.
    utc : bool, default False
        Whether times are returned in UTC, those without a zone being taken for it.

    Returns
    -------
    pandas.DatetimeIndex of shape (n,)
        Under the column's name.

    Raises
    ------
    BadInput
        If the column holds numbers, times of several zones and not `utc`, or a value that is no
        time; the message names the column, and the row of the value.
    """
    if pd.api.types.is_numeric_dtype(given):
        raise BadInput(f"column {given.name!r} holds numbers: give times like {example}")
    try:
        ts = pd.to_datetime(given, utc=utc, errors="coerce", format="ISO8601")
    except ValueError as error:
        raise BadInput(
            f"column {given.name!r} has times of several time zones: give times like {example}"
        ) from error
    _refuse(ts.isna(), given, f"time like {example}")
    return pd.DatetimeIndex(ts, name=given.name)


def read_numbers(given: pd.Series) -> pd.Series:
    """Return a column of a model's input as numbers.

    Parameters
    ----------
    given : pandas.Series of shape (n,)
        Numbers, or text of them; values may be missing.

    Returns
    -------
    pandas.Series of shape (n,), float64
        NaN where a value is missing.

    Raises
    ------
    BadInput
        If a value is no finite number; the message names column and row.
    """
    read = pd.to_numeric(given, errors="coerce")
    _refuse((read.isna() & given.notna()) | np.isinf(read), given, "number")
    return read.astype(np.float64)


def read_history(frame: pd.DataFrame, time: str, columns: Sequence[str]) -> pd.DataFrame:
    """Return columns of a model's input as numbers, by their times.

    Parameters
    ----------
    frame : pandas.DataFrame of shape (n, m)
        What the model was given.
    time : str
        The column of times, as `read_times` takes them: naive local clock time, rising.
    columns : sequence of str
        Those wanted, as `read_numbers` takes them; others are left out.

    Returns
    -------
    pandas.DataFrame of shape (n, n_columns), float64
        With a `pandas.DatetimeIndex` of the name `time`.

    Raises
    ------
    BadInput
        If a column is missing, there is no row, or a value cannot be read; if times have a zone,
        or are doubled or out of order. The message names column and row.
    """
    missing = [name for name in (time, *columns) if name not in frame.columns]
    if missing:
        raise BadInput(f"column {missing[0]!r} is missing: give {time} and {', '.join(columns)}")
    if not len(frame):
        raise BadInput("the history has no rows: give at least one")
    ts = read_times(frame[time], "2007-01-31T18:00:00")
    if ts.tz is not None:
        raise BadInput(f"{time} has the time zone {ts.tz}: give naive local clock time")
    late = np.flatnonzero(np.diff(ts.to_numpy()) <= np.timedelta64(0, "s"))
    if late.size:
        row = int(late[0]) + 1
        raise BadInput(
            f"row {row} at {ts[row]} does not come after {ts[row - 1]}: sort the rows by {time} "
            "and keep one of each time"
        )
    return frame[list(columns)].apply(read_numbers).set_axis(ts, axis=0)


def _refuse(wrong: pd.Series, given: pd.Series, wanted: str) -> None:
    """Raise BadInput at the first value that is wrong."""
    if wrong.any():
        row = int(np.argmax(wrong))
        raise BadInput(f"column {given.name!r}, row {row}: {given.iloc[row]} is no {wanted}")


def save_packed(
    path: Path,
    modules: Sequence[str],
    model_class: str,
    *,
    artifacts: Mapping[str, Path],
    signature: "ModelSignature",
    packages: Sequence[str],
) -> None:
    """Write an MLflow model folder that needs nothing of this project.

    Parameters
    ----------
    path : pathlib.Path
        The folder to make; it must not exist.
    modules, model_class
        See `packed_code`.
    artifacts : mapping of str to pathlib.Path
        Files and folders that `load_context` of the class finds in ``context.artifacts``.
    signature : mlflow.models.ModelSignature
        Columns and types of input and output.
    packages : sequence of str
        What the model imports; see `pinned`.
    """
    import mlflow.pyfunc

    with quiet_mlflow(), packed_code(modules, model_class) as (script, package):
        mlflow.pyfunc.save_model(
            path,
            python_model=str(script),
            artifacts={name: str(place) for name, place in artifacts.items()},
            code_paths=[str(package)],
            signature=signature,
            pip_requirements=pinned(packages),
        )


def save_estimator(
    path: Path,
    estimator: "BaseEstimator",
    inputs: pd.DataFrame,
    *,
    metadata: Mapping[str, object] | None = None,
) -> None:
    """Write a fitted scikit-learn estimator as an MLflow model folder, without a pickle.

    Parameters
    ----------
    path : pathlib.Path
        The folder to make; it must not exist.
    estimator : sklearn.base.BaseEstimator
        With its preparation inside. The model gives its probabilities, or the prediction where it
        has none.
    inputs : pandas.DataFrame
        The rows that it has learned from, as it takes them: columns and types become its signature,
        and it keeps their keys, the index and those of these very columns, see `has_learned`.
    metadata : mapping, optional
        What else the model has to know, JSON-able: ``model.metadata.metadata`` where it is loaded.
    """
    from lib.frames import as_numbers, row_keys

    import mlflow.sklearn
    from mlflow.models import infer_signature

    method = "predict_proba" if hasattr(estimator, "predict_proba") else "predict"
    estimator = copy(estimator)
    keys = inputs.index.append(pd.Index(row_keys(as_numbers(inputs))))  # of both ways to ask
    setattr(estimator, LEARNED, key_digests(keys))
    first = [known & (known.cumsum() == 1) for known in (inputs.notna(), inputs.isna())]
    some = inputs[(first[0] | first[1]).any(axis=1)]  # types, and what may be missing
    with quiet_mlflow():
        mlflow.sklearn.save_model(
            estimator,
            path,
            serialization_format="skops",
            skops_trusted_types=list(TRUSTED),
            pyfunc_predict_fn=method,
            signature=infer_signature(some, getattr(estimator, method)(some)),
            metadata=dict(metadata or {}),
            pip_requirements=pinned(("mlflow", "scikit-learn", "skops", "pandas", "numpy")),
        )


def load_packed(path: Path | str) -> "PyFuncModel":
    """Return the model in the folder (or at the model URI) `path`."""
    import mlflow.pyfunc

    with quiet_mlflow():
        return mlflow.pyfunc.load_model(str(path))


def has_learned(model: object, keys: pd.Index) -> np.ndarray | None:
    """Say of each key whether a model has learned from that row; None where it has kept none."""
    try:
        learned = getattr(model.get_raw_model(), LEARNED, None)
    except (AttributeError, NotImplementedError):  # it is no estimator
        return None
    return None if learned is None else np.isin(key_digests(keys), learned)


def key_digests(keys: pd.Index) -> np.ndarray:
    """Return eight bytes for each key."""
    return pd.util.hash_array(keys.astype("str").to_numpy(object))


def pinned(packages: Sequence[str]) -> list[str]:
    """Return the packages as requirements, at the installed versions."""
    return [f"{name}=={metadata.version(name)}" for name in packages]


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Leave out MLflow's progress bars, and its advice to give an example beside the signature."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example.*", category=UserWarning)
        yield


@contextmanager
def packed_code(modules: Sequence[str], model_class: str) -> Iterator[tuple[Path, Path]]:
    """Give a copy of modules of `lib`, and the script that MLflow runs to load the model.

    Both are in a temporary folder that is gone when the block ends; MLflow copies them when it
    saves a model.

    Parameters
    ----------
    modules : sequence of str
        Names without ``lib.``, such as ``power.model``. They may import each other and nothing
        else of the project: of one that is missing the script says so when MLflow runs it.
    model_class : str
        ``<module>.<class>``, a `mlflow.pyfunc.PythonModel` that is made without arguments.

    Yields
    ------
    script, package : pathlib.Path
        For `python_model` and `code_paths` of `mlflow.pyfunc.save_model`.

    Raises
    ------
    ValueError
        If a module imports `lib` in another form, which would be that of the project.
    """
    texts = {name: _place(LIB, name).read_text(encoding="utf-8") for name in modules}
    name = "model_code_" + hashlib.sha256("".join(texts.values()).encode()).hexdigest()[:12]
    module, _, class_name = model_class.rpartition(".")
    with tempfile.TemporaryDirectory() as folder:
        package, script = Path(folder, name), Path(folder, "model.py")
        package.mkdir()
        (package / "__init__.py").write_text('"""What the model needs of its project."""\n')
        for module_name, text in texts.items():
            file = _place(package, module_name)
            file.parent.mkdir(parents=True, exist_ok=True)
            (file.parent / "__init__.py").touch()
            if other := OTHER_IMPORT.search(text):
                raise ValueError(
                    f"lib.{module_name} cannot travel with a model, as it says "
                    f"{other[0].strip()!r}: write from lib.<module> import <name>"
                )
            file.write_text(IMPORT.sub(rf"\1from {name}.\2 import ", text), "utf-8")
        script.write_text(
            f"from {name}.{module} import {class_name}\n\n"
            f"from mlflow.models import set_model\n\nset_model({class_name}())\n",
            "utf-8",
        )
        sys.path.insert(0, folder)  # MLflow runs the script once while it saves
        try:
            yield script, package
        finally:
            sys.path.remove(folder)


def _place(folder: Path, name: str) -> Path:
    """Return the file of the module `name` below `folder`."""
    return folder.joinpath(*name.split(".")).with_suffix(".py")
