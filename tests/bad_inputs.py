"""Bad inputs: small good files of every reader, each spoilt in many ways, and what is said of them.

``python tests/bad_inputs.py`` writes the table of them, ``docs/bad-inputs.md``.
"""

import bz2
import gzip
import io
import lzma
import os
import struct
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from lib.ground.dataset import Dataset
from lib.ground.files import ROOT
from lib.images.load import load_images
from lib.looks import WAY
from lib.power.columns import COLUMNS
from lib.power.load import load_power
from lib.tick.load import iter_ticks, load_ticks

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as arrow
from upath import UPath

TABLE = ROOT / "docs" / "bad-inputs.md"
SHARED = Path(os.environ.get("DATA_DIR", ROOT / "data"), "cases")
READ = "read as it is meant"


@dataclass(frozen=True)
class Case:
    """A file, or several, for a reader.

    Attributes
    ----------
    reader : str
        ``power``, ``tick`` or ``images``.
    name : str
        What was done to a good input.
    files : dict of str to bytes
        By name; a folder is given where there are several.
    given : dict
        Parameters.
    clean : str
        The good input it is made of, see `CLEAN`.
    broken : bool
        Whether it is damaged, and may be called so.
    words : tuple of str
        What the refusal must name: line, column, value.
    """

    reader: str
    name: str
    files: dict[str, bytes] = field(repr=False)
    given: dict = field(default_factory=dict, hash=False)
    clean: str = ""
    broken: bool = False
    words: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.reader}: {self.clean}, {self.name}" if self.clean else self.name


# Readers ---------------------------------------------------------------------------------------


def read(reader, path, given):
    """Return what a reader makes of a file or folder, as something that can be compared."""
    if reader == "power":
        return load_power(str(path), **given)
    if reader == "images":
        return load_images("mnist", str(path), **given)
    with tempfile.TemporaryDirectory() as scratch:
        ticks = Dataset(UPath(scratch, "ticks"))
        load_ticks(str(path), ticks, **given)
        return pl.concat(list(iter_ticks(ticks.parts)))


def is_same(reader, found, clean):
    if reader == "power":
        pd.testing.assert_frame_equal(found, clean)
    elif reader == "tick":
        assert found.equals(clean)
    else:
        for name, values in clean.arrays.items():
            np.testing.assert_array_equal(found.arrays[name], values)
    return True


def put(case, folder):
    """Write the files of a case; return the path to give."""
    for name, data in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    if len(case.files) == 1:
        return folder / next(iter(case.files))
    return folder / "*.csv" if case.reader == "power" else folder


def outcome(case, folder, clean):
    """Return the refusal of a case, or `READ` where it is read as the clean input."""
    path = put(case, folder)
    try:
        found = read(case.reader, path, case.given)
    except ValueError as error:
        own = type(error) is ValueError or type(error).__module__.startswith("lib.")
        assert own, f"{type(error)} is no error of a reader"
        return str(error).replace(f"{folder}/", "").replace(str(folder), ".")
    assert is_same(case.reader, found, clean), "it is read, and as something else"
    return READ


# Good inputs -----------------------------------------------------------------------------------

UTC = {"time_zone": "UTC", "session": "00:00-24:00", "session_zone": "UTC"}
N = 40
VALUES = ("0.100", "240.000", "4.200", "0.000", "1.000", "17.000")
KW = [f"{0.3 + k % 9 / 10:.3f}" for k in range(N)]


def text(*rows, header=""):
    return "\n".join([*([header] if header else []), *rows, ""]).encode()


def power_uci():
    header = ";".join(["Date", "Time", *COLUMNS.values()])
    rows = (f"16/12/2006;{k // 60:02}:{k % 60:02}:00" for k in range(N))
    return text(
        *(";".join([row, kw, *VALUES]) for row, kw in zip(rows, KW, strict=False)), header=header
    )


def power_iso():
    header = ",".join(["datetime", *COLUMNS.values()])
    rows = (f"2006-12-16 {k // 60:02}:{k % 60:02}:00" for k in range(N))
    return text(
        *(",".join([row, kw, *VALUES]) for row, kw in zip(rows, KW, strict=False)), header=header
    )


def power_watts():
    rows = (f"2016-11-{23 + k // 24} {k % 24:02}:00:00" for k in range(N))
    return text(*(f"{row},{892 + k}.0" for k, row in enumerate(rows)), header="at,mains")


def parquet(data, separator=","):
    frame = pd.read_csv(io.BytesIO(data), sep=separator)
    stream = io.BytesIO()
    frame.to_parquet(stream)
    return stream.getvalue()


def tick_trades(price=lambda k: f"{100 + k % 5 / 100:.2f}"):
    rows = (f"2024-03-{4 + k // 20:02} 14:30:{k % 20:02}" for k in range(N))
    lines = (f"{row},{price(k)},{1 + k},{1 - 2 * (k % 2)}" for k, row in enumerate(rows))
    return text(*lines, header="timestamp,price,size,side")


def tick_epoch(factor=1_000):
    rows = ((1_709_562_600 + k) * factor for k in range(N))
    return text(*(f"{row},{100 + k % 5 / 100:.2f},{1 + k}" for k, row in enumerate(rows)))


def tick_quotes():
    rows = (f"2024-03-04 14:30:{k:02}" for k in range(N))
    lines = (
        f"{row},{100 + k % 5 / 100:.2f},{100.02 + k % 5 / 100:.2f}" for k, row in enumerate(rows)
    )
    return text(*lines, header="timestamp,bid,ask")


RNG = np.random.default_rng(5)
X = RNG.integers(0, 256, (30, 16, 16), np.uint8)
Y = np.arange(30, dtype=np.uint8) % 3


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


IMAGES = {"x_train": X[:21], "y_train": Y[:21], "x_test": X[21:], "y_test": Y[21:]}


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


IDX = {
    f"{word}-{kind}-ubyte": idx(IMAGES[f"{key}_{part}"])
    for part, word in (("train", "train"), ("test", "t10k"))
    for key, kind in (("x", "images-idx3"), ("y", "labels-idx1"))
}


def image_csv():
    header = ",".join(["label", *(f"pixel{k}" for k in range(256))])
    rows = (",".join(map(str, [y, *x.ravel()])) for x, y in zip(X, Y, strict=True))
    return text(*rows, header=header)


WATTS = {"columns": ["timestamp=at", "power_kw=mains [W]"]}
NAMED = {**UTC, "layout": ["names=timestamp,price,size"]}
CLEAN = {
    "UCI's text": ("power", {"house.txt": power_uci()}, {}),
    "ISO times": ("power", {"house.csv": power_iso()}, {}),
    "mains in W": ("power", {"mains.csv": power_watts()}, WATTS),
    "Parquet of a house": ("power", {"house.parquet": parquet(power_iso())}, {}),
    "trades": ("tick", {"AAA.csv": tick_trades()}, UTC),
    "no header": ("tick", {"AAA.csv": tick_epoch()}, NAMED),
    "quotes": ("tick", {"AAA.csv": tick_quotes()}, {**UTC, "kind": "quotes"}),
    "Parquet of trades": ("tick", {"AAA.parquet": parquet(tick_trades())}, UTC),
    "npz": ("images", {"set.npz": npz(**IMAGES)}, {}),
    "idx": ("images", IDX, {}),
    "CSV of pixels": ("images", {"set.csv": image_csv()}, {}),
}


# What is done to them --------------------------------------------------------------------------


def lines(data):
    return data.decode().splitlines()


def join(rows):
    return text(*rows)


def at_line(number, change):
    """Change one line, counted from 1."""

    def spoil(data):
        rows = lines(data)
        rows[number - 1] = change(rows[number - 1])
        return join(rows)

    return spoil


def zipped(data, *names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()


def flipped(data, at=0.5):
    found = bytearray(data)
    found[int(len(found) * at)] ^= 255
    return bytes(found)


def gz(data):
    return gzip.compress(data, mtime=0)


PAGE = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>No.</body></html>\n"
EXCEL = zipped(b"<xml/>", "[Content_Types].xml", "xl/worksheets/sheet1.xml")
OTHER = {
    "empty": lambda _: b"",
    "a web page": lambda _: PAGE,
    "a web page after blank lines": lambda _: b"\n\n  " + PAGE,
    "JSON": lambda _: b'[{"timestamp": "2024-03-04 14:30:00", "price": 1}]\n',
    "an Excel workbook": lambda _: EXCEL,
    "a PDF": lambda _: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "HDF5": lambda _: b"\x89HDF\r\n\x1a\n" + bytes(40),
    "a database": lambda _: b"SQLite format 3\0" + bytes(40),
    "a 7z archive": lambda _: b"7z\xbc\xaf\x27\x1c" + bytes(40),
    "a tar archive": lambda _: b"house.csv".ljust(257, b"\0") + b"ustar\x0000" + bytes(247),
    "noise": lambda _: bytes(range(256)) * 4,
    "nothing but zeros": lambda _: bytes(500),
}
PACKED = {
    "packed by gzip": gz,
    "packed by bzip2": bz2.compress,
    "packed by xz": lzma.compress,
    "packed by zstd": lambda data: arrow.compress(data, "zstd", asbytes=True),
    "in a zip": lambda data: zipped(data, "data.csv"),
    "in a zip beside a note": lambda data: zipped(data, "data.csv", "README.txt"),
}
BROKEN = {
    "gzip, cut": lambda data: gz(data)[:-9],
    "gzip, a byte changed": lambda data: flipped(gz(data)),
    "bzip2, cut": lambda data: bz2.compress(data)[:-9],
    "xz, cut": lambda data: lzma.compress(data)[:-9],
    "zip, cut": lambda data: zipped(data, "data.csv")[:-30],
    "zip, a byte changed": lambda data: flipped(zipped(data, "data.csv"), 0.2),
}
TEXTS = {
    "zip of two tables": lambda data: zipped(data, "a.csv", "b.csv"),
    "gzip in gzip": lambda data: gz(gz(data)),
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "UTF-16 without a mark": lambda data: data.decode().encode("utf-16-le"),
    "a mark of UTF-8": lambda data: b"\xef\xbb\xbf" + data,
    "breaks of Windows": lambda data: data.replace(b"\n", b"\r\n"),
    "all in one line": lambda data: data.replace(b"\n", b" "),
    "cut in its last line": lambda data: data[:-6],
    "cut in its first line": lambda data: data[:12],
    "only its first line": lambda data: data[: data.index(b"\n") + 1],
    "a zero byte in the middle": lambda data: (
        data[: len(data) // 2] + b"\0" + data[len(data) // 2 :]
    ),
    "twice": lambda data: data + data,
    "in reverse order": lambda data: join([lines(data)[0], *lines(data)[:0:-1]]),
    "two rows exchanged": lambda data: join(
        [*lines(data)[:9], lines(data)[10], lines(data)[9], *lines(data)[11:]]
    ),
    "a row twice that is not the last": lambda data: join(
        [*lines(data)[:10], lines(data)[5], *lines(data)[10:]]
    ),
    "a remark before the first line": lambda data: b"# exported on Monday\n" + data,
    "an empty line at the begin": lambda data: b"\n" + data,
    "a sum in the last line": lambda data: data + b"Total rows: 40\n",
    "a line without its end": at_line(8, lambda row: row[: len(row) // 2]),
    "a line with a field more": at_line(8, lambda row: row + row[-4:] + ",;\t9"),
    "a quote that is never closed": at_line(8, lambda row: '"' + row),
}
HEADED = {
    "no header": lambda data: join(lines(data)[1:]),
    "the header twice": lambda data: join([lines(data)[0], *lines(data)]),
    "a header of other names": lambda data: join(
        [
            ",".join("abcdefghijkl"[: len(lines(data)[0].replace(";", ",").split(","))]),
            *lines(data)[1:],
        ]
    ),
    "a header of capitals": at_line(1, str.upper),
    "units below the header": lambda data: join(
        [lines(data)[0], lines(data)[0].replace("a", "W"), *lines(data)[1:]]
    ),
    "a sign of latin-1 in a value": lambda data: data[:-2] + b"\xb0" + data[-2:],
}


def cases():
    """Return all cases that are made here."""
    return [*_common(), *_power(), *_tick(), *_images()]


def _spoilt(clean, spoilers, *, broken=False, words=()):
    reader, files, given = CLEAN[clean]
    name, data = next(iter(files.items()))
    return [
        Case(reader, what, {**files, name: spoil(data)}, given, clean, broken, words)
        for what, spoil in spoilers.items()
    ]


def _common():
    found = []
    for clean in ("UCI's text", "trades"):
        found += _spoilt(clean, OTHER | PACKED | TEXTS | HEADED)
        found += _spoilt(clean, BROKEN, broken=True)
    some = ("twice", "in reverse order", "cut in its last line", "a line without its end", "UTF-16")
    for clean in ("mains in W", "no header", "quotes"):
        found += _spoilt(clean, {name: TEXTS[name] for name in some})
    found += _spoilt("mains in W", HEADED) + _spoilt("quotes", HEADED)
    for clean in ("Parquet of a house", "Parquet of trades"):
        found += _spoilt(clean, {"packed by gzip": gz})
        cut = {
            "cut": lambda data: data[: len(data) // 2],
            "its last bytes": lambda data: data[-80:],
            "its first bytes": lambda data: data[:40],
            "a byte of its end changed": lambda data: flipped(data, 0.98),
        }
        found += _spoilt(clean, cut, broken=True)
    return found


def value(line, field, new, separator):
    """Return what sets one field of one line."""

    def change(row):
        fields = row.split(separator)
        fields[field] = new
        return separator.join(fields)

    return at_line(line, change)


def _power():
    def date(new):
        return lambda data: data.replace(b"16/12/2006", new)

    spoilers = {
        "dots in dates": date(b"16.12.2006"),
        "two digits of the year": date(b"16/12/06"),
        "the month first": date(b"12/16/2006"),
        "a month by its name": date(b"16 Dec 2006"),
        "digits without signs": date(b"20061216"),
        "a decimal comma": lambda data: data.replace(b".", b","),
        "commas in place of semicolons": lambda data: data.replace(b";", b","),
        "tabs": lambda data: data.replace(b";", b"\t"),
        "blanks": lambda data: data.replace(b";", b" "),
        "a line with other separators": at_line(7, lambda row: row.replace(";", ",")),
        "Voltage left out": lambda data: data.replace(b";Voltage", b"").replace(b";240.000", b""),
        "Voltage twice": lambda data: data.replace(b"Global_intensity", b"Voltage"),
    }
    found = _spoilt("UCI's text", spoilers)
    single = {
        "midnight as 24:00:00": (1, "24:00:00", ("line 5", "Time", "'24:00:00'")),
        "no such day": (0, "31/02/2007", ("line 5", "Date", "'31/02/2007'")),
        "a word in place of a time": (1, "noon", ("line 5", "Time", "'noon'")),
        "a word in place of a number": (2, "off", ("line 5", "Global_active_power", "'off'")),
        "a number with its unit": (2, "0.5 kW", ("line 5", "Global_active_power", "'0.5 kW'")),
        "two points in a number": (2, "1.234.5", ("line 5", "Global_active_power", "'1.234.5'")),
        "W in place of kW in one row": (2, "892", ("line 5", "power_kw", "892")),
        "a negative power": (2, "-1.5", ("line 5", "power_kw", "-1.5")),
        "-999 for a missing value": (2, "-999", ("line 5", "power_kw", "-999")),
        "infinity": (2, "inf", ("line 5", "power_kw")),
        "a voltage of 24,000": (4, "24000", ("line 5", "voltage_v", "24000")),
        "a year far in the future": (0, "16/12/2611", ("line 5",)),
        "a time off the grid": (1, "00:03:30", ("line 5", "00:03:30")),
        "a day too late": (0, "17/12/2006", ("line 6", "00:04:00")),
    }
    for name, (place, new, words) in single.items():
        found += _spoilt("UCI's text", {name: value(5, place, new, ";")}, words=words)
    iso = {
        "a zone in one row": (value(5, 0, "2006-12-16 00:03:00+01:00", ","), ("line 5",)),
        "a zone in all rows": (lambda data: data.replace(b":00,", b":00Z,"), ("line 2",)),
        "seconds since 1970": (_as_epoch(1), ("line 2", "s since 1970")),
        "milliseconds since 1970": (_as_epoch(1_000), ("line 2", "ms since 1970")),
        "nanoseconds since 1970": (_as_epoch(10**9), ("line 2", "ns since 1970")),
        "fourteen digits": (
            lambda data: data.replace(b"2006-12-16 ", b"20061216").replace(b":", b""),
            ("line 2", "%Y%m%d%H%M%S"),
        ),
        "twelve hours": (
            lambda data: data.replace(b":00,", b":00 AM,"),
            ("line 2", "datetime"),
        ),
        "a time with a comma": (lambda data: data.replace(b":00,", b":00,5,"), ()),
        "thousands": (value(5, 1, '"1,234.5"', ","), ("line 5", "1,234.5")),
    }
    for name, (spoil, words) in iso.items():
        found += _spoilt("ISO times", {name: spoil}, words=words)
    watts = {
        "without its parameters": {},
        "of another name": {"columns": ["timestamp=at", "power_kw=main [W]"]},
        "in kW, as it is not": {"columns": ["timestamp=at", "power_kw=mains"]},
        "in a unit that is none": {"columns": ["timestamp=at", "power_kw=mains [MW]"]},
        "a zone that is none": WATTS | {"time_zone": "Paris"},
        "a format that does not fit": WATTS | {"layout": ["time=%d.%m.%Y %H:%M"]},
        "a format that is none": WATTS | {"layout": ["time=%Q"]},
        "a separator that does not fit": WATTS | {"layout": ["separator=semicolon"]},
        "a decimal sign of two": WATTS | {"layout": ["decimal=.,"]},
        "names for three columns": {"layout": ["names=timestamp,power_kw,x"]},
        "an entry without a value": WATTS | {"layout": ["time"]},
        "means of no time, of energy": {
            "columns": ["timestamp=at", "power_kw=mains [Wh]"],
            "bin_s": 60,
        },
        "to minutes, of hours": WATTS | {"resolution": "minute"},
    }
    data = CLEAN["mains in W"][1]
    found += [Case("power", name, data, given, "mains in W") for name, given in watts.items()]
    halves = {f"{k}.csv": join(lines(power_iso())[k * 20 : k * 20 + 30]) for k in (0,)}
    halves["1.csv"] = join([lines(power_iso())[0], *lines(power_iso())[20:]])
    found.append(Case("power", "two files that overlap", halves, {}, "ISO times"))
    return found


def _as_epoch(factor):
    def spoil(data):
        rows = lines(data)
        fields = [row.partition(",")[2] for row in rows[1:]]
        times = [str((1_166_227_200 + 60 * k) * factor) for k in range(len(fields))]
        return join([rows[0], *map(",".join, zip(times, fields, strict=True))])

    return spoil


def _tick():
    def times(change):
        def spoil(data):
            rows = [row.split(",") for row in lines(data)]
            return join([",".join(rows[0]), *(",".join([change(r[0]), *r[1:]]) for r in rows[1:])])

        return spoil

    def pandas(form):
        return lambda one: f"{pd.Timestamp(one):{form}}"

    spoilers = {
        "day first, dots": times(pandas("%d.%m.%Y %H:%M:%S.%f")),
        "month first": times(pandas("%m/%d/%Y %H:%M:%S")),
        "two digits of the year": times(pandas("%d/%m/%y %H:%M:%S")),
        "fourteen digits": times(pandas("%Y%m%d%H%M%S")),
        "a month by its name": times(pandas("%d %b %Y %H:%M:%S")),
        "twelve hours": times(pandas("%Y-%m-%d %I:%M:%S %p")),
        "times of day alone": times(pandas("%H:%M:%S.%f")),
        "days alone": times(pandas("%Y-%m-%d")),
        "days of Excel": times(lambda one: "45355.604166667"),
        "a unit nobody has": times(lambda one: str(pd.Timestamp(one).value // 100)),
        "digits lost in a spreadsheet": times(lambda one: "1.70956E+12"),
        "a decimal comma beside ;": lambda data: data.replace(b",", b";").replace(b".", b","),
        "blanks": lambda data: data.replace(b",", b" "),
        "price left out": lambda data: data.replace(b"price", b"nothing"),
        "price twice": lambda data: data.replace(b"size", b"price"),
        "columns of price and side exchanged": lambda data: data.replace(
            b"price,size,side", b"side,size,price"
        ),
        "a line with other separators": at_line(7, lambda row: row.replace(",", ";")),
        "sides of a flag": lambda data: data.replace(b",-1\n", b",False\n").replace(
            b",1\n", b",True\n"
        ),
        "sides of letters": lambda data: data.replace(b",-1\n", b",S\n").replace(b",1\n", b",B\n"),
        "thousands": lambda data: data.replace(b",100.", b',"1,000.'.replace(b'"', b"")),
    }
    found = _spoilt("trades", spoilers)
    single = {
        "a word in place of a price": (1, "n.a", ("line 5", "price", "'n.a'")),
        "a price with its currency": (1, "$100.01", ("line 5", "price", "'$100.01'")),
        "a decimal comma in one price": (1, '"100,01"', ("line 5", "price", "'100,01'")),
        "no time": (0, "", ("line 5", "timestamp")),
        "a word in place of a time": (0, "yesterday", ("line 5", "timestamp", "'yesterday'")),
        "no such day": (0, "2024-02-30 14:30:03", ("line 5", "timestamp", "'2024-02-30 14:30:03'")),
        "midnight as 24:00:00": (0, "2024-03-04 24:00:00", ("line 5", "timestamp")),
        "a zone in one row": (0, "2024-03-04 14:30:03.500Z", ("line 5", "timestamp")),
        "a year far in the future": (0, "2611-03-04 14:30:03", ("line 5", "timestamp")),
        "a time of the future": (0, "2199-03-04 14:30:03", ("line 5", "timestamp")),
        "the beginning of 1970": (0, "1970-01-01 00:00:00", ("line 5",)),
        "a time of the year 0": (0, "0000-00-00 00:00:00", ("line 5", "timestamp")),
        "a side of 2": (3, "2", ("line 5", "side", "'2'")),
        "a side of a word": (3, "maker", ("line 5", "side", "'maker'")),
    }
    for name, (place, new, words) in single.items():
        found += _spoilt("trades", {name: value(5, place, new, ",")}, words=words)
    rules = {
        "half of the prices negative": (1, "-1"),
        "half of the sizes 0": (2, "0"),
        "half of the prices missing": (1, ""),
    }
    for name, (place, new) in rules.items():

        def spoil(data, place=place, new=new):
            for number in range(3, N, 2):
                data = value(number, place, new, ",")(data)
            return data

        found += _spoilt("trades", {name: spoil})
    found += _spoilt(
        "quotes", {"bid and ask exchanged": lambda d: d.replace(b"bid,ask", b"ask,bid")}
    )
    epochs = {
        "s in place of ms": (tick_epoch(1), NAMED | {"layout": [*NAMED["layout"], "time=ms"]}),
        "us in place of s": (tick_epoch(10**6), NAMED | {"layout": [*NAMED["layout"], "time=s"]}),
        "without its names": (tick_epoch(), UTC),
        "names for four columns": (
            tick_epoch(),
            UTC | {"layout": ["names=timestamp,a,price,size"]},
        ),
        "names in another order": (tick_epoch(), UTC | {"layout": ["names=price,timestamp,size"]}),
        "since midnight, no date": (
            tick_epoch(),
            UTC | {"layout": [*NAMED["layout"], "time=s of day"]},
        ),
    }
    found += [
        Case("tick", name, {"AAA.csv": data}, given, "no header")
        for name, (data, given) in epochs.items()
    ]
    data = CLEAN["trades"][1]
    options = {
        "a zone that is none": UTC | {"time_zone": "New York"},
        "a session that is none": UTC | {"session": "9 to 5"},
        "a session of other hours": UTC | {"session": "20:00-21:00"},
        "a day that is none": UTC | {"as_of": "4 March"},
        "a day before all ticks": UTC | {"as_of": "2024-01-01"},
        "another symbol": UTC | {"symbol": "BBB"},
        "an unknown column": UTC | {"columns": ["prise=price"]},
        "a side of many": UTC | {"columns": ["side.1=2"]},
        "a format that does not fit": UTC | {"layout": ["time=%d.%m.%Y %H:%M:%S"]},
        "a format that is none": UTC | {"layout": ["time=now"]},
        "a name of a zone in a format": UTC | {"layout": ["time=%Y-%m-%d %H:%M:%S %Z"]},
    }
    found += [Case("tick", name, data, given, "trades") for name, given in options.items()]
    two = {"AAA.csv": tick_trades(), "BBB.csv": tick_trades()}
    found.append(Case("tick", "two instruments", two, UTC, "trades"))
    other = {"a.csv": tick_trades(), "b.csv": tick_trades()}
    found.append(Case("tick", "two files that overlap", other, UTC, "trades"))
    day = {"AAA_2024-03-01.csv": tick_trades()}
    found.append(Case("tick", "a name of another day", day, UTC, "trades"))
    return found


def _images():
    def arrays(**changed):
        return {"set.npz": npz(**{k: v for k, v in (IMAGES | changed).items() if v is not None})}

    x, y = IMAGES["x_train"], IMAGES["y_train"]
    sets = {
        "other keys": {"set.npz": npz(a=X, b=Y)},
        "no labels": arrays(y_train=None),
        "labels of one image less": arrays(y_train=y[:-1]),
        "labels of fractions": arrays(y_train=y + 0.5),
        "labels one-hot": arrays(y_train=np.eye(3)[y]),
        "labels of one kind": arrays(y_train=y * 0, y_test=IMAGES["y_test"] * 0),
        "a class that the test lacks": arrays(y_train=np.where(y == 2, 7, y)),
        "pixels from 0 to 1": arrays(x_train=x / 255.0),
        "pixels below 0": arrays(x_train=x.astype(int) - 128),
        "pixels above 255": arrays(x_train=x.astype(int) * 3),
        "pixels of fractions": arrays(x_train=x + 0.25),
        "pixels missing": arrays(x_train=np.where(x > 250, np.nan, x)),
        "images in rows": arrays(x_train=x.reshape(len(x), -1)),
        "images that are no squares": arrays(x_train=x[:, :14], x_test=IMAGES["x_test"][:, :14]),
        "images of two sizes": arrays(x_test=np.pad(IMAGES["x_test"], ((0, 0), (1, 1), (1, 1)))),
        "images too small": arrays(x_train=x[:, :8, :8], x_test=IMAGES["x_test"][:, :8, :8]),
        "images in colour": arrays(x_train=RNG.integers(0, 256, (21, 16, 16, 3), np.uint8)),
        "objects": arrays(x_train=np.array([None, 1], dtype=object)),
        "whole numbers of 64 bits": arrays(x_train=x.astype(np.int64)),
        "an array more": arrays(extra=x),
        "no image at all": arrays(x_train=x[:0], y_train=y[:0]),
    }
    found = [Case("images", name, files, {}, "npz") for name, files in sets.items()]
    found += _spoilt("npz", {k: v for k, v in OTHER.items() if k != "an Excel workbook"})
    found += _spoilt("npz", {"packed by gzip": gz})
    cut = {"cut": lambda data: data[:-40], "a byte changed": flipped}
    found += _spoilt("npz", cut, broken=True)
    head = {
        "cut": lambda data: data[:-40],
        "bytes too many": lambda data: data + bytes(9),
        "a number of images that is wrong": lambda data: data[:7] + b"\x63" + data[8:],
        "of eight dimensions": lambda data: data[:3] + b"\x08" + data[4:],
        "gzip, cut": lambda data: gz(data)[:-9],
    }
    found += _spoilt("idx", head, broken=True)
    names = list(IDX)
    without = {name: IDX[name] for name in names if name != names[1]}
    found.append(Case("images", "labels left out", without, {}, "idx"))
    swapped = {**IDX, names[0]: IDX[names[1]], names[1]: IDX[names[0]]}
    found.append(Case("images", "labels and images exchanged", swapped, {}, "idx"))
    found.append(Case("images", "one file alone", {names[0]: IDX[names[0]]}, {}, "idx"))
    rows = {
        "no header": HEADED["no header"],
        "the header twice": HEADED["the header twice"],
        "a mark of UTF-8": TEXTS["a mark of UTF-8"],
        "UTF-16": TEXTS["UTF-16"],
        "semicolons": lambda data: data.replace(b",", b";"),
        "blanks": lambda data: data.replace(b",", b" "),
        "a pixel less": lambda data: join(row.rpartition(",")[0] for row in lines(data)),
        "a pixel of 256": value(5, 3, "256", ","),
        "a pixel of a word": value(5, 3, "dark", ","),
        "a pixel missing": value(5, 3, "", ","),
        "a label missing": value(5, 0, "", ","),
        "no column of labels": lambda data: data.replace(b"label", b"digit"),
        "columns out of order": lambda data: data.replace(b"pixel7,pixel8,", b"pixel8,pixel7,"),
    }
    cut = {"cut in its last line": lambda data: data[:-40]}
    found += _spoilt("CSV of pixels", cut, broken=True)
    return found + _spoilt("CSV of pixels", rows)


# The shared cases ------------------------------------------------------------------------------

EURUSD = {"kind": "quotes", **UTC}
SHARED_GIVEN = {
    "tick_weeks": {"symbol": "BBB", "as_of": "2024-03-13"},
    "tick_ms_then_us.csv": {**UTC, "columns": ["timestamp=time", "size=qty"]},
    "tick_flat_two_instruments": {**UTC, "symbol": "ZZZ"},
    "tick_bool_maker.parquet": {**UTC, "columns": ["side=is_buyer_maker"]},
    "tick_databento_side.csv": {**UTC, "columns": ["timestamp=ts_event"]},
    "tick_dukascopy.csv": EURUSD,
    "tick_histdata.csv": EURUSD,
}


def shared():
    """Return the shared cases, without a word on how to read them unless their README has one."""
    return sorted(path for path in SHARED.glob("*") if path.name != "README.md")


def said(path):
    """Return what is said of a shared case: what was read, or the refusal."""
    reader = {"t": "tick", "p": "power", "m": "images"}[path.name[0]]
    given = SHARED_GIVEN.get(path.name, UTC if reader == "tick" else {})
    try:
        found = read(reader, path, given)
    except ValueError as error:
        return str(error).replace(f"{SHARED}/", "")
    n_rows = len(found.x_train) + len(found.x_test) if reader == "images" else len(found)
    return f"{READ}, {n_rows} rows"


# The table -------------------------------------------------------------------------------------


def outcomes():
    """Return each case with what is said of it."""
    with tempfile.TemporaryDirectory() as folder:
        clean = {}
        for k, (name, (reader, files, given)) in enumerate(CLEAN.items()):
            place = put(Case(reader, name, files), Path(folder, f"clean{k}"))
            clean[name] = read(reader, place, given)
        for k, case in enumerate(cases()):
            place = Path(folder, str(k))
            place.mkdir()
            yield case, outcome(case, place, clean[case.clean])


def table(found):
    """Return the page of all cases, a paragraph for each."""
    parts = [
        "# Bad inputs, and what is said of them",
        "Made by `python tests/bad_inputs.py`; a test says when it is out of date. Each is a small "
        "good file that was spoilt, or given with parameters that do not fit. Of ticks and power "
        f"each refusal goes on with `{WAY[1:]}make look …`.",
    ]
    for clean, (reader, _, given) in CLEAN.items():
        words = f", with `{given}`" if given else ""
        parts += [f"## {reader}: {clean}{words}", "| what was done | what is said |\n|---|---|"]
        rows = [(case, words) for case, words in found if case.clean == clean]
        parts[-1] += "".join(f"\n| {case.name} | {_cell(words)} |" for case, words in rows)
    return "\n\n".join(parts) + "\n"


def _cell(words):
    shown = words.partition(WAY)[0].replace("|", "\\|")
    return shown if words == READ else f"`{shown}`" if "`" not in shown else shown


if __name__ == "__main__":
    TABLE.write_text(table(list(outcomes())), encoding="utf-8")
