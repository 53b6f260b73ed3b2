"""Random messages: for any declared message and version, values that reach into its corners.

Two makers of the same kind of values: `random_message` from a seeded `random.Random`, quick enough for millions, and
`message_strategy` for hypothesis, which shrinks what fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from hypothesis import strategies as st

from chronik.errors import ErrorCode
from chronik.wire.apis import ApiKey, message_classes
from chronik.wire.codec import Message
from chronik.wire.schema import Field, Struct

INTEGERS = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
}

TEXTS = ("", "a", "topic-name", "größe", "名前", "x" * 126, "y" * 127, "z" * 300)


def all_messages() -> Iterator[tuple[ApiKey, type[Message], int]]:
    """Every (API, request or response class, version) that the wire tier knows."""
    for key in ApiKey:
        for cls in message_classes(key):
            for version in range(cls.VERSIONS.lowest, cls.VERSIONS.highest + 1):
                yield key, cls, version


def random_message(cls: type[Struct], version: int, rng: Random, tame: bool = False) -> Any:
    """A `cls` with random values in every field that `version` has, and defaults in the others.

    `tame` keeps to what other libraries have types for: error codes that exist, durations and timestamps (ms) that fit
    into Python's timedelta and datetime.
    """
    values: dict[str, Any] = {}
    for f in cls.FIELDS:
        if not f.versions.has(version):
            continue
        if f.tag is not None and rng.random() < 0.4:
            continue
        if f.nullable.has(version) and rng.random() < 0.25:
            values[f.name] = None
        else:
            values[f.name] = _random_value(f, version, rng, tame)
    return cls(**values)


def _random_value(f: Field, version: int, rng: Random, tame: bool) -> Any:
    if f.kind in INTEGERS:
        return _random_integer(f, rng, tame)
    if f.kind == "array":
        return [_random_element(f.element, version, rng, tame) for _ in range(rng.choice((0, 1, 1, 2)))]
    if f.kind == "struct":
        return random_message(f.element, version, rng, tame)
    if f.kind == "string":
        return rng.choice(TEXTS)
    if f.kind == "bool":
        return rng.random() < 0.5
    if f.kind == "uuid":
        return rng.randbytes(16)
    if f.kind == "float64":
        return rng.uniform(-1e9, 1e9)
    return rng.randbytes(rng.choice((0, 1, 20, 127, 128, 5000)))


def _random_element(element: Field | type[Struct], version: int, rng: Random, tame: bool) -> Any:
    if isinstance(element, Field):
        return _random_value(element, version, rng, tame)
    return random_message(element, version, rng, tame)


def _random_integer(f: Field, rng: Random, tame: bool) -> int:
    low, high = INTEGERS[f.kind]
    if tame and "error_code" in f.name:
        return rng.choice(list(ErrorCode))
    if tame and (f.name.endswith("_ms") or "timestamp" in f.name):
        return rng.randrange(0, min(high, 4 * 10**12))
    return rng.choice((0, 1, -1 if low else 1, low, high, rng.randint(low, high)))


def message_strategy(cls: type[Struct], version: int) -> st.SearchStrategy[Any]:
    """The same for hypothesis, with the whole range of every type."""
    return st.builds(
        cls,
        **{f.name: _field_strategy(f, version) for f in cls.FIELDS if f.versions.has(version)},
    )


def _field_strategy(f: Field, version: int) -> st.SearchStrategy[Any]:
    strategy = _value_strategy(f, version)
    return st.none() | strategy if f.nullable.has(version) else strategy


def _value_strategy(f: Field, version: int) -> st.SearchStrategy[Any]:
    if f.kind in INTEGERS:
        return st.integers(*INTEGERS[f.kind])
    if f.kind == "array":
        element = f.element
        inner = _value_strategy(element, version) if isinstance(element, Field) else message_strategy(element, version)
        return st.lists(inner, max_size=2)
    if f.kind == "struct":
        return message_strategy(f.element, version)
    if f.kind == "uuid":
        return st.binary(min_size=16, max_size=16)
    if f.kind in ("bytes", "records"):
        return st.binary(max_size=300)
    return {
        "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=150),
        "bool": st.booleans(),
        "float64": st.floats(allow_nan=False),
    }[f.kind]
