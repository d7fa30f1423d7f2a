"""What files of a run folder hold, in the format that the ending of their name says."""

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

Content: TypeAlias = "pd.DataFrame | dict[str, np.ndarray] | dict | list | Figure"

DPI = 160  # of figures in the run folder, which pages enlarge; a notebook shows them at 80


def check_metrics(metrics: Mapping[str, float]) -> None:
    """See that metrics are finite numbers; raise a ValueError that names the one that is not."""
    for name, value in metrics.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise ValueError(f"metrics.json: {name} = {value!r}, expected a finite number")


def encode(name: str, content: Content) -> bytes:
    """Return `content` as the bytes of the file `name`, see `Run.write`."""
    buffer = io.BytesIO()
    match Path(name).suffix:
        case ".parquet":
            content.to_parquet(buffer)
        case ".csv":
            buffer.write(content.to_csv().encode())
        case ".npz":
            import numpy as np

            np.savez_compressed(buffer, **content)
        case ".json":
            style = {"separators": (",", ":")} if name.endswith(".chart.json") else {"indent": 2}
            buffer.write((json.dumps(content, allow_nan=False, **style) + "\n").encode())
        case ".png":
            content.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        case suffix:
            raise ValueError(
                f"{name}: no format for {suffix!r}; use .parquet, .csv, .npz, .json or .png, or "
                "run.writing() for other files"
            )
    return buffer.getvalue()


def decode(name: str, data: bytes) -> Content:
    """Return the content of the file `name` from its bytes."""
    match Path(name).suffix:
        case ".parquet":
            import pandas as pd

            return pd.read_parquet(io.BytesIO(data))
        case ".csv":
            import pandas as pd

            return pd.read_csv(io.BytesIO(data), index_col=0)
        case ".npz":
            import numpy as np

            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return dict(arrays)
        case ".json":
            return json.loads(data)
        case suffix:
            raise ValueError(f"{name}: no reader for {suffix!r}; use run.local() for its path")
