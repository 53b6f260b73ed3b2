"""Numbers, compared exactly: a JSON integer of any size is an int, every other number a Decimal, never a rounded double.

A text is a number where JSON would write it so, without an exponent in texts of records (`number_in_text`), so that the digits
of its integer part are a token of the record, which pruning counts on; with one in queries (`parse_number`).
"""

from __future__ import annotations

import re
from decimal import Decimal

Number = int | Decimal

_IN_TEXT = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?")
_IN_QUERIES = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")
_MAX_DIGITS = 1000
"""A text of more digits is no number: reading one takes time that grows with their square."""
_WRITTEN_OUT = range(-_MAX_DIGITS, _MAX_DIGITS)


def parse_number(text: str) -> Number | None:
    """The number that a text in a query is, else None."""
    match = _IN_QUERIES.fullmatch(text)
    if match is None or len(text) > _MAX_DIGITS:
        return None
    return _exact(text, match[1] or match[2])


def number_in_text(text: str) -> Number | None:
    """The number that a text in a record is, else None."""
    match = _IN_TEXT.fullmatch(text)
    if match is None or len(text) > _MAX_DIGITS:
        return None
    return _exact(text, match[1])


def _exact(text: str, fraction: str | None) -> Number:
    return int(text) if not fraction else Decimal(text)


def text_of_number(number: Number) -> str:
    """A number as text: its decimal digits, as JSON has them where it has no exponent. Empty where they would be too many."""
    if isinstance(number, Decimal):
        return format(number, "f") if number.adjusted() in _WRITTEN_OUT else ""
    return str(number)


def integer_digits(number: Number) -> bytes | None:
    """The digits before the point, a token of every text that has this number without an exponent; None for too many."""
    if isinstance(number, Decimal):
        if number.adjusted() > _MAX_DIGITS:
            return None
        number = int(number)
    return b"%d" % abs(number)
