"""Compiles a declared struct and version into a decode and an encode function.

Both are written as Python source, one straight run of statements with nested structs inlined, and compiled once. A decoder
is `decode(buffer, position) -> (object, position)`; an encoder is `encode(object, chunks, head)`, which continues the
bytearray `head` and appends every finished buffer to `chunks`.

In the generated source `b` is the buffer, `p` the position, `end` the buffer's length, `o…` objects and `n…` counts. A
declared length is compared with `end - p` before anything is read or built from it: Python slices shorten silently.
"""

from __future__ import annotations

import struct as _struct
from collections.abc import Callable
from typing import Any

from chronik.errors import ErrorCode, KafkaError
from chronik.wire.schema import Field, Struct

Buffer = bytes | bytearray | memoryview

_FIXED = {
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
_LENGTH_32 = ("bytes", "records")

# Records shorter than this are copied into the running buffer: one more buffer in a gather-write costs more than the copy.
INLINE_RECORDS = 4096


class MalformedMessage(KafkaError):
    """Bytes that do not parse as the message they claim to be. The connection that sent them cannot be trusted further."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.INVALID_REQUEST, message)


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
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def compile_decoder(cls: type[Struct], version: int, flexible: bool) -> Callable[[Buffer, int], tuple[Any, int]]:
    """The decoder of `cls` at `version`. It raises MalformedMessage for any bytes that don't fit the declaration."""
    source = _Decoder(cls.__name__, version, flexible)
    source.line("def decode(b, p):")
    source.indent += 1
    source.line("end = len(b)")
    source.line("try:")
    source.indent += 1
    source.struct(cls, "o0", cls.__name__)
    source.line("return o0, p")
    source.indent -= 1
    source.line("except (IndexError, StructError, UnicodeDecodeError) as problem:")
    source.line(f"    raise MalformedMessage(f'{cls.__name__} v{version}: {{problem}}') from None")
    decoder: Callable[[Buffer, int], tuple[Any, int]] = source.compile("decode")
    return decoder


def compile_encoder(cls: type[Struct], version: int, flexible: bool) -> Callable[[Any, list[Buffer], bytearray], None]:
    """The encoder of `cls` at `version`. It raises UnsupportedField, or ValueError for a value out of its type's range."""
    source = _Encoder(cls.__name__, version, flexible)
    source.line("def encode(o0, chunks, b):")
    source.indent += 1
    source.line("try:")
    source.indent += 1
    source.struct(cls, "o0", cls.__name__)
    source.line("chunks.append(b)")
    source.indent -= 1
    source.line("except StructError as problem:")
    source.line(f"    raise ValueError(f'{cls.__name__} v{version}: {{problem}} in {{o0!r:.500}}') from None")
    encoder: Callable[[Any, list[Buffer], bytearray], None] = source.compile("encode")
    return encoder


class _Source:
    """Lines of generated source and the names they refer to."""

    def __init__(self, name: str, version: int, flexible: bool) -> None:
        self.name = name
        self.version = version
        self.flexible = flexible
        self.indent = 0
        self.lines: list[str] = []
        self.counter = 0
        self.scope: dict[str, Any] = {
            "StructError": _struct.error,
            "MalformedMessage": MalformedMessage,
            "UnsupportedField": UnsupportedField,
            "read_uvarint": read_uvarint,
            "uvarint": uvarint,
            "unpack_from": _struct.unpack_from,
            "pack": _struct.pack,
            "new": object.__new__,
            "short": _short,
        }

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    def fresh(self, prefix: str) -> str:
        self.counter += 1
        return f"{prefix}{self.counter}"

    def constant(self, value: Any, prefix: str) -> str:
        """A name in the scope of the generated function that stands for `value`."""
        name = self.fresh(prefix)
        self.scope[name] = value
        return name

    def bound(self, method: str, layout: str) -> str:
        """The name of `struct.Struct(layout).method`, shared by all uses of that layout."""
        name = f"{method}_" + layout.replace("16s", "U").replace(">", "").replace("?", "T")
        self.scope.setdefault(name, getattr(_struct.Struct(layout), method))
        return name

    def compile(self, function: str) -> Any:
        text = "\n".join(self.lines)
        exec(compile(text, f"<wire {self.name} v{self.version} {function}>", "exec"), self.scope)
        return self.scope[function]

    def is_tagged(self, f: Field) -> bool:
        return f.tag is not None and f.versions.has(self.version) and f.tagged.has(self.version)

    def is_plain(self, f: Field) -> bool:
        return f.versions.has(self.version) and not self.is_tagged(f)

    def is_fixed(self, f: Field) -> bool:
        return f.kind in _FIXED and self.is_plain(f)


def _short(path: str, declared: int, remaining: int) -> MalformedMessage:
    """The error for a declared length or count that the remaining bytes cannot hold."""
    if declared < 0:
        return MalformedMessage(f"{path}: length {declared} where null is not allowed")
    return MalformedMessage(f"{path}: {declared} declared, {remaining} bytes remain")


class _Decoder(_Source):
    def struct(self, cls: type[Struct], target: str, path: str) -> None:
        """Emit code that builds a `cls` from `b` at `p` into the name `target`."""
        self.line(f"{target} = new({self.constant(cls, 'C')})")
        fields = cls.FIELDS
        for f in fields:
            if not self.is_plain(f):
                self.default(f, target)
        run: list[Field] = []
        for f in fields:
            if self.is_fixed(f):
                run.append(f)
            elif self.is_plain(f):
                self.fixed_run(run, target)
                run = []
                self.value(f, f"{target}.{f.name}", f"{path}.{f.name}")
        self.fixed_run(run, target)
        if self.flexible:
            self.tags([f for f in fields if self.is_tagged(f)], target, path)

    def default(self, f: Field, target: str) -> None:
        if callable(f.default):
            factory = "[]" if f.default is list else f"{self.constant(f.default, 'D')}()"
            self.line(f"{target}.{f.name} = {factory}")
        else:
            self.line(f"{target}.{f.name} = {_literal(self, f.default)}")

    def fixed_run(self, run: list[Field], target: str) -> None:
        if not run:
            return
        unpack = self.bound("unpack_from", ">" + "".join(_FIXED[f.kind][0] for f in run))
        size = sum(_FIXED[f.kind][1] for f in run)
        names = "".join(f"{target}.{f.name}, " for f in run)
        self.line(f"{names}= {unpack}(b, p)")
        self.line(f"p += {size}")

    def compact(self, name: str) -> None:
        """Emit the reading of an unsigned varint into `name`; one byte is by far the commonest case."""
        self.line(f"{name} = b[p]; p += 1")
        self.line(f"if {name} > 127: {name}, p = read_uvarint(b, p - 1)")

    def length(self, name: str, layout: str) -> None:
        """Emit the reading of a length into `name`, -1 for null in either form."""
        if self.flexible:
            self.compact(name)
            self.line(f"{name} -= 1")
        else:
            self.line(f"{name}, = {self.bound('unpack_from', layout)}(b, p); p += {_struct.calcsize(layout)}")

    def value(self, f: Field, target: str, path: str) -> None:
        """Emit the reading of one variable-size value, or a fixed one outside a run, into `target`."""
        if f.kind in _FIXED:
            layout, size = _FIXED[f.kind]
            self.line(f"{target}, = {self.bound('unpack_from', '>' + layout)}(b, p); p += {size}")
        elif f.kind == "struct":
            self.nested(f, target, path)
        elif f.kind == "array":
            self.array(f, target, path)
        else:
            self.sized(f, target, path)

    def sized(self, f: Field, target: str, path: str) -> None:
        n, q = self.fresh("n"), self.fresh("q")
        self.length(n, ">i" if f.kind in _LENGTH_32 else ">h")
        nullable = f.nullable.has(self.version)
        if nullable:
            self.line(f"if {n} == -1: {target} = None")
            self.line("else:")
            self.indent += 1
        self.line(f"{q} = p + {n}")
        self.line(f"if {n} < 0 or {q} > end: raise short({path!r}, {n}, end - p)")
        if f.kind == "string":
            self.line(f"{target} = str(b[p:{q}], 'utf-8')")
        elif f.kind == "records":
            self.line(f"{target} = memoryview(b)[p:{q}]")
        else:
            self.line(f"{target} = bytes(b[p:{q}])")
        self.line(f"p = {q}")
        if nullable:
            self.indent -= 1

    def nested(self, f: Field, target: str, path: str) -> None:
        inner = self.fresh("o")
        if f.nullable.has(self.version):
            marker = self.fresh("m")
            self.line(f"{marker}, = {self.bound('unpack_from', '>b')}(b, p); p += 1")
            self.line(f"if {marker} < 0: {target} = None")
            self.line("else:")
            self.indent += 1
            self.struct(f.element, inner, path)
            self.line(f"{target} = {inner}")
            self.indent -= 1
        else:
            self.struct(f.element, inner, path)
            self.line(f"{target} = {inner}")

    def array(self, f: Field, target: str, path: str) -> None:
        n, items = self.fresh("n"), self.fresh("a")
        self.length(n, ">i")
        nullable = f.nullable.has(self.version)
        if nullable:
            self.line(f"if {n} == -1: {target} = None")
            self.line("else:")
            self.indent += 1
        element = f.element
        if isinstance(element, Field) and element.kind in _FIXED:
            layout, size = _FIXED[element.kind]
            self.line(f"if {n} < 0 or {n} * {size} > end - p: raise short({path!r}, {n}, end - p)")
            layout = f"f'>{{{n}}}{layout}'" if element.kind != "uuid" else f"'>' + '16s' * {n}"
            self.line(f"{target} = list(unpack_from({layout}, b, p)); p += {n} * {size}")
        else:
            # Each element takes at least a byte, so a count beyond the bytes that remain is a lie.
            self.line(f"if {n} < 0 or {n} > end - p: raise short({path!r}, {n}, end - p)")
            self.line(f"{items} = []")
            self.line(f"for _ in range({n}):")
            self.indent += 1
            inner = self.fresh("o")
            if isinstance(element, Field):
                self.value(element, inner, path)
            else:
                self.struct(element, inner, path)
            self.line(f"{items}.append({inner})")
            self.indent -= 1
            self.line(f"{target} = {items}")
        if nullable:
            self.indent -= 1

    def tags(self, fields: list[Field], target: str, path: str) -> None:
        """Emit the tagged-field section: known tags are decoded and must fill their size exactly, others are skipped."""
        count, tag, size, q = (self.fresh(x) for x in ("n", "t", "n", "q"))
        self.compact(count)
        self.line(f"while {count}:")
        self.indent += 1
        self.line(f"{count} -= 1")
        self.compact(tag)
        self.compact(size)
        self.line(f"{q} = p + {size}")
        self.line(f"if {q} > end: raise short('{path} tag', {size}, end - p)")
        for f in fields:
            self.line(f"if {tag} == {f.tag}:")
            self.indent += 1
            self.value(f, f"{target}.{f.name}", f"{path}.{f.name}")
            self.line(
                f"if p != {q}: raise MalformedMessage('{path}.{f.name}: the tagged field does not fill its size')"
            )
            self.indent -= 1
        self.line(f"p = {q}")
        self.indent -= 1


def _literal(source: _Source, value: Any) -> str:
    return repr(value) if value is None or isinstance(value, int | str | bytes) else source.constant(value, "D")


class _Encoder(_Source):
    """The running bytearray is `b` at the top level, and another name inside a tagged field."""

    def struct(self, cls: type[Struct], target: str, path: str, out: str = "b") -> None:
        fields = cls.FIELDS
        for f in fields:
            if not f.versions.has(self.version) and not f.ignorable:
                self.refuse_unless_default(f, f"{target}.{f.name}", f"{path}.{f.name}")
        tagged = [f for f in fields if self.is_tagged(f)]
        run: list[tuple[str, str]] = []
        for f in fields:
            if self.is_fixed(f):
                run.append((_FIXED[f.kind][0], f"{target}.{f.name}"))
            elif self.is_plain(f):
                self.value(f, f"{target}.{f.name}", f"{path}.{f.name}", out, run)
                run = []
        if self.flexible and not tagged:
            run.append(("x", ""))  # an empty tag section is one zero byte: a pad byte of the last run
        self.fixed_run(run, out)
        if self.flexible and tagged:
            self.tags(tagged, target, path, out)

    def fixed_run(self, run: list[tuple[str, str]], out: str) -> None:
        if not run:
            return
        layout = ">" + "".join(code for code, _ in run)
        values = ", ".join(value for _, value in run if value)
        if not values:
            self.line(f"{out} += {bytes(_struct.calcsize(layout))!r}")
        else:
            self.line(f"{out} += {self.bound('pack', layout)}({values})")

    def refuse_unless_default(self, f: Field, value: str, path: str) -> None:
        message = f"{path} does not exist in version {self.version}"
        self.line(f"if {self.differs(f, value)}: raise UnsupportedField({message!r})")

    def differs(self, f: Field, value: str) -> str:
        """An expression that is true when `value` is not the field's default."""
        if f.default is list:
            return f"{value} != []"
        if callable(f.default):
            return f"{value} != {self.constant(f.default(), 'D')}"
        if f.default is None:
            return f"{value} is not None"
        return f"{value} != {_literal(self, f.default)}"

    def length(self, expression: str, layout: str, out: str, run: list[tuple[str, str]]) -> None:
        """Emit a length, after the run of fixed fields that stands before it (in one `struct` call where possible)."""
        if not self.flexible:
            self.fixed_run([*run, (layout, expression)], out)
            return
        n = self.fresh("n")
        self.fixed_run(run, out)
        self.line(f"{n} = {expression} + 1")
        self.line(f"if {n} < 128: {out}.append({n})")
        self.line(f"else: {out} += uvarint({n})")

    def null(self, layout: str, out: str, run: list[tuple[str, str]]) -> None:
        if self.flexible:
            self.fixed_run([*run, ("x", "")], out)
        else:
            self.fixed_run([*run, (layout, "-1")], out)

    def value(self, f: Field, value: str, path: str, out: str, run: list[tuple[str, str]]) -> None:
        """Emit `run` and then one value."""
        if f.kind in _FIXED:
            self.fixed_run([*run, (_FIXED[f.kind][0], value)], out)
            return
        local = self.fresh("v")
        self.line(f"{local} = {value}")
        layout = "h" if f.kind == "string" else "i"
        nullable = f.nullable.has(self.version)
        if nullable:
            self.line(f"if {local} is None:")
            self.indent += 1
            if f.kind == "struct":
                self.fixed_run([*run, ("b", "-1")], out)
            else:
                self.null(layout, out, run)
            self.indent -= 1
            self.line("else:")
            self.indent += 1
        elif f.kind != "struct":
            self.line(f"if {local} is None: raise UnsupportedField('{path} cannot be null in version {self.version}')")
        if f.kind == "struct":
            self.fixed_run([*run, ("b", "1")] if nullable else run, out)
            self.struct(f.element, local, path, out)
        elif f.kind == "array":
            self.array(f, local, path, out, run)
        elif f.kind == "string":
            self.line(f"{local} = {local}.encode()")
            self.line(f"if len({local}) > 32767: raise ValueError({path + ' is longer than 32767 bytes'!r})")
            self.length(f"len({local})", layout, out, run)
            self.line(f"{out} += {local}")
        else:
            self.length(f"len({local})", layout, out, run)
            if f.kind == "records" and out == "b":
                self.line(f"if len({local}) < {INLINE_RECORDS}: b += {local}")
                self.line(f"else: chunks.append(b); chunks.append({local}); b = bytearray()")
            else:
                self.line(f"{out} += {local}")
        if nullable:
            self.indent -= 1

    def array(self, f: Field, value: str, path: str, out: str, run: list[tuple[str, str]]) -> None:
        self.length(f"len({value})", "i", out, run)
        element = f.element
        if isinstance(element, Field) and element.kind in _FIXED:
            layout = _FIXED[element.kind][0]
            text = f"f'>{{len({value})}}{layout}'" if element.kind != "uuid" else f"'>' + '16s' * len({value})"
            self.line(f"{out} += pack({text}, *{value})")
            return
        item = self.fresh("o")
        self.line(f"for {item} in {value}:")
        self.indent += 1
        if f.precoded:
            self.line(f"if {item}.__class__ is bytes: {out} += {item}; continue")
        if isinstance(element, Field):
            self.value(element, item, path, out, [])
        else:
            self.struct(element, item, path, out)
        self.indent -= 1

    def tags(self, fields: list[Field], target: str, path: str, out: str) -> None:
        """Emit the tagged-field section: fields at their default are left out, the others stand in the order of their tags."""
        section, count = self.fresh("g"), self.fresh("n")
        self.line(f"{section} = bytearray(); {count} = 0")
        for f in sorted(fields, key=lambda f: f.tag or 0):
            body = self.fresh("g")
            self.line(f"if {self.differs(f, f'{target}.{f.name}')}:")
            self.indent += 1
            self.line(f"{count} += 1; {body} = bytearray()")
            self.value(f, f"{target}.{f.name}", f"{path}.{f.name}", body, [])
            self.line(f"{section} += uvarint({f.tag}) + uvarint(len({body})); {section} += {body}")
            self.indent -= 1
        self.line(f"{out} += uvarint({count}); {out} += {section}")
