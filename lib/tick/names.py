"""Which instrument a file without a column of symbols is of, by the names of files and folders.

What is left of a name without dates, numbers and words that say nothing of the market is its
instrument: ``BTCUSDT`` of ``BTCUSDT-trades-2024-03.csv``, nothing of ``2024-03-04.csv``. Where this
leaves a doubt, files are refused: two instruments must never become one series.
"""

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from lib.sources import TABLES, list_files
from lib.tick.read import TickFile

ENDING = re.compile(r"(\.(csv|txt|tsv|parquet|pq|gz|zip|xz|bz2|zst))+$", re.IGNORECASE)
UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
DATE = re.compile(
    r"(?<!\d)\d{4}[-_.]?\d\d[-_.]?\d\d([T_]\d[\d:-]*Z?)?|\d{6,}|(19|20)\d\d([-_.]\d\d)?(?!\d)"
)
COMMON = frozenset(
    "tick ticks trade trades quote quotes tob bbo level data dataset file files part parts chunk"
    " batch block piece split shard page row rows table symbol symbols ticker instrument date day"
    " days daily week weeks weekly month months monthly year years yearly hour hourly hours minute"
    " min time times utc gmt est edt from to of and the all full raw clean final copy new old again"
    " early late earlier later before after first second third fourth fifth last next one two three"
    " four five start begin middle end am pm morning afternoon evening night export exports output"
    " out in input result results download downloads sample samples test train valid history hist"
    " historical log logs set sets sorted unsorted merged jan january feb february mar march apr"
    " april may jun june jul july aug august sep sept september oct october nov november dec"
    " december mon monday tue tuesday wed wednesday thu thursday fri friday sat saturday sun sunday"
    " snappy parquet csv".split()
)  # fmt: skip
SAMPLE = ["AAA", "BBB", "CCC"]
NO_SYMBOL = "the entry symbol= of columns says that all files are of one instrument"


def instrument(name: str, symbol: str = "") -> str:
    """Return what the name of a file says of the instrument, "" for nothing.

    Parameters
    ----------
    name : str
        With the folders that are not the same for all files.
    symbol : str
        The one wanted: where it is a number, numbers as long are instruments too.

    Examples
    --------
    >>> instrument("AAA_2024-03-04.csv"), instrument("week1.csv.gz")
    ('AAA', '')
    >>> instrument("005930.csv", symbol="000660")
    '005930'
    """
    name = UUID.sub("", ENDING.sub("", name))
    words = re.split(r"[\W_]+", name if symbol.isdigit() else DATE.sub(" ", name))
    return ".".join(word for word in words if _says_something(word, symbol))


def _says_something(word: str, symbol: str) -> bool:
    if word.isdigit():
        return symbol.isdigit() and len(word) == len(symbol)
    if not word or word[0].isdigit() or re.fullmatch(r"(?=.*\d)[0-9a-f]{8,}", word.lower()):
        return False  # 2024Q1, 5min, 20240304T143000Z; the sum of a content
    stem = word.rstrip("0123456789").lower()
    is_letter = len(stem) < 2 and (word != stem.upper() or stem == "")
    return not is_letter and stem not in COMMON


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
    files = [name for name, _ in found if TABLES.search(name)]
    names = sorted({instrument(name) for name in files} - {""})
    if not names:
        raise ValueError(f"no name of a file in {source} tells its symbol: give symbols")
    return names


def of_symbol(
    files: list[TickFile], symbol: str, source: str, has_symbols: Callable[[TickFile], bool]
) -> list[TickFile]:
    """Return the files that are of `symbol`, or have a column that tells it.

    Parameters
    ----------
    files : list of TickFile
    symbol : str
        "" for the only one there is.
    source : str
        As it was asked for: a folder in it may be called as the symbol.
    has_symbols : callable
        Whether a file has a column of symbols; asked of one file of each instrument.

    Raises
    ------
    ValueError
        If files without such a column are of several instruments by their names, or their names do
        not say that they are of `symbol`.
    """
    groups: dict[str, list[TickFile]] = {}
    for file in files:
        groups.setdefault(instrument(file.name, symbol).casefold(), []).append(file)
    if not symbol:
        others = [name for name in groups if name]
        others = [name for name in others if len(others) > 1 and not has_symbols(groups[name][0])]
        if len(others) > 1:
            raise ValueError(
                f"{_some(groups, others)} have no column of symbols, and by their names they are "
                f"of several instruments: give symbol={instrument(groups[others[0]][0].name)!r} "
                f"for one; or {NO_SYMBOL}"
            )
        return files
    named = [name for name in groups if name and is_of(groups[name][0].name, symbol)]
    if not named and _is_folder(source, symbol):
        return files
    if len(named) > 1:
        exact = [
            n for n in named if _plain(n) == _plain(symbol) or _is_folder(groups[n][0].name, symbol)
        ]
        if not exact and not any(has_symbols(groups[name][0]) for name in named):
            raise ValueError(
                f"symbol {symbol!r} stands in the names of several instruments, "
                f"{_some(groups, named)}: give more of one name; or {NO_SYMBOL}"
            )
        named = exact or named
    return _without_others(groups, named, symbol, has_symbols)


def _without_others(
    groups: dict[str, list[TickFile]],
    named: list[str],
    symbol: str,
    has_symbols: Callable[[TickFile], bool],
) -> list[TickFile]:
    """Return the files of the groups named and of those that have a column of symbols."""
    rest = [name for name in groups if name not in named]
    if not named and rest == [""]:
        return groups[""]  # files of one instrument, whose name stands nowhere
    others = [name for name in rest if not has_symbols(groups[name][0])]
    if others == rest and not named:
        raise ValueError(
            f"there is no file of symbol {symbol!r}: {_some(groups, others)} have no column of "
            f"symbols, and it stands in no name: correct symbol; or {NO_SYMBOL}"
        )
    if "" in others:
        raise ValueError(
            f"{groups[''][0].name} has no column of symbols and no name of an instrument, as the "
            f"other files have: whether it is of {symbol!r} cannot be told. Name it as those, or "
            f"leave it out; or {NO_SYMBOL}"
        )
    return [file for name, found in groups.items() if name not in others for file in found]


def is_of(file: str, symbol: str) -> bool:
    """Whether `symbol` is a word of a file's name, or all that the name says."""
    words = [re.escape(word) for word in re.split(r"[\W_]+", symbol) if word]
    word = r"(?<![^\W_])" + r"[\W_]*".join(words) + r"(?![^\W_])"
    return _plain(instrument(file, symbol)) == _plain(symbol) or bool(
        re.search(word, file, re.IGNORECASE)
    )


def _is_folder(path: str, symbol: str) -> bool:
    """Whether a folder of a path is called as the symbol, or ``symbol=`` that."""
    parts = PurePosixPath(path).parts
    return any(_plain(part.rpartition("=")[2]) == _plain(symbol) for part in parts)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _some(groups: dict[str, list[TickFile]], names: list[str]) -> str:
    """Name one file of each of the first groups."""
    return ", ".join(sorted(groups[name][0].name for name in names)[:5])
