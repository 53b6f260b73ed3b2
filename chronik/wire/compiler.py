"""What the two compilers share: generated source with the names it refers to, varints, and the faults of messages.

`chronik.wire.decoder` and `chronik.wire.encoder` write one function each for a declared struct and version: one
straight run of statements with nested structs inlined, compiled once. Every line remembers the field that it is for, so
that a fault can name the field without any work on the way there.
"""

from __future__ import annotations

import linecache
import struct as _struct
from typing import Any

from chronik.errors import ErrorCode, KafkaError
from chronik.wire.schema import Field

Buffer = bytes | bytearray | memoryview

FIXED = {
    "bool": ("?", 1),
    "int8": ("b", 1),
    "int16": ("h", 2),
    "uint16": ("H", 2),
    "int32": ("i", 4),
    "uint32": ("I", 4),
    "int64": ("q", 8),
    "float64": ("d", 8),
    "uuid": ("16s", 16),
}
"""The kinds of one size: the `struct` code of each, and its bytes."""

LENGTH_CODES = {"string": "h", "bytes": "i", "records": "i", "array": "i"}
"""The `struct` code of the length in front of the other kinds, in versions that are not flexible."""

MAX_STRING_BYTES = 0x7FFF
"""The longest string in every version: flexible ones could hold more, but Kafka takes and sends none."""

MAX_TAGS = 1000
"""Tagged fields that one struct may have when it is decoded. Kafka's have less than ten."""

STEP = 64
"""Elements that are decoded or encoded between two pauses, where it is done in steps."""


class MalformedMessage(KafkaError):
    """Bytes that do not parse as the message they claim to be. The connection they came by is lost."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.INVALID_REQUEST, message)


class ManyElements(Exception):
    """A message has more elements than are decoded or encoded in one piece: it has to be done in steps."""


class UnsupportedField(KafkaError):
    """A value was set that the chosen version of the message has no field for."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.UNSUPPORTED_VERSION, message)


def read_uvarint(b: Buffer, p: int) -> tuple[int, int]:
    """An unsigned varint of at most 32 bits at `p`: (value, position after it). Raises MalformedMessage beyond that."""
    value = shift = 0
    while True:
        byte = b[p]
        p += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > 0xFFFFFFFF:
                raise MalformedMessage("a varint exceeds 32 bits")
            return value, p
        shift += 7
        if shift > 28:
            raise MalformedMessage("a varint runs over 5 bytes")


def uvarint(value: int) -> bytes:
    """`value` (>= 0) as an unsigned varint."""
    if value <= 0x7F:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def skip_tags(b: Buffer, p: int, count: int) -> int:
    """The position after `count` tagged fields at `p`, none of which means anything here.

    Raises MalformedMessage where one does not fit, or its tag does not ascend (KIP-482); IndexError at the end of `b`.
    """
    last = -1
    for _ in range(count):
        tag, p = read_uvarint(b, p)
        size, p = read_uvarint(b, p)
        if size > len(b) - p:
            raise MalformedMessage(f"{size} bytes declared, {len(b) - p} bytes remain")
        if tag <= last:
            raise MalformedMessage(f"tag {tag} after tag {last}")
        last = tag
        p += size
    return p


class Source:
    """The source of one function as it grows, for `name` at `version`, and the names that it refers to."""

    def __init__(self, name: str, version: int, flexible: bool) -> None:
        self.title = f"{name} v{version}"
        self.version = version
        self.flexible = flexible
        self.indent = 0
        self.path = ""
        """The field that the next lines are for, from the message's root: "topic_data.partition_data.index"."""
        self.scope: dict[str, Any] = {
            "StructError": _struct.error,
            "MalformedMessage": MalformedMessage,
            "ManyElements": ManyElements,
            "UnsupportedField": UnsupportedField,
        }
        self._lines: list[str] = []
        self._paths: list[str] = []
        self._names = 0

    def line(self, text: str) -> None:
        """Add one line at the current indentation."""
        self._lines.append("    " * self.indent + text)
        self._paths.append(self.path)

    def fresh(self, prefix: str) -> str:
        """A local name that is not used yet."""
        self._names += 1
        return f"{prefix}{self._names}"

    def constant(self, value: Any, prefix: str) -> str:
        """A name in the scope of the function that stands for `value`."""
        name = self.fresh(prefix)
        self.scope[name] = value
        return name

    def literal(self, value: Any) -> str:
        """An expression for `value`."""
        return repr(value) if value is None or isinstance(value, int | str | bytes) else self.constant(value, "D")

    def begin_steps(self) -> None:
        """Make the function a generator, and begin to count the elements up to its first pause."""
        self.line(f"step = {STEP}; yield")

    def step(self) -> None:
        """Emit what an element costs: every so many of them the function pauses."""
        self.line("step -= 1")
        self.line(f"if not step: step = {STEP}; yield")

    def bound(self, method: str, layout: str) -> str:
        """The name of `struct.Struct(layout).method`, shared by all uses of that layout."""
        name = f"{method}_" + layout.replace("16s", "U").replace(">", "").replace("?", "T")
        self.scope.setdefault(name, getattr(_struct.Struct(layout), method))
        return name

    def compile(self, function: str) -> Any:
        """The function of that name, which the source defines. Tracebacks and debuggers can show its lines."""
        text = "\n".join(self._lines)
        filename = f"<wire {self.title} {function}>"
        linecache.cache[filename] = (len(text), None, [line + "\n" for line in self._lines], filename)
        self.scope["place"] = self._place
        exec(compile(text, filename, "exec"), self.scope)
        return self.scope[function]

    def _place(self, problem: BaseException) -> str:
        """Where `problem`, just caught by the function itself, came up: message, version, field."""
        assert problem.__traceback__ is not None
        path = self._paths[problem.__traceback__.tb_lineno - 1]
        return f"{self.title}, {path}" if path else self.title

    def is_tagged(self, f: Field) -> bool:
        """Whether this version has the field in the tag section."""
        return f.tag is not None and f.versions.has(self.version) and f.tagged.has(self.version)

    def is_plain(self, f: Field) -> bool:
        """Whether this version has the field in its place among the others."""
        return f.versions.has(self.version) and not self.is_tagged(f)

    def is_fixed(self, f: Field) -> bool:
        """Whether this version has the field in its place, in a fixed number of bytes."""
        return f.kind in FIXED and self.is_plain(f)


def joined(path: str, name: str) -> str:
    """The path of field `name` of the struct at `path`."""
    return f"{path}.{name}" if path else name
