"""Which symbols a source of ticks has, as far as names of files and folders tell."""

from lib.sources import list_files
from lib.tick.files import ENDINGS
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
    found = [] if source.startswith("iceberg:") else list_files(source, deep=True)
    files = [name for name, _ in found if name.lower().endswith(ENDINGS)]
    names = sorted({instrument(name) for name in files} - {""})
    if not names:
        raise ValueError(f"no name of a file in {source} tells its symbol: give symbols")
    return names
