"""The JSON of a request, read piece by piece: each knows its path, and says it where something is wrong.

Every key has to be known to its reader: one that is not acted on is an error, never ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

from chronik.search.query import QueryError

Made = TypeVar("Made")

_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")


class Body:
    """A value in the JSON, as msgspec or json decodes it, and its path."""

    __slots__ = ("path", "value")

    def __init__(self, value: object, path: str = "") -> None:
        self.value = value
        self.path = path

    def error(self, reason: str) -> QueryError:
        """An error at this place."""
        return QueryError(reason, path=self.path or "the body")

    def checked(self, make: Callable[[], Made]) -> Made:
        """What `make` makes, with this path in its errors that have none."""
        try:
            return make()
        except QueryError as problem:
            if problem.path:
                raise
            raise QueryError(problem.reason, problem.position, self.path) from None

    def inside(self, key: str) -> str:
        """The path of a key in this object."""
        return f"{self.path}.{key}" if self.path else key

    def names(self) -> list[str]:
        """The keys of an object. Raises QueryError for what is none."""
        if not isinstance(self.value, Mapping):
            raise self.error("an object is expected")
        return list(self.value)

    def known(self, *keys: str) -> Body:
        """This object, if it has no other keys than these."""
        for key in self.names():
            if key not in keys:
                raise QueryError(
                    f"not supported ({', '.join(keys) or 'nothing'} can stand here)", path=self.inside(key)
                )
        return self

    def has(self, key: str) -> bool:
        """Whether an object has the key, and it is not null."""
        return isinstance(self.value, Mapping) and self.value.get(key) is not None

    def __getitem__(self, key: str) -> Body:
        """What an object has under the key. Raises QueryError where there is nothing."""
        if not isinstance(self.value, Mapping):
            raise self.error("an object is expected")
        if key not in self.value:
            raise self.error(f"`{key}` is missing")
        return Body(self.value[key], self.inside(key))

    def only(self) -> tuple[str, Body]:
        """The single key of an object, and what is under it."""
        keys = self.names()
        if len(keys) != 1:
            raise self.error(f"an object with one key is expected, this has {len(keys)}")
        return keys[0], self[keys[0]]

    def items(self) -> Iterator[Body]:
        """The elements of an array; a value that is none is taken for the only one."""
        if isinstance(self.value, Sequence) and not isinstance(self.value, str | bytes):
            return (Body(value, f"{self.path}[{index}]") for index, value in enumerate(self.value))
        return iter((self,))

    def array(self) -> list[Body]:
        """The elements of an array."""
        if not isinstance(self.value, Sequence) or isinstance(self.value, str | bytes):
            raise self.error("an array is expected")
        return list(self.items())

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            raise self.error("a string is expected")
        return self.value

    def name(self) -> str:
        """The name of a field."""
        return field_name(self.text(), self)

    def one_of(self, *choices: str) -> str:
        """A string out of these."""
        if self.value not in choices:
            raise self.error(f"one of {', '.join(choices)} is expected")
        return str(self.value)

    def scalar(self) -> str:
        """A string, number or boolean, as the text that a query has for it."""
        value = self.value
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | Decimal):
            return str(value)
        if isinstance(value, float) and math.isfinite(value):
            return repr(value)
        raise self.error("a string, a number or a boolean is expected")

    def boolean(self) -> bool:
        """A boolean."""
        if not isinstance(self.value, bool):
            raise self.error("true or false is expected")
        return self.value

    def integer(self, least: int, most: int) -> int:
        """An integer within bounds, also as a string of digits."""
        value = self.value
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.error(f"an integer from {least} to {most} is expected")
        return value

    def number(self) -> float:
        """A finite number, as a double."""
        if isinstance(self.value, int | float | Decimal) and not isinstance(self.value, bool):
            try:
                number = float(self.value)
            except OverflowError:
                number = math.inf
            if math.isfinite(number):
                return number
        raise self.error("a finite number is expected")

    def decimal(self) -> float:
        """A finite number, also as a string of one."""
        if isinstance(self.value, str) and _NUMBER.fullmatch(self.value):
            return Body(float(self.value), self.path).number()
        return self.number()

    def boost(self) -> float:
        """The `boost` of an object, 1 where it has none."""
        if not self.has("boost"):
            return 1.0
        boost = self["boost"].number()
        if boost < 0:
            raise self["boost"].error("a boost cannot be negative")
        return boost


def field_name(text: str, body: Body) -> str:
    """The text, if it can be a field's name."""
    if not text or "*" in text:
        raise body.error("the name of one field is expected, without wildcards")
    return text


def weighed_field(text: str, body: Body) -> tuple[str, float]:
    """A field and its boost, written `title^2`."""
    name, caret, boost = text.partition("^")
    if not caret:
        return field_name(name, body), 1.0
    try:
        factor = float(boost)
    except ValueError:
        factor = math.nan
    if not 0 <= factor < math.inf:
        raise body.error(f"`{boost:.20}` is no boost")
    return field_name(name, body), factor
