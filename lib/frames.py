"""Frames: step and gaps of a regular grid of time, digests of all of it and of rows."""

import hashlib

import numpy as np
import pandas as pd

AT_ONCE = 16_000_000  # bytes of texts that a digest holds, besides the texts


def gap_report(readings: pd.Series) -> pd.DataFrame:
    """Return the stretches in which there is no reading, longest first.

    Returns
    -------
    DataFrame of shape (n_gaps, 3)
        ``start`` and ``end``, the times of the first and the last missing row, and ``n_rows``.
        Gaps of one length are in order of time.
    """
    missing = np.concatenate([[False], readings.isna().to_numpy(), [False]])
    edges = np.flatnonzero(missing[1:] != missing[:-1])
    first, last = edges[::2], edges[1::2] - 1
    gaps = pd.DataFrame(
        {"start": readings.index[first], "end": readings.index[last], "n_rows": last - first + 1}
    )
    return gaps.sort_values("n_rows", ascending=False, kind="stable", ignore_index=True)


def grid_step(frame: pd.DataFrame) -> pd.Timedelta:
    """Return the time from one row of a regular frame to the next."""
    if len(frame) < 2:
        raise ValueError(f"the frame has {len(frame)} rows; two are needed to know their length")
    return frame.index[1] - frame.index[0]


def frame_digest(frame: pd.DataFrame) -> str:
    """Return the SHA-256 of a frame's column names, types and values, index included.

    The digest is the same on every platform: values are taken as little-endian bytes, all NaN as
    one NaN, -0.0 as 0.0. It does not depend on how the frame lies in memory.
    """
    digest = hashlib.sha256()
    for name, values in [(frame.index.name, frame.index), *frame.items()]:
        array = values.to_numpy()
        if array.dtype.kind == "f":
            array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array) + 0
        digest.update(f"{name}|{values.dtype}|{len(array)}|".encode())
        if array.dtype.kind not in "fiubmM":
            texts = [str(value).encode() for value in array]
            width = max(map(len, texts), default=0)  # a text is filled up to the longest of all
            at_once = max(1, AT_ONCE // max(1, width))
            for k in range(0, len(texts), at_once):
                digest.update(np.array(texts[k : k + at_once], f"S{width or 1}").data)
            continue
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(np.ascontiguousarray(little).view(np.uint8).data)
    return digest.hexdigest()


def row_keys(numbers: pd.DataFrame) -> list[str]:
    """Return the key of each row that has no time, a digest of its numbers: equal ones alike."""
    digests = pd.util.hash_pandas_object(numbers, index=False)
    return [f"{digest:016x}" for digest in digests]


def as_numbers(inputs: pd.DataFrame) -> pd.DataFrame:
    """Return inputs as float64 columns whose distributions can be compared.

    A text becomes a number from 0 to 1 that is its own wherever it stands, so that a text that was
    never there, or is there more often, shows. NaN stays, and so do times.
    """
    found = inputs.copy()
    for name in inputs.select_dtypes(exclude=["number", "datetime"]):
        numbers = pd.util.hash_array(inputs[name].to_numpy(object, na_value="")) / 2.0**64
        found[name] = np.where(inputs[name].isna(), np.nan, numbers)
    return found
