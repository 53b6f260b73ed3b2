"""Numbers in values, and when their digits may be looked for: by which token a search for a number may pass records over.

JSON can write a number in more ways than one: 250, 250.0, 2.5e2. All that have no exponent begin with the same digits, those
before the point, which stand between characters that are in no token. So they are a token of the value: `number_token`. A
value that has a number with an exponent is signed with the token `MARKER`, which no text has. So a search for a number may
require: the token of the number, or the marker.

Numbers are equal exactly, not as doubles: 249.99999999999999999 is not 250. With an exponent are those that stand alone as they
do in JSON, between white space, `:`, `,` or `[` and white space, `,`, `]` or `}`. Texts are no numbers: a search that takes the
string "2.5e2" or "0250" for a number must not require tokens.
"""

from __future__ import annotations

import re
from decimal import Decimal

from chronik.native.tokens import MAX_BYTES, Buffer

MARKER = b"\x00number"

_hint = re.compile(rb"[0-9][eE][+-]?[0-9]")
_exponent = re.compile(
    rb"(?:\A|(?<=[ \t\n\r:,\[]))-?[0-9]++(?:\.[0-9]++)?+[eE][+-]?[0-9]++(?=[ \t\n\r,\]}]|\Z)"
)  # no quantifier gives back what it took: a million digits cost no more than as many letters


def needs_marker(value: Buffer) -> bool:
    """Whether a value has a number with an exponent."""
    return _hint.search(value) is not None and _exponent.search(value) is not None


def number_token(number: float | Decimal) -> bytes:
    """The token of every value that has a number equal to this one, and no marker. `number` is finite.

    Long digits are cut as every token is, so a number like 1e1000000 costs nothing.
    """
    _, digits, exponent = Decimal(number).as_tuple()
    assert isinstance(exponent, int)  # it is finite
    whole = digits[:exponent] if exponent < 0 else digits + (0,) * min(exponent, MAX_BYTES)
    return bytes(ord("0") + digit for digit in whole[:MAX_BYTES]).lstrip(b"0") or b"0"
