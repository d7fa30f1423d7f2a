"""The text or Parquet in a file that may be packed; what is neither is refused by what it is."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from io import BytesIO

from lib.formats import UTF16, packing, require_text, table_in

import pyarrow as arrow

UNPACK = {
    "gzip": gzip.decompress,
    "bz2": lambda data: bz2.open(BytesIO(data)).read(),
    "xz": lzma.decompress,
}
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, OSError, RuntimeError)


def unpack(data: bytes, name: str) -> tuple[bytes, bool]:
    """Return what is in a packed file, and whether there was a check sum, which was right.

    Raises
    ------
    ValueError
        If the file is damaged, or holds no single table.
    """
    kind = packing(data)
    if not kind:
        return data, False
    try:
        if kind == "zip":
            with zipfile.ZipFile(BytesIO(data)) as archive:
                return archive.read(table_in(archive, name)), True
        if kind in UNPACK:
            return UNPACK[kind](data), True
        with arrow.CompressedInputStream(arrow.BufferReader(data), kind) as stream:
            return stream.read(), True
    except DAMAGED as error:
        if "password" in str(error):
            raise ValueError(f"{name} is protected by a password: unpack it") from None
        raise ValueError(f"{name} is cut short or damaged ({error}): fetch it again") from error


def as_utf8(data: bytes, name: str) -> bytes:
    """Return text as UTF-8; refuse what is no text by what it is.

    Raises
    ------
    ValueError
        If the bytes are those of another format, or of none.
    """
    require_text(data[: 1 << 16], name)
    if data.startswith(UTF16):
        try:
            return data.decode("utf-16").encode()
        except UnicodeDecodeError:
            raise ValueError(f"{name} is cut short in its UTF-16 text: fetch it again") from None
    if b"\n" not in data:
        return data.replace(b"\r", b"\n")
    return data
