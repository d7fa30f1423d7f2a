"""How a source of tables is written: what its columns are called, and how its text is to be read.

Two lists say it, the same in all pipelines and short enough for a form. `columns` says what stands
where: ``"power_kw=Aggregate [W]"``. `layout` says how text is written: ``"time=%d.%m.%Y %H:%M"``.
What can be told from a file without doubt needs no entry; what cannot is asked for by name, never
guessed.
"""

import csv
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " ", "pipe": "|"}
EPOCHS = ("s", "ms", "us", "ns")
OF_DAY = ("s of day", "ms of day", "us of day", "ns of day")
MISSING = ("", "NA", "N/A", "#N/A", "NAN", "NULL", "NONE")
"""Words that stand for no value, in any case."""
N_SHOWN, LONGEST = 20, 40  # names that a message shows, and how much of each
SHAPES = (
    (r"(:\d\d(?:\.\d+)? ?)[+-]\d\d:?\d\d$", r"\1%z"),
    (r"\b\d{4}([-./])\d\d?\1\d\d?", r"%Y\1%m\1%d"),
    (r"\b\d\d?([-./])\d\d?\1\d{4}", r"%d\1%m\1%Y"),
    (r"\b\d\d?([-./])\d\d?\1\d\d\b", r"%d\1%m\1%y"),
    (r"(?<!\d)\d\d?:\d\d:\d\d", "%H:%M:%S"),
    (r"(?<!\d)\d\d?:\d\d\b", "%H:%M"),
    (r"(?<=%S)([.,:])\d{1,9}\b", r"\1%f"),
    (r"\b\d{8}\b", "%Y%m%d"),
    (r"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b", "%b"),
    (r"\b[12]\d{3}\b", "%Y"),
    (r"\b\d\d?\b", "%d"),
    (r"\b[AaPp][Mm]\b", "%p"),
)
"""Which parts of a time may be which."""
STATED = re.compile("%[A-Za-z]|UTC|GMT")
"""What may stand in a format besides digits and signs: another word is a month, or a zone."""
TOLD = ";\t|,"
"""Separators that the first line can tell; a blank where it has none of them."""
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
EXCEL = re.compile(rb'(?:\xef\xbb\xbf)?"?sep=(.)"?[,;\t\r\n]*')
"""The line by which Excel is told the separator."""
ISO = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)?)?")
MOST_NOTES, N_LIKE = 100, 8  # lines in which a header is sought, and rows that have to follow it
UNITS_OF_LENGTH = {10: "s", 13: "ms", 16: "us", 19: "ns"}


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
        What stands for a missing value, besides what always does; a number however it is written.
    skip : int
        How many lines stand before the header, or the first row: notes about the table.
    """

    names: tuple[str, ...] = ()
    separator: str = ""
    decimal: str = ""
    time: str = ""
    missing: tuple[str, ...] = ()
    skip: int = 0


def read_columns(
    entries: Sequence[str],
    standard: Collection[str],
    units: Mapping[str, Collection[str]],
    needed: Collection[str] = (),
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
    needed : collection of str
        Columns that must be there; where there are some, each is one of the source, or two for the
        timestamp.

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
        is_time = name == "timestamp"
        parts = theirs.split("+") if is_time else [theirs]  # a meter may call its column A+
        names = tuple(part.strip() for part in parts if part.strip())
        found[name] = Column(names, unit, before.values)
        if needed and (len(names) > 2 or (name in needed and not names)):
            raise ValueError(
                f"columns has {entry!r}: give the name of one column"
                + ", or of two, as timestamp=DATE+TIME" * is_time
            )
    return found


def read_layout(entries: Sequence[str]) -> Layout:
    """Return what `entries` say of text.

    Parameters
    ----------
    entries : sequence of str
        ``names=a,b,c``, ``separator=semicolon`` (comma, tab, space, pipe, or the character),
        ``decimal=,``, ``time=%d.%m.%Y %H:%M:%S.%f`` or ``time=ms``, ``missing=NULL,-``,
        ``skip=5``.

    Raises
    ------
    ValueError
        If an entry has another form.

    Examples
    --------
    >>> read_layout(["names=time,price,size", "time=s"]).names
    ('time', 'price', 'size')
    """
    found: dict[str, str | int | tuple[str, ...]] = {}
    for entry in entries:
        key, _, value = (part.strip() for part in entry.partition("="))
        if key not in Layout.__dataclass_fields__ or not value:
            raise ValueError(
                f"layout has {entry!r}: give names=, separator=, decimal=, time=, missing= or "
                "skip= and a value, as time=%d.%m.%Y %H:%M:%S or separator=semicolon"
            )
        if key in ("names", "missing"):
            before = found.get(key, ()) if key == "missing" else ()
            found[key] = (*before, *(part.strip() for part in value.split(",")))
        elif key == "time":
            found[key] = _time_format(value, entry)
        elif key == "skip":
            if not re.fullmatch(r"\d{1,3}", value):
                raise ValueError(
                    f"layout has {entry!r}: give the number of lines before the header, 0 to 999"
                )
            found[key] = int(value)
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
    return [one for one in dict.fromkeys(forms) if _fits(value.strip(), one)]


def _fits(value: str, form: str) -> bool:
    if "%" not in form or re.search(r"[^\W\dTZD]", STATED.sub("", form)):
        return False
    try:
        return bool(datetime.strptime(re.sub(r"([.,:]\d{6})\d{1,3}\b", r"\1", value), form))
    except (ValueError, re.error):  # of another form; a part that stands there twice
        return False


class Header(NamedTuple):
    """What the first line of a text says, and how much is before its first row."""

    separator: str
    names: list[str]
    n_lines: int
    n_bytes: int
    is_there: bool

    @property
    def facts(self) -> dict[str, str]:
        """What was recognised, for people."""
        header = f"line {self.n_lines}" if self.is_there else "none: layout names the columns"
        return {"format": "text", "separator": repr(self.separator), "header": header}


def read_header(
    name: str, start: bytes, layout: Layout, wanted: Collection[str], standard: Sequence[str]
) -> Header:
    """Return what the first line of a text says of separator and columns.

    Nothing is told from it that another reading of it could deny; then the layout is asked for.

    Parameters
    ----------
    name : str
        Of the file, for messages.
    start : bytes
        How it begins, in UTF-8.
    layout : Layout
    wanted : collection of str
        Names that must be there, as far as that is known.
    standard : sequence of str
        The columns that must be there, by our names, for a message.

    Raises
    ------
    ValueError
        If the line cannot be read, or has no header and no names are given.
    """
    n_lines, given = layout.skip, list(layout.names)
    lines = start.splitlines(keepends=True)
    if n_lines >= len(lines):
        raise ValueError(f"{name} has {len(lines)} lines, and layout skips {n_lines}: give fewer")
    excel = EXCEL.fullmatch(lines[n_lines])
    n_lines += bool(excel)
    lines += [b""]
    n_bytes = sum(map(len, lines[:n_lines]))
    where = f"{name}, line {1 + n_lines}"
    try:
        line = lines[n_lines].decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        line = lines[n_lines].decode("latin-1").rstrip("\r\n")
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", line):
        raise ValueError(
            f"{name} is neither Parquet nor text in UTF-8, by its first line: save it as one"
        )
    sought = {one.casefold() for one in wanted}
    n_notes = 0 if given or layout.skip else _notes(lines[n_lines:], layout.separator, sought)
    if n_notes:
        header = lines[n_lines + n_notes].decode("utf-8", "replace").strip()
        raise ValueError(
            f"{where} is {line[:60]!r}, and the header seems to be {header[:100]!r} in line "
            f'{1 + n_lines + n_notes}: give layout=["skip={n_lines + n_notes}"]'
        )
    if not line.strip() or line.startswith("#"):
        raise ValueError(
            f"{where} is {line[:60]!r}: remove the empty lines and remarks before the first row, "
            "or the sign #, where it is the header"
        )
    signs = layout.separator or (excel[1].decode("latin-1") if excel else "")
    signs = signs or "".join(sign for sign in TOLD if sign in line) or " "
    rows = {sign: fields_of(line, sign) for sign in signs}
    folded = {sign: [field.casefold() for field in row] for sign, row in rows.items()}
    if given:
        fits = [sign for sign, row in rows.items() if len(row) == len(given)]
    else:
        fits = [sign for sign, row in folded.items() if sought and sought <= {*row}]
    sign = fits[0] if fits else max(rows, key=lambda one: len(rows[one]))
    if not given and not fits and any(NUMBER.fullmatch(field) for field in rows[sign]):
        raise _no_header(where, line, len(rows[sign]), standard)
    has_header = not given or folded[sign] == [one.casefold() for one in given]
    if not has_header and not re.search(r"\d", line):
        raise ValueError(
            f"{where} seems to give names, {line[:100]!r}, and layout gives others: leave names= "
            "out, and say which column is which with columns, as "
            f'columns=["{standard[-1]}=..."]'
        )
    n_bytes += len(lines[n_lines]) if has_header else 0
    return Header(sign, given or rows[sign], n_lines + has_header, n_bytes, has_header)


def _notes(lines: Sequence[bytes], separator: str, sought: set[str]) -> int:
    """Return how many lines of notes seem to stand before the header; 0 where none do.

    The header is the first line of two fields or more after which all lines have as many, if none
    of its fields begins as a number does.
    """
    texts = [line.decode("utf-8", "replace").strip("\ufeff\r\n") for line in lines[:MOST_NOTES]]
    for k, text in enumerate(texts[:-N_LIKE]):
        sign = separator or next((one for one in TOLD if one in text), "")
        if not sign:
            continue
        header, *rows = (fields_of(one, sign) for one in texts[k : k + 1 + N_LIKE])
        if k == 0 and sought and sought <= {field.casefold() for field in header}:
            return 0
        if len(header) > 1 and all(len(row) == len(header) for row in rows):
            return k * all(field and not re.match(r"[\d#]", field) for field in header)
    return 0


def fields_of(line: str, separator: str) -> list[str]:
    """Return the fields of one line, quoted or not, without blanks around them."""
    try:
        rows = csv.reader([line], delimiter=separator, skipinitialspace=separator != " ")
        return [field.strip() for field in next(rows, [])]
    except csv.Error:
        return line.split(separator)


def _no_header(where: str, line: str, n_columns: int, standard: Sequence[str]) -> ValueError:
    names = ",".join([*standard, *(f"x{k}" for k in range(n_columns))][:n_columns][:N_SHOWN])
    names += ",..." * (n_columns > N_SHOWN)
    return ValueError(
        f"{where} has values and not names: {line[:100]!r}. If the file has no header, give "
        f"the names of its {n_columns} columns in their order, any for those that are not needed, "
        f'as layout=["names={names}"]; if it has one, remove what stands before it, or say with '
        "columns what is called how"
    )


def unreadable(
    name: str, error: str, separator: str, n_columns: int, n_before: int = 0
) -> ValueError:
    """Return the error about a text that Arrow cannot read, which has skipped `n_before` lines."""
    row = re.search(r"(?:Row #(\d+): )?Expected \d+ columns, got (\d+): (.*)", error, re.DOTALL)
    if not row:
        return ValueError(
            f"{name} cannot be read as text separated by {separator!r} ({error[:150]}): give the "
            'separator, as layout=["separator=semicolon"], or correct the line'
        )
    line = int(row[1]) + n_before if row[1] else 0
    more = ""
    if separator == " ":
        more = (
            "; or, where date and time are two fields, name all, as "
            'layout=["names=DATE,TIME,..."], columns=["timestamp=DATE+TIME"]'
        )
    elif line in (1, 2):
        more = '; or give the separator, as layout=["separator=semicolon"], or all names'
    return ValueError(
        f"{name}{f', line {line}' * bool(line)}: {n_columns} fields separated by {separator!r} "
        f"were expected, and there are {row[2]}: {row[3][:100]!r}. Correct or remove the line: is "
        f"it cut short, has it another separator, or a field without its quotes{more}?"
    )


def numbers_among(words: Collection[str]) -> list[float]:
    """Return those of some words that are numbers, which a value may be that is written otherwise.

    Examples
    --------
    >>> numbers_among(["-", "-999", "NULL"])
    [-999.0]
    """
    return [float(word) for word in words if NUMBER.fullmatch(word) and "," not in word]


# What helps with a value -----------------------------------------------------------------------


def number_hint(text: str, decimal: str) -> str:
    """Return what may help with a value that is no number."""
    other = "," if decimal == "." else "."
    if re.fullmatch(r"\s*-?\d{1,3}([,. '\xa0\u202f]\d{3})+([.,]\d+)?\s*", text):
        return "write nothing between thousands" + (
            f", or, if that is its decimal sign, say decimal={other} in layout"
            if re.fullmatch(rf"\s*-?\d+\{other}\d+\s*", text)
            else ""
        )
    if re.fullmatch(rf"\s*-?\d*\{other}\d+\s*", text):
        return f'if its numbers are written so give layout=["decimal={other}"]'
    if re.match(r"\s*[^\w\s]{0,2}\d", text):
        return "write the number alone; its unit stands in columns"
    return f'if it stands for a missing value give layout=["missing={text[:LONGEST]}"]'


def time_hint(value: str, layout: str = "", *, is_first: bool) -> str:
    """Return what may help with a value, or a date and a time, that is no time as expected.

    Parameters
    ----------
    value : str
    layout : str
        The format that is given; "" for none.
    is_first : bool
        Whether it is the first one: those before any other have been read.
    """
    value = value.strip()
    if not re.search(r"\d", value):
        return "correct or remove the line: is it a second header, or one of units?"
    if re.search(r"(?:^|[ T])24:", value):
        return "write midnight as 00:00:00 of the next day"
    is_iso = ISO.fullmatch(value)
    if is_iso and layout:
        return "leave time= out of layout: it is ISO 8601, which needs no word"
    if is_iso and time_formats(value[:19]):
        return "others have a zone and this has none, or they have none: give all times with one"
    if not is_first:
        forms = time_formats(value)
        if len(forms) == 1 and forms[0].startswith("%m"):
            return (
                "the month seems to come first, and those before it may have been misread: give "
                f'layout=["time={forms[0]}"]'
            )
        return "correct or remove the line: those before it are right"
    if re.match(r"\d\d?:\d\d", value):
        return (
            'it has no date: give the column of dates too, as columns=["timestamp=DATE+TIME"], '
            'or, with the date in the file\'s name, layout=["time=%H:%M:%S.%f"]'
        )
    if re.fullmatch(r"[\d.,]+[Ee]\+?\d+", value):
        return "it has lost its last digits in a spreadsheet: export it anew, as text"
    if re.fullmatch(r"[2-7]\d{4}[.,]\d+", value):
        return "of days as Excel counts them export the text, yyyy-mm-dd hh:mm:ss"
    number = re.fullmatch(r"(\d{10,19})(?:\.\d+)?", value)
    unit = UNITS_OF_LENGTH.get(len(number[1])) if number else None
    if unit:
        zone = 'time_zone="...", as Europe/Paris'
        return f'for {unit} since 1970 give layout=["time={unit}"] and {zone}'
    if re.search(r"\b(?!UTC|GMT)([A-Z]{3,4}|[A-Z]\w+/\w+)$", value):
        return "names of zones are not read: leave it out of the data, and give time_zone"
    formats = ["%Y%m%d%H%M%S"] if number else time_formats(value) or ["%d.%m.%Y %H:%M:%S"]
    return "give its format, as " + " or ".join(f'layout=["time={one}"]' for one in formats)


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
