"""How a source of tables is written: what its columns are called, and how its text is to be read.

Two lists say it, the same in all pipelines and short enough for a form. `columns` says what stands
where: ``"power_kw=Aggregate [W]"``. `layout` says how text is written: ``"time=%d.%m.%Y %H:%M"``.
What can be told from a file without doubt needs no entry; what cannot is asked for by name, never
guessed.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " ", "pipe": "|"}
EPOCHS = ("s", "ms", "us", "ns")
OF_DAY = ("s of day", "ms of day", "us of day", "ns of day")
MISSING = ("", "NA", "N/A", "#N/A", "NAN", "NULL", "NONE")
"""Words that stand for no value, in any case."""
N_SHOWN, LONGEST = 20, 40  # names that a message shows, and how much of each
SHAPES = (
    (r"\b\d{4}([-./])\d\d?\1\d\d?", r"%Y\1%m\1%d"),
    (r"\b\d\d?([-./])\d\d?\1\d{4}", r"%d\1%m\1%Y"),
    (r"\b\d\d?([-./])\d\d?\1\d\d\b", r"%d\1%m\1%y"),
    (r"\b\d\d?:\d\d:\d\d", "%H:%M:%S"),
    (r"\b\d\d?:\d\d\b", "%H:%M"),
    (r"(?<=%S)([.,:])\d{1,6}\b", r"\1%f"),
    (r"\b\d{8}\b", "%Y%m%d"),
    (r"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b", "%b"),
    (r"\b[12]\d{3}\b", "%Y"),
    (r"\b\d\d?\b", "%d"),
    (r"\b[AaPp][Mm]\b", "%p"),
    (r"[+-]\d\d:?\d\d$", "%z"),
)
"""Which parts of a time may be which."""


@dataclass(frozen=True)
class Column:
    """What one standard column is in a source.

    Attributes
    ----------
    names : tuple of str
        What the source calls it; two for a date and a time of day apart; none: it is not there,
        or must not be read.
    unit : str
        In which unit its values are; "" for the standard one.
    values : dict of str to str
        What single values mean: ``{"A": "-1", "B": "1"}``.
    """

    names: tuple[str, ...]
    unit: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """How text is written, where it cannot be told from the text.

    Attributes
    ----------
    names : tuple of str
        The columns in order, of a file without a header; () where the first line names them.
    separator, decimal : str
        Single characters; "" to be told from the text.
    time : str
        Format of `datetime.strptime`, or ``s``, ``ms``, ``us``, ``ns`` since 1970, or ``s of day``
        and so on since midnight; "" where times are ISO 8601.
    missing : tuple of str
        What stands for a missing value, besides what always does.
    """

    names: tuple[str, ...] = ()
    separator: str = ""
    decimal: str = ""
    time: str = ""
    missing: tuple[str, ...] = ()


def read_columns(
    entries: Sequence[str], standard: Collection[str], units: Mapping[str, Collection[str]]
) -> dict[str, Column]:
    """Return what `entries` say of columns, by their standard names.

    Parameters
    ----------
    entries : sequence of str
        ``standard=theirs``; ``standard=theirs [unit]``; ``timestamp=DATE+TIME`` for two columns;
        ``standard=`` for one that must not be read; ``standard.A=-1`` for what a value means.
    standard : collection of str
        The names that there are.
    units : mapping of str to collection of str
        The units that a column may have; others have none.

    Raises
    ------
    ValueError
        If an entry has another form, or names an unknown column or unit.

    Examples
    --------
    >>> read_columns(["power_kw=Aggregate [W]"], ["power_kw"], {"power_kw": ["kW", "W"]})
    {'power_kw': Column(names=('Aggregate',), unit='W', values={})}
    """
    found: dict[str, Column] = {}
    for entry in entries:
        key, equals, theirs = (part.strip() for part in entry.partition("="))
        name, dot, value = key.partition(".")
        if name not in standard or not equals:
            raise ValueError(
                f"columns has {entry!r}: give standard=theirs, as {next(iter(standard))}=theirs; "
                f"the standard columns are {', '.join(standard)}"
            )
        before = found.get(name, Column((name,)))
        if dot:
            found[name] = Column(before.names, before.unit, {**before.values, value: theirs})
            continue
        theirs, bracket, unit = theirs.partition("[")
        unit = unit.strip().removesuffix("]")
        if bracket and unit not in units.get(name, ()):
            known = ", ".join(units.get(name, ())) or "none"
            raise ValueError(f"columns has {entry!r}: {unit!r} is no unit of {name}, give {known}")
        names = tuple(part.strip() for part in theirs.split("+") if part.strip())
        found[name] = Column(names, unit, before.values)
    return found


def read_layout(entries: Sequence[str]) -> Layout:
    """Return what `entries` say of text.

    Parameters
    ----------
    entries : sequence of str
        ``names=a,b,c``, ``separator=semicolon`` (comma, tab, space, pipe, or the character),
        ``decimal=,``, ``time=%d.%m.%Y %H:%M:%S.%f`` or ``time=ms``, ``missing=NULL,-``.

    Raises
    ------
    ValueError
        If an entry has another form.

    Examples
    --------
    >>> read_layout(["names=time,price,size", "time=s"]).names
    ('time', 'price', 'size')
    """
    found: dict[str, str | tuple[str, ...]] = {}
    for entry in entries:
        key, _, value = (part.strip() for part in entry.partition("="))
        if key not in Layout.__dataclass_fields__ or not value:
            raise ValueError(
                f"layout has {entry!r}: give names=, separator=, decimal=, time= or missing= and a "
                "value, as time=%d.%m.%Y %H:%M:%S or separator=semicolon"
            )
        if key in ("names", "missing"):
            found[key] = tuple(part.strip() for part in value.split(","))
        elif key == "time":
            found[key] = _time_format(value, entry)
        else:
            found[key] = _character(SEPARATORS.get(value, value), entry)
    return Layout(**found)


def _time_format(value: str, entry: str) -> str:
    if value not in (*EPOCHS, *OF_DAY) and "%" not in value:
        raise ValueError(
            f"layout has {entry!r}: give a format as %d.%m.%Y %H:%M:%S, or one of "
            f"{', '.join(EPOCHS)} for numbers since 1970, with ' of day' for those since midnight"
        )
    return value


def _character(value: str, entry: str) -> str:
    if len(value) != 1:
        raise ValueError(
            f"layout has {entry!r}: give one character, or of separators one of "
            f"{', '.join(SEPARATORS)}"
        )
    return value


def time_formats(value: str) -> list[str]:
    """Return the formats that a time may have: two where day and month may change places.

    Examples
    --------
    >>> time_formats("04.03.2024 14:30"), time_formats("12/31/2024")
    (['%d.%m.%Y %H:%M', '%m.%d.%Y %H:%M'], ['%m/%d/%Y'])
    """
    form = value.strip()
    for pattern, directive in SHAPES:
        form = re.sub(pattern, directive, form)
    form = form.replace("%H", "%I") if "%p" in form else form
    is_one = "%b" in form or form.startswith("%Y")
    forms = [form] if is_one else [form, form.translate(str.maketrans("dm", "md"))]
    return [one for one in dict.fromkeys(forms) if "%" in one and _fits(value.strip(), one)]


def _fits(value: str, form: str) -> bool:
    try:
        return bool(datetime.strptime(value, form))
    except (ValueError, re.error):  # of another form; a part that stands there twice
        return False


def shown(names: Sequence[str]) -> str:
    """Return names for a message, of a file that may be no table at all."""
    short = [repr(n if len(n) <= LONGEST else f"{n[:LONGEST]}...") for n in names[:N_SHOWN]]
    more = [f"and {len(names) - N_SHOWN} more"] if len(names) > N_SHOWN else []
    return ", ".join([*short, *more])


def to_zone(name: str, key: str) -> ZoneInfo:
    """Return the zone `key`; an error calls the option `name`."""
    try:
        return ZoneInfo(key)
    except (KeyError, ValueError, OSError):  # unknown, not a key, a folder of zones
        raise ValueError(
            f"{name} is {key!r}: give the IANA name of a zone, as America/New_York or UTC"
        ) from None
