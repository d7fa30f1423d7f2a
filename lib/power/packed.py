"""What the first bytes of a file say it is, and the text in a packed one."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from io import BytesIO

PARQUET, ZIP = b"PAR1", b"PK\x03\x04"
PACKED = {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ\x00": lzma}
OTHERS = {
    b"\x89HDF": (
        "HDF5",
        "write its table as Parquet, in pandas with read_hdf and to_parquet",
    ),
    b"SQLite format 3": ("a SQLite database", "give sql:sqlite:///<path>#<table>"),
    b"ARROW1": ("Feather", "write it as Parquet, in pandas with read_feather and to_parquet"),
    b"\x28\xb5\x2f\xfd": ("packed by zstd", "unpack it, or pack it with gzip"),
    b"7z\xbc\xaf\x27\x1c": ("packed by 7-Zip", "unpack it, or pack it as .zip"),
    b"Rar!": ("packed by RAR", "unpack it, or pack it as .zip"),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", "save its sheet as CSV"),
    b"{": ("JSON", "write it as CSV, in pandas with read_json and to_csv"),
    b"[": ("JSON", "write it as CSV, in pandas with read_json and to_csv"),
    b"<": ("HTML or XML", "a page of the server in place of the file? Fetch it again as text"),
}
"""How files begin that are complete and no table: what they are, and what to do."""
UTF16 = (b"\xff\xfe", b"\xfe\xff")


def unpack(data: bytes, name: str) -> tuple[bytes, bool]:
    """Return what is in a packed file, and whether there was a check sum, which was right.

    Raises
    ------
    ValueError
        If the file is damaged, or holds no single text.
    """
    try:
        if data.startswith(ZIP):
            return _unzip(data, name), True
        for start, module in PACKED.items():
            if data.startswith(start):
                return module.decompress(data), True
    except _NoText:
        raise
    except (
        EOFError,
        zlib.error,
        lzma.LZMAError,
        zipfile.BadZipFile,
        OSError,
        RuntimeError,
        NotImplementedError,
        ValueError,
    ) as error:
        if "password" in str(error):
            raise ValueError(f"{name} is protected by a password: unpack it") from None
        raise ValueError(f"{name} is cut short or damaged ({error}): fetch it again") from error
    return data, False


def as_utf8(data: bytes, name: str) -> bytes:
    """Return text as UTF-8; refuse what is no text by what it is.

    Raises
    ------
    ValueError
        If the bytes are those of another format, or of none.
    """
    begin = data[:64].lstrip(b"\xef\xbb\xbf \r\n")
    for start, (what, remedy) in OTHERS.items():
        if begin.startswith(start):
            raise ValueError(f"{name} is {what}, not text or Parquet: {remedy}")
    if data.startswith(UTF16):
        try:
            return data.decode("utf-16").encode()
        except UnicodeDecodeError:
            raise ValueError(f"{name} is cut short in its UTF-16 text: fetch it again") from None
    if b"\x00" in data[:4096]:
        raise ValueError(f"{name} is neither text nor Parquet: write it as CSV in UTF-8")
    if b"\n" not in data:
        return data.replace(b"\r", b"\n")
    return data


class _NoText(ValueError):
    pass


def _unzip(data: bytes, name: str) -> bytes:
    """Return the one text file in a zip archive; its check sum is checked on the way."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        files = [m for m in archive.namelist() if not m.endswith("/")]
        if "[Content_Types].xml" in files:
            raise _NoText(f"{name} is an Excel workbook: save its sheet as CSV")
        members = [m for m in files if m.lower().endswith((".txt", ".csv", ".tsv", ".parquet"))]
        members = [m for m in members if not m.startswith("__MACOSX/")]
        if len(members) != 1:
            raise _NoText(
                f"{name} must hold one .txt or .csv file and holds {(members or files)[:20]}"
            )
        return archive.read(members[0])
