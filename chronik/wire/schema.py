"""Declarations of the wire: what a message consists of, field by field and version by version.

A struct is a class whose body lists its fields in wire order, each with the versions that carry it::

    class Coordinator(Struct):
        key: str = string("4+")
        node_id: int = int32("4+")

The functions below (`string`, `int32`, `array`, ...) declare one field each. `StructMeta` collects them; the compiler
turns them into code. Nothing here touches bytes.

Sources: the Kafka protocol guide; KIP-482 (tagged fields), KIP-893 (nullable structs).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

MAX_VERSION = 32767


class Versions(NamedTuple):
    """An inclusive range of message versions; empty when `highest < lowest`."""

    lowest: int
    highest: int

    @classmethod
    def parse(cls, text: str) -> Versions:
        """Read `"3"`, `"3-5"`, `"3+"` or `"none"`."""
        if text == "none":
            return cls(0, -1)
        if text.endswith("+"):
            return cls(int(text[:-1]), MAX_VERSION)
        low, dash, high = text.partition("-")
        return cls(int(low), int(high) if dash else int(low))

    def has(self, version: int) -> bool:
        """Whether `version` lies in the range."""
        return self.lowest <= version <= self.highest

    def __str__(self) -> str:
        return f"{self.lowest}-{self.highest}" if self.lowest != self.highest else str(self.lowest)


_NEVER = Versions(0, -1)


@dataclass(slots=True)
class Field:
    """One declared field. `kind` is a primitive's name, "array" or "struct"; `name` is filled in by the class body.

    `element` is the array's element or the nested struct class; `tag` is the KIP-482 tag or None; `default` is a value
    or, for arrays and structs, a zero-argument factory.
    """

    kind: str
    versions: Versions
    nullable: Versions
    default: Any
    tag: int | None = None
    tagged: Versions = _NEVER
    ignorable: bool = False
    element: Any = None
    precoded: bool = False
    name: str = ""


_NONE = "none"
_ALL = "0+"


def _primitive(kind: str, zero: Any) -> Callable[..., Any]:
    def declare(
        versions: str = _ALL,
        *,
        nullable: str = _NONE,
        default: Any = zero,
        tag: int | None = None,
        tagged: str = _NONE,
        ignorable: bool = False,
    ) -> Any:
        tagged_versions = Versions.parse(tagged if tag is None or tagged != _NONE else versions)
        return Field(
            kind,
            Versions.parse(versions),
            Versions.parse(nullable),
            default,
            tag,
            tagged_versions,
            ignorable,
        )

    declare.__name__ = kind
    declare.__doc__ = f"Declare a field of type {kind}."
    return declare


boolean = _primitive("bool", False)
int8 = _primitive("int8", 0)
int16 = _primitive("int16", 0)
uint16 = _primitive("uint16", 0)
int32 = _primitive("int32", 0)
uint32 = _primitive("uint32", 0)
int64 = _primitive("int64", 0)
float64 = _primitive("float64", 0.0)
uuid = _primitive("uuid", bytes(16))
string = _primitive("string", "")
octets = _primitive("bytes", b"")
records = _primitive("records", None)


def array(
    element: Any,
    versions: str = _ALL,
    *,
    nullable: str = _NONE,
    default: Any = list,
    tag: int | None = None,
    tagged: str = _NONE,
    ignorable: bool = False,
    precoded: bool = False,
) -> Any:
    """Declare an array of `element`, a Struct class or a primitive declaration such as `string()`.

    With `precoded`, an element that is `bytes` is written as it stands: it was made by `encode_struct` for this
    version.
    """
    return Field(
        "array",
        Versions.parse(versions),
        Versions.parse(nullable),
        default,
        tag,
        Versions.parse(tagged if tag is None or tagged != _NONE else versions),
        ignorable,
        element,
        precoded,
    )


def struct(
    element: type[Struct],
    versions: str = _ALL,
    *,
    nullable: str = _NONE,
    default: Any = ...,
    tag: int | None = None,
    tagged: str = _NONE,
    ignorable: bool = False,
) -> Any:
    """Declare a nested struct. Its default is an instance with all defaults, or None when `default=None` is given."""
    return Field(
        "struct",
        Versions.parse(versions),
        Versions.parse(nullable),
        element if default is ... else default,
        tag,
        Versions.parse(tagged if tag is None or tagged != _NONE else versions),
        ignorable,
        element,
    )


class StructMeta(type):
    """Moves the Field declarations of a class body into `FIELDS`; gives the class slots and a keyword constructor."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> StructMeta:
        fields: list[Field] = []
        for attribute, value in list(namespace.items()):
            if isinstance(value, Field):
                value.name = attribute
                fields.append(value)
                del namespace[attribute]
        namespace["__slots__"] = tuple(f.name for f in fields)
        namespace["FIELDS"] = tuple(fields)
        if fields:
            namespace["__init__"] = _constructor(fields)
            namespace["__eq__"] = _comparison(fields)
            namespace["__hash__"] = None
        return super().__new__(mcs, name, bases, namespace, **options)


def _constructor(fields: list[Field]) -> Callable[..., None]:
    """A keyword-only `__init__` that fills in each field's default; a misspelt name is a TypeError."""
    scope: dict[str, Any] = {"_unset": _UNSET}
    parameters, body = [], []
    for f in fields:
        if callable(f.default):
            scope[f"_make_{f.name}"] = f.default
            parameters.append(f"{f.name}=_unset")
            body.append(f"    self.{f.name} = _make_{f.name}() if {f.name} is _unset else {f.name}")
        else:
            scope[f"_default_{f.name}"] = f.default
            parameters.append(f"{f.name}=_default_{f.name}")
            body.append(f"    self.{f.name} = {f.name}")
    exec(f"def __init__(self, *, {', '.join(parameters)}):\n" + "\n".join(body), scope)
    constructor: Callable[..., None] = scope["__init__"]
    return constructor


def _comparison(fields: list[Field]) -> Callable[[Any, object], bool]:
    """`__eq__` by value, as straight code: encoders compare nested structs with their defaults."""
    terms = " and ".join(f"self.{f.name} == other.{f.name}" for f in fields)
    scope: dict[str, Any] = {}
    exec(
        f"def __eq__(self, other):\n    return {terms} if other.__class__ is self.__class__ else NotImplemented", scope
    )
    comparison: Callable[[Any, object], bool] = scope["__eq__"]
    return comparison


_UNSET = object()


class Struct(metaclass=StructMeta):
    """A record of fields. Construct with keywords; what is left out takes Kafka's default. Compared by value."""

    FIELDS: ClassVar[tuple[Field, ...]]

    def __init__(self, **values: Any) -> None:
        if values:
            raise TypeError(f"{type(self).__name__} has no field {next(iter(values))!r}")

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return True  # without fields; the others get a comparison of their own

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        parts = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in self.FIELDS)
        return f"{type(self).__name__}({parts})"
