"""Readers against spoilt bytes: they read, or refuse in their own words; they never hang or swell.

``python tests/fuzz_readers.py --minutes 10 --reader tick`` goes on until the time is up, or an
input is found that breaks the promise: Hypothesis makes it small, and it is written down.
"""

import argparse
import gc
import resource
import sys
import tempfile
import time
from pathlib import Path

from bad_inputs import CLEAN, PACKED, Case, put, read
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

FLOOR, TIMES = 48 << 20, 4
"""Bytes that any reading may take, and how many times the size of the input more."""
MOST_S = 10.0
WORDS = (
    b",", b";", b"\t", b"\n", b"\r\n", b"\r", b'"', b"'", b"\0", b" ", b"-", b".", b"+", b"e",
    b"nan", b"inf", b"-1", b"0", b"1e308", b"9" * 19, b"9" * 30, b"1e-400", b"0x1f", b"None",
    b"NULL", b"True", b"2024-02-30", b"24:00:00", b"0000-00-00", b"2611-01-01", b"1969-12-31",
    b"+00:00", b"Z", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3\x28", b"\x1f\x8b", b"PK\x03\x04",
    b"PAR1", b"\x80\x05", b"{", b"<", b"#", b"=1+1", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80",
)  # fmt: skip


@st.composite
def spoilt(draw, reader):
    """A good input with some bytes changed, left out, put in, doubled or moved; or packed."""
    name = draw(st.sampled_from([key for key, (whose, *_) in CLEAN.items() if whose == reader]))
    _, files, options = CLEAN[name]
    file = draw(st.sampled_from(sorted(files)))
    data, packing = bytearray(files[file]), None
    if draw(st.integers(0, 5)) == 0:
        packing = draw(st.sampled_from(sorted(PACKED)))
        if draw(st.booleans()):
            data, packing = bytearray(PACKED[packing](bytes(data))), None
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.sampled_from([1, 1, 2, 4, 20, 200]))
        how = draw(st.integers(0, 5))
        if how == 0:
            data[at : at + length] = draw(st.binary(min_size=1, max_size=4))
        elif how == 1:
            data[at:at] = draw(st.sampled_from(WORDS))
        elif how == 2:
            del data[at : at + length]
        elif how == 3:
            data[at:at] = data[at : at + length] * draw(st.sampled_from([1, 2, 50]))
        elif how == 4:
            there = draw(st.integers(0, max(len(data) - 1, 0)))
            data[there:there] = data[at : at + length]
        else:
            data[at : at + length] = draw(st.sampled_from(WORDS))
    data = PACKED[packing](bytes(data)) if packing else bytes(data)
    return Case(reader, name, {**files, file: data}, options)


def hold(case):
    """Read a case, and raise where the promise is broken."""
    size = sum(map(len, case.files.values()))
    with tempfile.TemporaryDirectory() as folder:
        path = put(case, Path(folder))
        start = time.perf_counter()
        before = resident()
        try:
            read(case.reader, path, case.given)
        except ValueError as error:
            own = type(error) is ValueError or type(error).__module__.startswith("lib.")
            if not own:
                raise AssertionError(
                    f"{type(error).__name__} is no reader's own: {error}"
                ) from error
            shown = str(error).partition(" To see how it is read")[0]
            assert len(shown) < 3_000, shown[:4_000]
        took, most = time.perf_counter() - start, resident(most=True) - before
        assert took < MOST_S, f"{took:.1f} s for {size:,} bytes"
        assert most < FLOOR + TIMES * size, f"{most:,} bytes for {size:,}"


def resident(*, most=False):
    """Bytes of this process in memory: now, or at most since it was asked for those of now."""
    if not most:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): the peak begins anew
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:" if most else "VmRSS:")[2].split()[0]) << 10


def run(reader, *, minutes, examples=1_000_000_000, seed=None):
    """Hold on to the promise for some minutes, or so many examples; return how many were tried."""
    tried, end, last = 0, time.monotonic() + 60 * minutes, None

    class Enough(Exception):
        pass

    phases = [Phase.generate, Phase.shrink]
    quiet = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}

    @settings(max_examples=examples, phases=phases, derandomize=seed is None, **quiet)
    @given(spoilt(reader))
    def each(case):
        nonlocal tried, last
        tried, last = tried + 1, case
        if time.monotonic() > end:
            raise Enough
        hold(case)
        if tried % 500 == 0:
            gc.collect()

    for name, (whose, files, options) in CLEAN.items():
        if whose == reader:  # what is imported on the way is then no memory of a reading
            with tempfile.TemporaryDirectory() as folder:
                read(reader, put(Case(reader, name, files, options), Path(folder)), options)
    try:
        each()
    except* Enough:  # alone, or as what Hypothesis finds flaky
        pass
    except* BaseException:  # the last is the smallest that was found
        place = put(last, Path(tempfile.mkdtemp(prefix=f"fuzz-{reader}-")))
        sys.stderr.write(f"it is in {place}, to be read with {last.given}\n")
        raise
    return tried


def main():
    """Fuzz one reader, or all in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--reader", choices=["power", "tick", "images"], action="append")
    given_ = parser.parse_args()
    for reader in given_.reader or ["power", "tick", "images"]:
        began = time.monotonic()
        n_tried = run(reader, minutes=given_.minutes, seed=1)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        minutes = (time.monotonic() - began) / 60
        sys.stdout.write(
            f"{reader}: {n_tried:,} inputs in {minutes:.1f} minutes, {most} MiB at most\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
