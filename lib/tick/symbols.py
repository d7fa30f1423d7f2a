"""Which symbols a source of ticks has, as far as names of files and folders tell."""

from lib.tick.files import find_tick_files
from lib.tick.names import instrument

SAMPLE = ["AAA", "BBB", "CCC"]


def list_symbols(source: str) -> list[str]:
    """Return the symbols of a source, in order; three made-up ones of ``"sample"``.

    Raises
    ------
    ValueError
        If no name tells one, as where the files have a column of symbols.
    """
    if source == "sample":
        return SAMPLE
    found = () if source.startswith("iceberg:") else find_tick_files(source, "")
    names = sorted({instrument(file.name) for file in found} - {""})
    if not names:
        raise ValueError(f"no name of a file in {source} tells its symbol: give symbols")
    return names
