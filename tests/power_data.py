"""Power readings made for tests: text as UCI writes it, and small canonical frames."""

from pathlib import Path

from lib.power.frame import COLUMNS

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
