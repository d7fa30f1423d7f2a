"""Data below a `DATA_DIR` that is a URL: found, read, told from others, copied where it must be."""

import io

from lib import sources
from lib.ground import files
from lib.ground.dataset import Dataset
from lib.images.load import load_images
from lib.once import data
from lib.power.load import load_power
from lib.tick.load import load_ticks

import numpy as np
import pytest
from upath import UPath

pytestmark = pytest.mark.slow
POWER = """Date;Time;Global_active_power;Global_reactive_power;Voltage;Global_intensity;\
Sub_metering_1;Sub_metering_2;Sub_metering_3
1/1/2007;00:00:00;1.5;0.1;240.0;6.0;0;0;0
1/1/2007;00:01:00;2.5;0.1;240.0;10.0;0;0;0
1/1/2007;00:02:00;?;?;?;?;?;?;
"""
LINES = (f"2013-10-07T14:30:{k:02}Z,100.{k:02},1" for k in range(60))
TICKS = "\n".join(["timestamp,price,size", *LINES, ""])


@pytest.fixture(params=["memory", "s3"])
def remote(request, tmp_path, monkeypatch):
    """A `DATA_DIR` on another machine."""
    place = f"memory://{tmp_path.name}"
    if request.param == "s3":
        place = f"s3://{request.getfixturevalue('bucket')}/raw"
    for module in (files, data, sources):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    monkeypatch.setenv("DATA_DIR", f"{place}/")
    return UPath(place)


def put(place, content):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.fs.pipe_file(place.path, content)


def test_readers_take_what_lies_below_it(remote, tmp_path):
    put(remote / "power" / "house.txt", POWER.encode())
    put(remote / "tick" / "SPY" / "20131007.csv", TICKS.encode())
    arrays = io.BytesIO()
    image, label = np.arange(20 * 28 * 28).reshape(20, 28, 28).astype(np.uint8), np.arange(20) % 2
    np.savez(arrays, x_train=image, y_train=label, x_test=image, y_test=label)
    put(remote / "images.npz", arrays.getvalue())
    assert load_power("power/house.txt")["power_kw"].dropna().tolist() == [1.5, 2.5]
    assert (
        load_ticks("tick/SPY", Dataset(UPath(tmp_path / "days")), time_zone="UTC").rows["read"]
        == 60
    )
    assert len(load_images("mnist", "images.npz").y_train) == 20
    with pytest.raises(
        ValueError, match=r"no file matches 'power/none.txt': looked for (memory|s3):"
    ):
        load_power("power/none.txt")


def test_what_has_changed_below_it_has_another_fingerprint(remote, tmp_path):
    put(remote / "tick" / "SPY" / "a.csv", b"one")
    if remote.protocol == "memory":  # which keeps no digests
        assert data.fingerprints({"source": "tick/SPY"})["source"].startswith(data.UNKNOWN)
        return
    (tmp_path / "here.csv").write_text("one")
    asked = {"source": "tick/SPY", "glob": "tick/*/a.csv", "word": "sample", "here": "here.csv"}
    before = data.fingerprints(asked)
    assert list(before) == ["source", "glob", "here"] and before == data.fingerprints(asked)
    put(remote / "tick" / "SPY" / "a.csv", b"two")
    after = data.fingerprints(asked)
    assert after["here"] == before["here"]
    assert after["source"] != before["source"] and after["glob"] != before["glob"]


def test_local_copy_is_made_once_and_anew_when_the_file_is_another(remote, capsys):
    put(remote / "weights.h5", b"one")
    for _ in range(2):
        assert sources.find_file("weights.h5").read_bytes() == b"one"
    assert capsys.readouterr().out.count("copied") == 1
    put(remote / "weights.h5", b"longer")
    assert sources.find_file("weights.h5").read_bytes() == b"longer"
    assert "weights.h5, 0.0 MB, to" in capsys.readouterr().out
    assert not sources.local_data("keras/mnist.npz").exists(), "where a download goes"
