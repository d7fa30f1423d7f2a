"""Every registered model answers over HTTP what its evaluation has found, and says what is wrong.

The model of a pipeline's whole run is in production; it is scored as a version, and served from its
alias by MLflow in a process that knows nothing of this project; that of cifar10, whose code is that
of mnist, in this one.
"""

import json
import re
from types import SimpleNamespace

from lib import judged, tracking
from lib.registry import rematch
from lib.registry.rows import predict, rows_of_run
from lib.registry.standing import open_version

import numpy as np
import pandas as pd
import pytest
from serving import ask, refusal, served, served_here, split_of

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(1800)]
NAMES = {
    "power": "power_by_command",
    "tick": "tick_first",
    "mnist": "mnist_cnn",
    "cifar10": "cifar10_fast",
}


@pytest.fixture(scope="module", params=NAMES)
def run(request):
    """A run of the pipeline, the first of its name, so that its model is in production."""
    made = request.getfixturevalue(f"{request.param}_run")
    return made[2] if isinstance(made, tuple) else made


@pytest.fixture(scope="module")
def test(run):
    rows, frame, facts = rows_of_run(run)
    inputs = rows.inputs
    if isinstance(inputs, pd.DataFrame):
        inputs = inputs.rename_axis("ts").reset_index()
    return SimpleNamespace(inputs=inputs, frame=frame, facts=facts, stored=judged.values(frame))


@pytest.fixture(scope="module")
def server(run, tmp_path_factory):
    uri = f"models:/{NAMES[run.pipeline]}_sample@production"
    if run.pipeline == "cifar10":
        with served_here(uri) as client:
            yield client
        return
    known = {"MLFLOW_TRACKING_URI": tracking.tracking_uri()}
    by_command = run.pipeline == "power"
    with served(uri, tmp_path_factory.mktemp("server"), by_command=by_command, **known) as url:
        yield url


def body(inputs):
    """Return the raw rows of a test as a request."""
    return {"inputs": inputs.tolist()} if isinstance(inputs, np.ndarray) else split_of(inputs)


def table(text):
    return pd.DataFrame(json.loads(text)["predictions"])


def changed(column, row, value):
    def change(frame):
        frame = frame.astype({column: object})
        frame.loc[frame.index[row], column] = value
        return split_of(frame)

    return change


def pixel(value):
    def change(images):
        images = images[:2].tolist()
        images[1][3][4] = value
        return {"instances": images}

    return change


IMAGES = {
    "too large": (pixel(300), r"got 300 in image 1 at \(3, 4"),
    "a fraction": (pixel(0.5), r"got 0\.5 in image 1"),
    "a word": (pixel("white"), "got 'white' in image 1"),
    "one image": (lambda x: {"inputs": x[0].tolist()}, "put it into a list"),
    "half an image": (lambda x: {"inputs": x[:2, :9].tolist()}, r"expected \(n, .*, got \(2, 9, "),
    "none": (lambda x: {"inputs": []}, "at least one image"),
}
COLOURS = IMAGES | {
    "too large": (pixel([0, 300, 0]), r"got 300 in image 1 at \(3, 4, 1\)"),
    "a fraction": (pixel([0, 0, 0.5]), r"got 0\.5 in image 1 at \(3, 4, 2\)"),
    "a word": (pixel([0, 0, "white"]), "got 'white' in image 1"),
}
WRONG = {
    "power": {
        "a column less": (lambda x: split_of(x.drop(columns="voltage_v")), "voltage_v"),
        "a word": (changed("power_kw", 3, "much"), "convert column power_kw to type 'float64'"),
        "a word as time": (changed("ts", 3, "noon"), "column 'ts', row 3: noon is no time like"),
        "turned": (lambda x: split_of(x.iloc[::-1]), "row 1 at .* sort the rows by ts"),
        "off the grid": (
            lambda x: split_of(x.assign(ts=x["ts"] + x["ts"].dt.day * pd.Timedelta(minutes=1))),
            "is not a whole number of steps of 0 days 01:00:00",
        ),
        "no rows": (lambda x: split_of(x.iloc[:0]), "the history has no rows"),
    },
    "tick": {
        "a column less": (lambda x: split_of(x.drop(columns="vwap")), "vwap"),
        "a word": (changed("close", 3, "much"), "convert column close to type 'float64'"),
        "a word as time": (changed("ts", 3, "noon"), "column 'ts', row 3: noon is no time"),
        "no price": (changed("low", 2, -1.0), r"row 2 at .* low is -1\.0"),
        "turned": (lambda x: split_of(x.iloc[::-1]), "row 1 at .* sort"),
        "no rows": (lambda x: split_of(x.iloc[:0]), "there is no bar"),
    },
    "mnist": IMAGES,
    "cifar10": COLOURS,
}
NO_INPUT = {
    "a list": [1],
    "another word": {"images": [1]},
    "nothing": {},
    "two inputs": {"inputs": [1], "instances": [1]},
    "a number": {"inputs": 7},
    "another column": {"dataframe_split": {"columns": ["a"], "data": [[1]]}},
    "a broken table": {"dataframe_split": {"columns": ["ts"], "data": [[1, 2]]}},
}


def test_version_in_production_says_what_the_evaluation_has_stored(run, test):
    stored = test.stored
    assert len(stored) > 100 and np.ptp(stored) > 0
    name = f"{NAMES[run.pipeline]}_sample"
    served_one = open_version(name, "@production")
    assert served_one.test == test.facts
    rows = rows_of_run(run)[0]
    found = predict(run.pipeline, served_one.model, rows, rows.keys)
    np.testing.assert_allclose(found, stored, rtol=1e-5, atol=1e-6)
    result = rematch.against_production(run, NAMES[run.pipeline])
    assert result["problem"] == "" and result["champion"]["own"]
    assert (result["champion"]["name"], result["champion"]["version"]) == (name, 1)
    np.testing.assert_allclose(result["champion_predictions"], stored, rtol=1e-5, atol=1e-6)


def test_server_answers_what_the_evaluation_has_stored(run, test, server):
    inputs, stored = test.inputs, test.stored
    if isinstance(inputs, np.ndarray):  # to write and read pixels as JSON takes long
        inputs, stored = inputs[:200], stored[:200]
    status, text = ask(server, body(inputs))
    assert status == 200, text[-2000:]
    answer = table(text)
    if "label" in answer:
        found = answer.drop(columns="label")
        names = test.facts["classes"]
        assert answer["label"].tolist() == [names[k] for k in stored.argmax(axis=1)]
    else:
        keys = judged.time_keys(pd.DatetimeIndex(pd.to_datetime(answer.pop("ts"))))
        (column,) = answer.columns
        found = answer[column].astype(float).set_axis(keys).reindex(test.frame.index)
    np.testing.assert_allclose(found.to_numpy(), stored, rtol=1e-4, atol=1e-5)


def test_server_says_what_is_wrong_with_an_input_and_shows_no_code(run, test, server):
    for name, (change, message) in WRONG[run.pipeline].items():
        said = refusal(server, change(test.inputs))
        assert re.search(message, said), (name, said[-500:])
    for name, content in NO_INPUT.items():
        assert len(refusal(server, content)) > 20, name
    status, text = ask(server, body(test.inputs[:3]))
    assert status == 200 and len(table(text)) == 3, text
