"""Values of ticks as numbers and signs. What cannot be one is an error with its place.

Nothing is cast that only looks like a number to a machine: not a truth value, not a date.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lib.dialect import MISSING, number_hint, numbers_among

import polars as pl

UNITS = {"cents": 100, "1/100": 100, "1/1000": 1_000, "1/10000": 10_000, "1/100000": 100_000}
UNITS |= {"1/1000000": 1_000_000, "1/100000000": 10**8, "1/1000000000": 10**9}
"""How many of a unit make one."""
SIDES = (-1.0, 0.0, 1.0)
KNOWN_SIDES = {"b": 1, "buy": 1, "n": 0, "a": -1, "s": -1, "sell": -1}
IN_THOUSANDS = r"^[1-9]\d{0,2}(\.\d{3})+$"
OF_MAKERS = {"true": -1, "false": 1}
"""What words mean most often: an example in a message, never taken for granted."""


@dataclass(frozen=True)
class Place:
    """Where a batch lies, to name its rows."""

    name: str
    row: str
    first_row: int

    def at(self, position: int) -> str:
        """Name the row at `position` of the batch."""
        return f"{self.name}, {self.row} {self.first_row + position}"

    def wrong(self, position: int, column: str, value: object, expected: str) -> ValueError:
        """Return the error about the value at `position` of the batch."""
        return ValueError(f"{self.at(position)}: {column} is {value!r}; {expected}")

    def require(self, right: pl.Series, column: str, values: pl.Series, expected: str) -> None:
        """Raise the error about the first of `values` that is not right."""
        if not right.all():
            at = int((~right).arg_true()[0])
            value = values[at]
            shown = str(value) if values.dtype.is_temporal() and value is not None else value
            raise self.wrong(at, column, shown, expected)


def called(standard: str, theirs: str, plain: str = "") -> str:
    """Return what a message calls a column that the data call `theirs`."""
    return standard if theirs == (plain or standard) else f"{standard} ({theirs})"


def as_text(column: pl.Series, missing: Collection[str]) -> pl.Series:
    """Return a column as text without blanks around it; what stands for no value is null."""
    if column.dtype.is_float() and (column.is_nan() | (column % 1 == 0)).all():
        column = column.fill_nan(None).cast(pl.Int64)  # whole numbers, where some are missing
    text = column.cast(pl.String).str.strip_chars()
    absent = text.str.to_uppercase().is_in(MISSING) | text.is_in(list(missing))
    return text.set(absent, None)


def to_numbers(
    column: pl.Series, place: Place, name: str, decimal: str, missing: Collection[str] = ()
) -> pl.Series:
    """Return a column as Float64; nothing, blanks, or what stands for no value, is null."""
    if not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Null)):
        raise ValueError(f"{place.name}: {name} is of type {column.dtype}; numbers were expected")
    if decimal == "," and column.dtype == pl.String:
        with_point = column.str.contains(".", literal=True).fill_null(value=False)
        expected = "a number with a decimal comma was expected, and no point, as in those before"
        place.require(~with_point, name, column, expected)
        numbers = column.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
    else:
        numbers = column.cast(pl.Float64, strict=False)
    if numbers.null_count() > column.null_count():
        text = as_text(column, missing)
        written = text.str.replace(",", ".", literal=True) if decimal == "," else text
        numbers = written.cast(pl.Float64, strict=False)
        wrong = text.filter(text.is_not_null() & numbers.is_null()).first() or ""
        expected = f"a number was expected: correct or remove it; {number_hint(wrong, decimal)}"
        place.require(numbers.is_not_null() | text.is_null(), name, column, expected)
    absent = numbers_among(missing)
    return numbers.set(numbers.is_in(absent), None) if absent else numbers


def tell_decimal(columns: Mapping[str, pl.Series], place: Place) -> str:
    """Return the decimal sign of columns of text, "" while there is none.

    Raises
    ------
    ValueError
        If both signs are there, or all commas may as well stand between thousands.
    """
    found = {}
    for name, column in columns.items():
        for sign in ".,":
            has_sign = column.cast(pl.String).str.contains(sign, literal=True)
            if sign not in found and has_sign.any():
                at = int(has_sign.arg_true()[0])
                found[sign] = (at, name, column[at])
    if "," not in found:
        texts = {n: c.cast(pl.String).drop_nulls().str.strip_chars() for n, c in columns.items()}
        points = [text.filter(text.str.contains(".", literal=True)) for text in texts.values()]
        if found and all(some.str.contains(IN_THOUSANDS).all() for some in points):
            for name, text in texts.items():
                _check_points(name, text, place)
        return "".join(found)
    commas = (column.filter(column.str.contains(",", literal=True)) for column in columns.values())
    is_thousand = [comma.str.contains(r"^\s*[1-9]\d{0,2}(,\d{3})+\s*$").all() for comma in commas]
    if "." in found or all(is_thousand):
        at, name, value = found[","]
        other = (
            f"{place.at(found['.'][0])} has {found['.'][2]!r}"
            if "." in found
            else "no number has a point"
        )
        expected = (
            f"and {other}: write nothing between thousands, or, if the comma is the decimal sign "
            "and there is no point, say decimal=, in layout"
        )
        raise place.wrong(at, name, value, expected)
    return ","


def _check_points(name: str, text: pl.Series, place: Place) -> None:
    """Raise where the points of a column may part thousands: 1.200 beside 900."""
    text = text.filter(text != "")
    is_parted = text.str.contains(IN_THOUSANDS)
    parted, others = text.filter(is_parted), text.filter(~is_parted)
    if len(parted) and len(others) and others.str.contains(r"^\d{1,3}$").all():
        raise ValueError(
            f"{place.name}: {name} is {parted[0]!r} and {others[0]!r}: write nothing between "
            "thousands, or, if the point is the decimal sign, say decimal=. in layout"
        )


def to_sides(
    column: pl.Series,
    place: Place,
    name: str,
    values: Mapping[str, str],
    missing: Collection[str] = (),
) -> pl.Series:
    """Return sides as Int8, null where there is none; `values` says what words mean."""
    if not values and column.dtype.is_integer() and column.is_between(-1, 1).all():
        return column.cast(pl.Int8)
    if not values and (column.dtype.is_numeric() or column.dtype == pl.String):
        sides = column.cast(pl.Float64, strict=False).fill_nan(None)
        if sides.null_count() == column.null_count() and sides.drop_nulls().is_in(SIDES).all():
            return sides.cast(pl.Int8)
    text = as_text(column, missing)
    meanings = {word: _meaning(word, values) for word in text.drop_nulls().unique()}
    wrong = sorted(word for word, meaning in meanings.items() if meaning is None)
    if wrong:
        place.require(
            ~text.is_in(wrong).fill_null(value=False),
            name,
            text,
            _way_out(sorted(meanings)[:5], name),
        )
    return text.replace_strict(meanings, return_dtype=pl.Int8).cast(pl.Int8)


def _meaning(word: str, values: Mapping[str, str]) -> int | None:
    """Return the side that a word stands for; None if it stands for none."""
    if values:
        folded = {key.casefold(): value for key, value in values.items()}
        side = values.get(word)
        if side is None and len(folded) == len(values):
            side = folded.get(word.casefold())
        return None if side is None else int(side)
    try:
        return int(float(word)) if float(word) in SIDES else None
    except ValueError:
        return None


def _way_out(words: list[str], name: str) -> str:
    sides = KNOWN_SIDES | ({"-1": -1, "0": 0, "1": 1} if "-1" in words else {})
    sides |= OF_MAKERS if "maker" in name.casefold() else {}
    known = [f'"side.{word}={sides.get(word.casefold(), "?")}"' for word in words]
    is_flag = {*OF_MAKERS} & {*map(str.casefold, words)}
    flags = "; of a flag that the buyer was the maker -1 for true" if is_flag else ""
    return (
        "1 (the buyer took), -1 (the seller) or 0 (not known) was expected: say what each value "
        f"means, as columns=[{', '.join(known)}]{flags}, or leave the column out with "
        'columns=["side="]; then sides follow the changes of the price'
    )
