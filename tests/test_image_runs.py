"""Whole runs of the image pipelines through Airflow, and every network of their training stages."""

import io
import json
import tarfile
from pathlib import Path

from lib import judged
from lib.ground.files import data_dir, state_dir
from lib.images.sample import sample_objects
from lib.packaging import load_packed
from lib.registry import lifecycle
from lib.run import open_run

import mlflow
import numpy as np
import pandas as pd
import pytest
from serving import evaluated, executed_here
from whole_runs import (
    SMALL_CIFAR,
    copied,
    errors,
    lines_of_training,
    mlflow_run,
    prepare,
    report,
)

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]
MNIST = data_dir() / "mnist.npz"


@pytest.fixture(scope="module", autouse=True)
def airflow():
    prepare()


def test_sample_digits_are_registered_and_answer_as_evaluated(mnist_run):
    done, _, run = mnist_run
    assert done.state == "success"
    assert all(report(run, stage)[0] == "completed" for stage in run.records())
    metrics, logged = run.read("metrics.json"), mlflow_run(run)
    assert {k: logged.data.metrics[k] for k in metrics} == pytest.approx(metrics)
    assert (
        metrics["accuracy_low"] > metrics["logistic_accuracy"] > metrics["most_frequent_accuracy"]
    )
    assert metrics["training_s"] > 0
    (data,) = logged.inputs.dataset_inputs
    assert data.dataset.digest == run.read("dataset.json")["digest"][:36]
    assert json.loads(data.dataset.profile)["num_rows"] == 1797
    registered = run.read("registration.json")
    assert registered["name"] == "mnist_cnn_sample"
    assert (
        lifecycle.version(registered["name"], registered["version"]).tags["run_dir"] == run.run_dir
    )
    images, said = run.read("images.npz"), judged.values(judged.read(run)[0])
    model = mlflow.pyfunc.load_model(registered["uri"])
    made = model.predict(images["x_test"]).drop(columns="label")
    np.testing.assert_allclose(made, said, atol=1e-5)


def test_digits_are_compared_again_with_the_version_in_production(mnist_run):
    again = copied(mnist_run[2], "05_register", "again")
    executed_here(again.run_dir, "05_register")
    assert again.read("registration.json")["alias"] == "staging"
    decision, before = again.read("gate.json"), mnist_run[2].read("registration.json")
    assert decision["outcome"] == "not_better"
    assert decision["champion"]["version"] == before["version"]
    (row,) = [row for row in decision["rows"] if row["decisive"]]
    assert row["metric"] == "accuracy" and row["p_value"] == 1
    assert row["candidate"] == pytest.approx(row["champion"], abs=1e-6)


def test_killed_training_of_the_second_network_goes_on_from_its_last_epoch(cifar10_run):
    done, tasks, run = cifar10_run
    assert done.state == "success", errors(run, "03_train")
    assert tasks["03_train"].try_number == 2, errors(run, "03_train")
    lines = lines_of_training(run)
    assert lines[-1] == "network 2 of 2, fast, epoch 4 of 4"
    assert len(lines) <= 2, "training began anew"
    assert "DeadKernelError" in report(run, "03_train.attempt-1")[1]
    assert not (state_dir() / ".scratch" / "cifar10" / run.name / "training").exists()
    metrics = run.read("metrics.json")
    assert metrics["accuracy"] > metrics["logistic_accuracy"] + 0.3
    assert run.read("registration.json")["name"] == "cifar10_fast_sample"
    assert run.read("choice.json") == {"model": "fast", "views": "six", "n_networks": 2}
    assert run.read("history.csv")["network"].tolist() == [1] * 4 + [2] * 4
    assert metrics["epochs"] == 4
    frame, _ = judged.read(run)
    said = {name: judged.values(frame, name) for name in ("model", "one_network")}
    logs = [np.log(one.clip(1e-30)) for one in said.values()]
    assert np.abs(logs[0] - logs[1]).max() > 0.1, "the second network has no voice"
    alone = float((said["one_network"].argmax(axis=1) == frame["truth"]).mean())
    assert metrics["one_network_accuracy"] == pytest.approx(alone)


def prepared(run_dir, n_train, n_validation):
    """Make the features of a few sample images; return the run."""
    executed_here(run_dir, "01_load", n_train=n_train, n_test=50)
    executed_here(run_dir, "02_features", n_validation=n_validation)
    return open_run(run_dir)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file as Keras has it of a network trained on ImageNet; here with random weights."""
    from lib.backend import import_keras

    keras = import_keras()
    file = tmp_path_factory.mktemp("weights") / "vgg16.weights.h5"
    keras.utils.set_random_seed(0)
    keras.applications.VGG16(include_top=False, weights=None).save_weights(file)
    return str(file)


def kept_model_answers(run):
    model = load_packed(Path(run.path.path) / "model")
    answers = model.predict(sample_objects().x_test[:4])
    np.testing.assert_allclose(answers.drop(columns="label").sum(axis=1), 1, atol=1e-5)


def test_resnet20_learns_and_is_kept_as_a_model():
    run = prepared("cifar10/resnet", n_train=120, n_validation=20)
    asked = {"model": "resnet20", "views": "mirror", "batch_size": 25, "epochs": 2}
    executed_here(run.run_dir, "03_train", **asked)
    assert run.read("history.csv")["phase"].tolist() == ["resnet20"] * 2
    kept_model_answers(run)


def test_backbone_of_others_gets_a_head_and_is_then_trained_whole(weights):
    run = prepared("cifar10/backbone", n_train=70, n_validation=20)
    asked = {"model": "vgg16", "weights": weights, "backbone_size": 32, "views": "one"}
    asked |= {"batch_size": 25, "head_epochs": 2, "epochs": 1}
    executed_here(run.run_dir, "03_train", **asked)  # random weights may not learn: no error
    history = pd.read_csv(io.BytesIO((run.path / "history.csv").read_bytes()))
    assert history["phase"].tolist() == ["head", "head", "whole"]
    assert history["seconds"].iloc[2] > history["seconds"].iloc[1], "the backbone was not trained"
    kept_model_answers(run)


@pytest.mark.real
@pytest.mark.skipif(not MNIST.exists(), reason="no real data")
def test_one_short_epoch_on_real_digits_passes_its_floor():
    asked = {"source": str(MNIST), "epochs": 1, "model": "simple", "width": 16, "batch_size": 50}
    asked |= {"n_train": 10_000, "n_validation": 1000, "n_test": 2000, "min_accuracy": 0.96}
    run = evaluated("mnist/real", **asked)
    metrics = run.read("metrics.json")
    assert metrics["accuracy_low"] > metrics["logistic_accuracy"] + 0.03
    assert lifecycle.register(run, "mnist_cnn")["name"] == "mnist_cnn"


@pytest.mark.real
def test_a_few_hundred_real_pictures_end_to_end(real_objects):
    asked = SMALL_CIFAR | {"source": str(real_objects), "n_train": 900, "n_test": 300, "epochs": 8}
    asked |= {"min_accuracy": 0.3, "max_calibration_error": 0.5, "batches_per_step": 1}
    run = evaluated("cifar10/real", **asked)
    metrics = run.read("metrics.json")
    assert metrics["accuracy"] > metrics["logistic_accuracy"] > metrics["most_frequent_accuracy"]
    assert run.read("dataset.json")["n_rows"] == 1200
    assert lifecycle.register(run, "cifar10_fast")["name"] == "cifar10_fast"


@pytest.mark.parametrize(("pipeline", "file"), [("mnist", "cut.npz"), ("cifar10", "cut.tar.gz")])
def test_cut_file_ends_the_first_stage_with_its_name(pipeline, file, tmp_path):
    path = tmp_path / file
    if pipeline == "mnist":
        noise = np.random.default_rng(0).integers(0, 256, (1000, 28, 28), np.uint8)
        np.savez(path, x_train=noise)
    else:
        (tmp_path / "data_batch_1").write_bytes(np.random.default_rng(0).bytes(100_000))
        with tarfile.open(path, "w:gz") as archive:
            archive.add(tmp_path / "data_batch_1", "cifar-10-batches-py/data_batch_1")
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(ValueError, match=file):
        evaluated(f"{pipeline}/cut", source=str(path))
    assert not (open_run(f"{pipeline}/cut").path / "images.npz").exists()
