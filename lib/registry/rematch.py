"""The version in production gets another try, on a run's own test.

It is loaded again and answers for the rows that the evaluate stage has judged. Where its pipeline
has not said how (`lib.registry.rows`), the rows that its own evaluation has judged stand in, as far
as they are the same. Everything that makes the outcome doubtful is said in a sentence.
"""

import json
from collections.abc import Mapping
from datetime import datetime

from lib import judged, tracking
from lib.ground.files import look_into
from lib.ground.layout import owner
from lib.ground.runs import is_by_hand
from lib.registry.paired import Test
from lib.registry.rows import (
    MissingPart,
    NotComparable,
    learned_by,
    part,
    parting,
    predict,
    rows_of_run,
)
from lib.registry.standing import (
    SAMPLE,
    TEST,
    Version,
    described,
    full_name,
    in_production,
    require_test,
)
from lib.run import Run, UnfinishedStage, open_run

import numpy as np
import pandas as pd

LEAST_SHARED = 0.9  # share of the rows that both must be able to forecast


def against_production(run: Run, name: str) -> dict:
    """Return everything there is to know about the version in production on a run's own test.

    Parameters
    ----------
    run : Run
        Evaluated.
    name : str
        Registered model, with or without the suffix that sample data add.

    Returns
    -------
    dict
        ``champion``: ``name``, ``version``, ``run_dir`` and ``own`` (whether it is this run's
        model, registered before), or None where nothing is in production. ``test``, ``candidate``
        and ``champion_predictions``: the rows that both can forecast; the last is None where the
        champion could say nothing. ``problem``: why a person must decide, a sentence; "" if nothing
        is in the way. ``notes``: list of sentences. ``by_hand``: whether a person works in the run.

    Raises
    ------
    lib.run.UnfinishedStage
        If the run has not been evaluated, or a file of it has changed since.
    """
    with look_into(run.path):
        return _against_production(run, name)


def _against_production(run: Run, name: str) -> dict:
    frame, facts = judged.read(run)
    data = run.read("dataset.json")
    test, candidate = Test.of(facts, frame["truth"], frame.get("group")), judged.values(frame)
    result = {
        "champion": None,
        "test": test,
        "candidate": candidate,
        "champion_predictions": None,
        "problem": "",
        "notes": [],
        "by_hand": is_by_hand(run),
    }
    found = in_production(tracking.open_client(), full_name(name, data["source"]))
    if found is None:
        return result | {"notes": ["nothing is in production under this name"]}
    link = tracking.link(run)
    own = bool(found.run_id) and found.run_id == link.get("run_id")
    own |= "model_id" in link and found.tags.get("model_id") == link["model_id"]  # it was taken
    result["champion"] = {
        "name": found.name,
        "version": int(found.version),
        "run_dir": found.tags.get("run_dir", ""),
        "own": own,
    }
    who, lacks = f"version {found.version}", "has no forecast for"
    parted_by = parting(run.pipeline, facts["options"])
    problems, notes = about_data(found.tags, who, test, data, own=own, parted_by=parted_by)
    try:
        champion = described(found)
        require_comparable(champion, run.pipeline, facts)
        try:
            part(run.pipeline, "predict")  # before rows are read and a model is loaded for it
            model, rows = _loaded(champion), rows_of_run(run)[0]
            learned = learned_by(champion, rows, frame.index)
            said = predict(run.pipeline, model, rows, frame.index)
            if learned.any():
                lacks = f"has learned from, or {lacks},"
                said = said.copy()
                said[learned] = np.nan
        except MissingPart as missing:
            said = _judged_before(champion, frame, missing)
            notes.append(f"{missing}, so both are compared on the rows that both have judged")
        kept, mine, theirs = shared_rows(test, candidate, said)
    except UnfinishedStage:
        raise
    except Exception as error:  # its own code, on input of today
        problems.append(f"{who} cannot be judged on this test: {str(error) or repr(error)}")
    else:
        result |= {"test": kept, "candidate": mine, "champion_predictions": theirs}
        n_left_out = len(test.truth) - len(kept.truth)
        told = f"{who} {lacks} {n_left_out} of {len(test.truth)} rows"
        if n_left_out > (1 - LEAST_SHARED) * len(test.truth):
            problems.append(f"{told}: too few are left to judge by")
        elif n_left_out:
            notes.append(f"{told}: both are judged on the others")
    return result | {"notes": notes, "problem": "; ".join(problems)}


def _loaded(champion: Version) -> object:
    try:
        return champion.model
    except Exception as error:  # whatever old code raises, or a missing package
        raise NotComparable(f"it cannot be loaded: {str(error) or repr(error)}") from error


def _judged_before(champion: Version, frame: pd.DataFrame, missing: MissingPart) -> np.ndarray:
    """Return what the champion's own evaluation says about the rows, NaN where it had others."""
    try:
        theirs, _ = judged.read(open_run(champion.run_dir))
    except ValueError as error:
        raise NotComparable(f"{missing}; {error}") from error
    both = frame.index.intersection(theirs.index)
    if not len(both):
        raise NotComparable(f"{missing}; its own evaluation judged none of the {len(frame)} rows")
    if not frame.loc[both, "truth"].equals(theirs.loc[both, "truth"]):
        raise NotComparable(f"{missing}; its own evaluation knows another truth of the same rows")
    said = judged.values(theirs.loc[both])
    found = np.full((len(frame), *said.shape[1:]), np.nan)
    found[frame.index.get_indexer(both)] = said
    return found


def require_comparable(version: Version, pipeline: str, facts: Mapping) -> None:
    """Refuse a version that is made for something else than rows with those facts.

    Raises
    ------
    NotComparable
        If its pipeline, its kind of task, its classes or its task differ; says how.
    ValueError
        If it is not known what it is made for.
    """
    theirs = require_test(version)
    made, wanted = (
        {"pipeline": owner(of), "kind": test["kind"], "classes": test["classes"], **test["task"]}
        for of, test in ((version.pipeline, theirs), (pipeline, facts))
    )
    different = [name for name in wanted | made if made.get(name) != wanted.get(name)]
    if different:
        told = (f"{name} {made.get(name)} instead of {wanted.get(name)}" for name in different)
        raise NotComparable(f"{version.words} is made for another task: {', '.join(told)}")


def shared_rows(test: Test, *said: np.ndarray) -> tuple[Test, *tuple[np.ndarray, ...]]:
    """Return test and predictions without the rows that one of the models cannot forecast.

    Parameters
    ----------
    test : Test
    *said : ndarray of shape (n,) or (n, n_classes)
        NaN where a model has too little history.

    Returns
    -------
    Test, ndarray, ...

    Raises
    ------
    NotComparable
        If no row is left.
    """
    known = [np.isfinite(one).reshape(len(one), -1).all(axis=1) for one in said]
    kept = np.logical_and.reduce(known)
    if kept.all():
        return test, *said
    if not kept.any():
        raise NotComparable(f"none of the {len(kept)} rows has a forecast of every model")
    return test.select(kept), *(one[kept] for one in said)


def about_data(
    tags: Mapping[str, str],
    who: str,
    test: Test,
    data: Mapping,
    *,
    own: bool,
    parted_by: Mapping[str, object] | None = None,
) -> tuple[list[str], list[str]]:
    """Return problems and notes that follow from what a version was trained on.

    Parameters
    ----------
    tags, who : mapping, str
        Of the version, and what it is called.
    test : Test
    data : mapping
        ``source`` and ``digest`` of the data of the test.
    own : bool
        Whether it is the very model that the test belongs to.
    parted_by : mapping, optional
        See `lib.registry.rows.Rows`; of the data of the test.
    """
    if own:
        return [], [f"{who}, which is in production, is this run's own model"]
    problems, notes, times = [], [], judged.times(test.truth.index)
    source, until = tags.get("source", ""), tags.get("learned_until", "")
    theirs = json.loads(tags.get(TEST) or "{}").get("options", {})
    is_parted_so = all(theirs.get(k, v) == v for k, v in (parted_by or {}).items())
    if tags.get("data_digest", "") == data["digest"]:
        notes.append(f"{who} was trained on the same data")
    elif source != data["source"]:
        problems.append(
            f"{who} was trained on other data: {source or 'of no known source'}, "
            f"not {data['source']}"
        )
    elif times is None and (source == SAMPLE or not is_parted_so):
        problems.append(
            f"{who} was trained on rows that were drawn in another way, maybe on some of this test"
        )
    else:
        notes.append(f"{who} was trained on an earlier state of {source}")
    if times is not None and not until:
        problems.append(f"it is not known until when {who} has learned")
    elif times is not None and moment(until) >= times.min():  # rows may be in order of groups
        start = times.min().isoformat()
        problems.append(f"{who} has learned until {until}, and this test begins at {start}")
    return problems, notes


def moment(text: str) -> pd.Timestamp:
    """Return a time in ISO 8601 without its zone, in UTC where it has one."""
    time = pd.Timestamp(datetime.fromisoformat(text))
    return time.tz_convert("UTC").tz_localize(None) if time.tz else time
