"""What a file is by its first bytes, never by its name: packed, a table, or something else."""

import re
import zipfile

ZIP, XZ, PARQUET = b"PK\x03\x04", b"\xfd7zXZ\0", b"PAR1"
PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    XZ: "xz",
    ZIP: "zip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
UTF16 = (b"\xff\xfe", b"\xfe\xff")
BLANK = b"\xef\xbb\xbf \t\r\n"
AS_CSV, AS_PARQUET = "write it as CSV or Parquet", "write its table as Parquet"
FETCH, UNPACK, SAVE = "fetch the file itself", "unpack it, or pack it with gzip", "save it as CSV"
SQL = "give sql:sqlite:///<path>#<table> where a pipeline takes SQL, or write it as Parquet"
OTHERS = {
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", SAVE),
    b"{": ("JSON", AS_CSV),
    b"[": ("JSON", AS_CSV),
    b"<?xml": ("XML", AS_CSV),
    b"<": ("a web page", FETCH),
    b"%PDF": ("a PDF", "fetch the table itself"),
    b"\x89HDF": ("HDF5", AS_PARQUET),
    b"\x89PNG": ("a picture", "fetch the table itself"),
    b"\xff\xd8\xff": ("a picture", "fetch the table itself"),
    b"ARROW1": ("an Arrow (Feather) file", AS_PARQUET),
    b"FEA1": ("an old Feather file", AS_PARQUET),
    b"ORC": ("an ORC file", AS_PARQUET),
    b"Obj\x01": ("an Avro file", AS_PARQUET),
    b"SQLite format 3": ("a SQLite database", SQL),
    b"\x93NUMPY": ("a NumPy array", AS_PARQUET),
    b"\x80\x02": ("a Python pickle", AS_PARQUET),
    b"\x80\x03": ("a Python pickle", AS_PARQUET),
    b"\x80\x04": ("a Python pickle", AS_PARQUET),
    b"\x80\x05": ("a Python pickle", AS_PARQUET),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", UNPACK),
    b"Rar!": ("a RAR archive", UNPACK),
    b"DBN": ("in Databento's own encoding", "ask for CSV, or write it as Parquet"),
    b"]\0\0": ("packed by LZMA, as Dukascopy's own .bi5 files are", AS_CSV),
    b"PK\x05\x06": ("an empty zip archive", "fetch it again"),
}
"""What is known by its first bytes and not read, and what to do then."""


def packing(start: bytes) -> str:
    """Return what a file that begins so is packed by; "" if it is not."""
    return next((kind for sign, kind in PACKED.items() if start.startswith(sign)), "")


def require_text(start: bytes, name: str) -> None:
    """Raise where what is not packed (any more), and no Parquet, is no text either.

    Raises
    ------
    ValueError
        Says what it is instead, and what to do.
    """
    if start[257:262] == b"ustar":
        raise ValueError(f"{name} is a tar archive, not text or Parquet: {UNPACK}")
    if start.startswith(PARQUET):
        raise ValueError(f"{name} is Parquet that was packed once more: unpack it")
    if packing(start):
        raise ValueError(f"{name} is packed twice, or an archive within another: unpack it")
    for sign, (what, remedy) in OTHERS.items():
        if start.startswith(sign) or start.lstrip(BLANK).startswith(sign):
            raise ValueError(f"{name} is {what}, not text or Parquet: {remedy}")
    zeros = 0 if start.startswith(UTF16) else start.count(0)
    if zeros > len(start) // 100 or (zeros and b"\0" in start[:16]):
        raise ValueError(
            f"{name} is neither text nor Parquet, by its first bytes; is it UTF-16? Save it as "
            "text in UTF-8"
        )
    if zeros:
        line = 1 + start[: start.index(0)].count(b"\n")
        raise ValueError(
            f"{name}, line {line} has a byte of zero, which is no text: fetch the file again, or "
            "correct the line"
        )
    if b"\n" not in start and b"\r" not in start:
        raise ValueError(
            f"{name} is no table: its first {len(start):,} bytes are one line without an end. Was "
            "it written to the end? Fetch it again"
        )


def require_header(line: str, name: str) -> None:
    """Raise where the first line of a text is none of a table, and say what to do with it."""
    if not line.strip():
        raise ValueError(f"{name}, line 1 is empty: remove the empty lines before the first row")
    if line.startswith("#"):
        raise ValueError(
            f"{name}, line 1 begins with #, {line[:60]!r}: remove the remarks before the first "
            "row, or the sign, where it is the header"
        )


def require_last_break(end: bytes, name: str) -> None:
    """Raise where a text that no check sum has proved ends within a line.

    Parameters
    ----------
    end : bytes
        The last of the file, 200 bytes or more.
    name : str
    """
    if not end.rstrip(b"\0").endswith((b"\n", b"\r")):
        last = re.split(rb"[\r\n]", end)[-1][-100:].decode("utf-8", "replace")
        raise ValueError(
            f"{name}: the last line {last!r} has no line break, so the file may be cut short. "
            f"Fetch it again, or, if the file is complete, end the line (echo >> {name}) or pack "
            "it (gzip), which keeps a check sum"
        )


def fields_error(
    name: str, line: str, n_expected: int, n_found: str, separator: str, shown: str
) -> ValueError:
    """Return the error about a line with another number of fields."""
    where = f"{name}, line {line}" if line else name
    more = ""
    if separator == " ":
        more = (
            "; or, where date and time are two fields, name all, as "
            'layout=["names=DATE,TIME,..."], columns=["timestamp=DATE+TIME"]'
        )
    elif line in ("1", "2"):
        more = '; or give the separator, as layout=["separator=semicolon"], or all names'
    return ValueError(
        f"{where}: {n_expected} fields separated by {separator!r} were expected, and there are "
        f"{n_found}: {shown[:100]!r}. Correct or remove the line: is it cut short, has it another "
        f"separator, or a field without its quotes{more}?"
    )


def table_in(archive: zipfile.ZipFile, name: str) -> str:
    """Return the name of the one table in a zip archive; notes beside it do not count.

    Raises
    ------
    ValueError
        If there is none, or more than one.
    """
    names = [n for n in archive.namelist() if not n.endswith("/") and "__MACOSX/" not in n]
    if "[Content_Types].xml" in names:
        raise ValueError(f"{name} is an Excel workbook: {SAVE}")
    tables = [n for n in names if n.lower().endswith((".csv", ".tsv", ".parquet"))]
    tables = tables or [n for n in names if n.lower().endswith(".txt")] or names
    if len(tables) != 1:
        held = ", ".join(tables[:5]) + (", …" if len(tables) > 5 else "")
        raise ValueError(
            f"{name} holds {len(tables)} files ({held}), one was expected: unpack it into a folder"
        )
    return tables[0]
