"""Power readings made for tests: text as UCI writes it, and small canonical frames."""

import gzip
import zipfile
from pathlib import Path

from lib.power.columns import COLUMNS

import numpy as np
import pandas as pd

HERE = Path(__file__).parent / "data"
HEADER = ";".join(["Date", "Time", *COLUMNS.values()]) + "\n"
VALUES = "1.000;0.100;240.000;4.200;0.000;1.000;17.000"


def uci(*rows, values=VALUES):
    """Rows of `date;time`, all with the same readings, as UCI's text."""
    return (HEADER + "".join(f"{row};{values}\n" for row in rows)).encode()


def minutes(n, start="2007-02-01", power=None):
    """A canonical frame of `n` minutes whose power counts 0, 1, 2 ... kW unless given."""
    index = pd.date_range(start, periods=n, freq="min", name="ts").as_unit("us")
    frame = pd.DataFrame(1.0, index=index, columns=list(COLUMNS))
    frame.index.freq = None
    return frame.assign(power_kw=np.arange(n, dtype=float) if power is None else power)


def write_uci_text(frame, path):
    """Write a canonical frame as UCI's text, packed when `path` ends in ``.zip`` or ``.gz``.

    Values have three decimals; a row without readings has ``?`` in six columns and nothing in the
    last, as in UCI's file.
    """
    table = pd.DataFrame({"Date": [f"{ts.day}/{ts.month}/{ts.year}" for ts in frame.index]})
    table["Time"] = frame.index.strftime("%H:%M:%S")
    for column, name in COLUMNS.items():
        missing = "" if column == "sub_metering_3_wh" else "?"
        table[name] = [missing if np.isnan(v) else f"{v:.3f}" for v in frame[column]]
    data = table.to_csv(sep=";", index=False).encode()
    path = Path(path)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(path.with_suffix(".txt").name, data)
    else:
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
