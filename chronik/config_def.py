"""What a Kafka config is: its name, type, default, bounds and meaning, declared once and checked in one place.

A `ConfigDef` turns the text that clients send into a value and back. Whether this node acts on a config is part of its
declaration: one that it doesn't act on is accepted at its default only, so nothing is ever silently ignored. The declared
lists are `chronik.topic_config` and `chronik.broker_config`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

ConfigValue = bool | int | float | str | tuple[str, ...] | None
"""A parsed config: lists are tuples of text; None is a config without a value."""


class ConfigType(IntEnum):
    """The types of DescribeConfigs, by their numbers on the wire."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


class ConfigSource(IntEnum):
    """Where a config's value comes from, by Kafka's numbers. The lower number wins, between 1 and 5; GROUP wins always."""

    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5
    GROUP = 8


_INTEGER_BOUNDS = {
    ConfigType.SHORT: (-(2**15), 2**15 - 1),
    ConfigType.INT: (-(2**31), 2**31 - 1),
    ConfigType.LONG: (-(2**63), 2**63 - 1),
}

Check = Callable[[ConfigValue], str | None]
"""Tells what is wrong with a value, as the end of a sentence, or None."""


@dataclass(frozen=True, slots=True)
class Synonym:
    """A broker config that sets the default of a topic config, and how many of the topic's units one of it makes."""

    name: str
    factor: int = 1


@dataclass(frozen=True, slots=True)
class ConfigDef:
    """One declared config.

    `absence` is None for a config that the node acts on; otherwise it ends the refusal of any value but the default.
    `synonyms` are broker configs, the strongest first. `hidden` ones are accepted but never described.
    """

    name: str
    type: ConfigType
    default: ConfigValue
    doc: str
    check: Check | None = None
    synonyms: tuple[Synonym, ...] = ()
    absence: str | None = None
    dynamic: bool = False
    hidden: bool = False

    @property
    def sensitive(self) -> bool:
        """True when the value must never leave the node."""
        return self.type is ConfigType.PASSWORD

    def parse(self, text: str) -> ConfigValue:
        """The value of `text`. Raises ValueError, naming config, value and rule."""
        value = self._convert(text.strip())
        fault = self.check(value) if self.check is not None else None
        if fault is not None:
            raise ValueError(f"config {self.name} cannot be {shorten(text)}: {fault}")
        return value

    def admit(self, text: str) -> ConfigValue:
        """As `parse`, and refuse what this node has no meaning for. Raises ValueError."""
        value = self.parse(text)
        if self.absence is not None and not self._is_default(value):
            raise ValueError(
                f"config {self.name} can only have its default {self.text(self.default)!r} on this node: {self.absence}"
            )
        return value

    def _is_default(self, value: ConfigValue) -> bool:
        """Whether `value` asks for nothing beyond the default: of a list, for none of the other items."""
        if isinstance(value, tuple) and isinstance(self.default, tuple):
            return set(value) <= set(self.default)
        return value == self.default

    def text(self, value: ConfigValue) -> str | None:
        """Kafka's text form of a value, the inverse of `parse`."""
        if value is None:
            return None
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, tuple):
            return ",".join(value)
        return str(value)

    def _convert(self, text: str) -> ConfigValue:
        kind = self.type
        if kind is ConfigType.BOOLEAN:
            lowered = text.lower()
            if lowered not in ("true", "false"):
                raise ValueError(f"config {self.name} cannot be {shorten(text)}: it is true or false")
            return lowered == "true"
        if kind in _INTEGER_BOUNDS:
            return self._integer(text, *_INTEGER_BOUNDS[kind])
        if kind is ConfigType.DOUBLE:
            try:
                return float(text)
            except ValueError:
                raise ValueError(f"config {self.name} cannot be {shorten(text)}: it is a number") from None
        if kind is ConfigType.LIST:
            return tuple(piece.strip() for piece in text.split(",")) if text else ()
        return text

    def _integer(self, text: str, low: int, high: int) -> int:
        digits = text[1:] if text[:1] in ("-", "+") else text
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
            raise ValueError(f"config {self.name} cannot be {shorten(text)}: it is a whole number")
        value = int(text)
        if not low <= value <= high:
            raise ValueError(f"config {self.name} cannot be {shorten(text)}: it lies between {low} and {high}")
        return value


def at_least(low: float) -> Check:
    """The value must not be smaller than `low`."""
    return lambda value: None if isinstance(value, int | float) and value >= low else f"it is at least {low}"


def between(low: float, high: float, also: float | None = None) -> Check:
    """The value must lie in `[low, high]`, or be `also`."""
    allowed = f"it lies between {low} and {high}" + (f", or is {also}" if also is not None else "")

    def check(value: ConfigValue) -> str | None:
        return None if isinstance(value, int | float) and (low <= value <= high or value == also) else allowed

    return check


def one_of(*names: str) -> Check:
    """The value must be one of `names`; of a list, each item must, and there must be one at least."""

    def check(value: ConfigValue) -> str | None:
        items = value if isinstance(value, tuple) else (value,)
        return None if items and all(item in names for item in items) else f"it is one of {', '.join(names)}"

    return check


def shorten(text: str) -> str:
    """`text` quoted for an error message, at most 80 characters of it."""
    return repr(text) if len(text) <= 80 else repr(text[:80]) + "..."
