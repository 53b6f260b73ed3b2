"""Compiles a declared struct and version into `decode(buffer, position) -> (object, position)`.

In the generated source `b` is the buffer, `p` the position, `end` the buffer's length, `o…` objects and `n…` counts. A
declared length is compared with `end - p` before anything is read or built from it: Python slices shorten silently. The
count of an array is multiplied by the fewest bytes that its element can take, so that a message can't ask for objects
that it doesn't bring the bytes for. Where the elements of a message are bounded, `left` counts them down, over all arrays
and tags: a hundred megabytes of empty elements would otherwise be decoded for minutes.

In steps it is the same code as a generator, which pauses every few elements.
"""

from __future__ import annotations

import struct as _struct
from collections.abc import Callable
from typing import Any

from chronik.steps import Steps
from chronik.wire.compiler import (
    FIXED,
    LENGTH_CODES,
    MAX_STRING_BYTES,
    MAX_TAGS,
    Buffer,
    MalformedMessage,
    Source,
    joined,
    read_uvarint,
    skip_tags,
)
from chronik.wire.schema import Field, Struct


def compile_decoder(
    cls: type[Struct], version: int, flexible: bool, at_once: int | None = None
) -> Callable[[Buffer, int], tuple[Any, int]]:
    """The decoder of `cls` at `version`. It raises MalformedMessage for any bytes that don't fit the declaration.

    And ManyElements for more than `at_once` elements.
    """
    source = _Decoder(cls.__name__, version, flexible, at_once, "ManyElements")
    decoder: Callable[[Buffer, int], tuple[Any, int]] = _compiled(source, cls, "decode", at_once)
    return decoder


def compile_stepped_decoder(
    cls: type[Struct], version: int, flexible: bool, most: int | None
) -> Callable[[Buffer, int], Steps[tuple[Any, int]]]:
    """As `compile_decoder`, of what decodes in steps. More than `most` elements are a MalformedMessage."""
    fault = f"MalformedMessage('more than {most} elements in one message')"
    source = _Decoder(cls.__name__, version, flexible, most, fault, stepped=True)
    decoder: Callable[[Buffer, int], Steps[tuple[Any, int]]]
    decoder = _compiled(source, cls, "decode_in_steps", most)
    return decoder


def _compiled(source: _Decoder, cls: type[Struct], name: str, max_elements: int | None) -> Any:
    source.line(f"def {name}(b, p):")
    source.indent += 1
    source.line("end = len(b)")
    if max_elements is not None:
        source.line(f"left = {max_elements}")
    source.line("try:")
    source.indent += 1
    if source.stepped:
        source.begin_steps()
    source.struct(cls, "o0")
    source.line("return o0, p")
    source.indent -= 1
    source.line("except (MalformedMessage, IndexError, StructError, UnicodeDecodeError) as problem:")
    source.line("    raise fault(place(problem), problem) from None")
    return source.compile(name)


def least_bytes(source: Source, element: Field | type[Struct]) -> int:
    """The fewest bytes that an array element can take in the version of `source`, at least 1."""
    if isinstance(element, Field):
        return _least_of_field(source, element)
    size = sum(_least_of_field(source, f) for f in element.FIELDS if source.is_plain(f))
    return max(1, size + source.flexible)  # an empty tag section is one byte


def _least_of_field(source: Source, f: Field) -> int:
    if f.kind in FIXED:
        return FIXED[f.kind][1]
    if f.kind == "struct":
        return 1 if f.nullable.has(source.version) else least_bytes(source, f.element)
    return 1 if source.flexible else _struct.calcsize(LENGTH_CODES[f.kind])


def _fault(place: str, problem: Exception) -> MalformedMessage:
    if isinstance(problem, MalformedMessage):
        return MalformedMessage(f"{place}: {problem.message}")
    if isinstance(problem, UnicodeDecodeError):
        return MalformedMessage(f"{place}: the text is not UTF-8 ({problem.reason} at byte {problem.start})")
    return MalformedMessage(f"{place}: the message ends here")


def _length_fault(kind: str, declared: int, remaining: int, least: int = 1) -> MalformedMessage:
    """The error for a declared length or count that is not allowed, or that the remaining bytes cannot hold."""
    if declared == -1:
        return MalformedMessage("null, where null is not allowed")
    if declared < 0:
        return MalformedMessage(f"the length {declared} is negative")
    if kind == "string" and declared > MAX_STRING_BYTES:
        return MalformedMessage(f"a string of {declared} bytes, {MAX_STRING_BYTES} are allowed")
    what = f"elements of {least} or more bytes" if kind == "array" else "bytes"
    return MalformedMessage(f"{declared} {what} declared, {remaining} bytes remain")


class _Decoder(Source):
    def __init__(
        self,
        name: str,
        version: int,
        flexible: bool,
        max_elements: int | None,
        too_many: str,
        stepped: bool = False,
    ) -> None:
        super().__init__(name, version, flexible)
        self.max_elements = max_elements
        self.too_many = too_many
        """What is raised for more than those: an expression."""
        self.stepped = stepped
        self.scope.update(
            read_uvarint=read_uvarint,
            skip_tags=skip_tags,
            unpack_from=_struct.unpack_from,
            new=object.__new__,
            fault=_fault,
            length_fault=_length_fault,
        )

    def struct(self, cls: type[Struct], target: str) -> None:
        """Emit code that builds a `cls` from `b` at `p` into the name `target`."""
        path = self.path
        self.line(f"{target} = new({self.constant(cls, 'C')})")
        for f in cls.FIELDS:
            if not self.is_plain(f):
                self.default(f, target)
        run: list[Field] = []
        for f in cls.FIELDS:
            if self.is_fixed(f):
                run.append(f)
            elif self.is_plain(f):
                self.fixed_run(run, target, path)
                run = []
                self.path = joined(path, f.name)
                self.value(f, f"{target}.{f.name}")
        self.fixed_run(run, target, path)
        self.path = path
        if self.flexible:
            self.tags([f for f in cls.FIELDS if self.is_tagged(f)], target)

    def default(self, f: Field, target: str) -> None:
        if callable(f.default):
            factory = "[]" if f.default is list else f"{self.constant(f.default, 'D')}()"
            self.line(f"{target}.{f.name} = {factory}")
        else:
            self.line(f"{target}.{f.name} = {self.literal(f.default)}")

    def fixed_run(self, run: list[Field], target: str, path: str) -> None:
        """Emit one `struct` call for fields of fixed size that stand together."""
        if not run:
            return
        self.path = joined(path, run[0].name) + (f" to {run[-1].name}" if len(run) > 1 else "")
        unpack = self.bound("unpack_from", ">" + "".join(FIXED[f.kind][0] for f in run))
        names = "".join(f"{target}.{f.name}, " for f in run)
        self.line(f"{names}= {unpack}(b, p)")
        self.line(f"p += {sum(FIXED[f.kind][1] for f in run)}")

    def compact(self, name: str) -> None:
        """Emit the reading of an unsigned varint into `name`; one byte is by far the commonest case."""
        self.line(f"{name} = b[p]; p += 1")
        self.line(f"if {name} > 127: {name}, p = read_uvarint(b, p - 1)")

    def charge(self, count: str) -> None:
        """Emit the counting of `count` elements or tags against those that the message may have."""
        if self.max_elements is not None:
            self.line(f"left -= {count}")
            self.line(f"if left < 0: raise {self.too_many}")

    def tag_count(self, count: str) -> None:
        """Emit what is checked of a number of tags."""
        self.line(f"if {count} > {MAX_TAGS}: raise MalformedMessage(f'{{{count}}} tags; {MAX_TAGS} are allowed')")
        self.charge(count)

    def length(self, name: str, kind: str) -> None:
        """Emit the reading of a length into `name`, -1 for null in either form."""
        if self.flexible:
            self.compact(name)
            self.line(f"{name} -= 1")
        else:
            layout = ">" + LENGTH_CODES[kind]
            self.line(f"{name}, = {self.bound('unpack_from', layout)}(b, p); p += {_struct.calcsize(layout)}")

    def unless_null(self, f: Field, condition: str, target: str) -> int:
        """Emit the null case where the version allows it; return by how much the rest is indented."""
        if not f.nullable.has(self.version):
            return 0
        self.line(f"if {condition}: {target} = None")
        self.line("else:")
        self.indent += 1
        return 1

    def value(self, f: Field, target: str) -> None:
        """Emit the reading of one variable-size value, or a fixed one outside a run, into `target`."""
        if f.kind in FIXED:
            layout, size = FIXED[f.kind]
            self.line(f"{target}, = {self.bound('unpack_from', '>' + layout)}(b, p); p += {size}")
        elif f.kind == "struct":
            self.nested(f, target)
        elif f.kind == "array":
            self.array(f, target)
        else:
            self.sized(f, target)

    def sized(self, f: Field, target: str) -> None:
        n, q = self.fresh("n"), self.fresh("q")
        self.length(n, f.kind)
        indented = self.unless_null(f, f"{n} == -1", target)
        self.line(f"{q} = p + {n}")
        # Lengths of 16 bits can't be above the limit of strings, compact ones can.
        limit = f" <= {MAX_STRING_BYTES}" if f.kind == "string" and self.flexible else ""
        self.line(f"if not 0 <= {n}{limit} or {q} > end: raise length_fault({f.kind!r}, {n}, end - p)")
        if f.kind == "string":
            self.line(f"{target} = str(b[p:{q}], 'utf-8')")
        elif f.kind == "records":
            self.line(f"{target} = memoryview(b)[p:{q}]")
        else:
            self.line(f"{target} = bytes(b[p:{q}])")
        self.line(f"p = {q}")
        self.indent -= indented

    def nested(self, f: Field, target: str) -> None:
        inner = self.fresh("o")
        indented = 0
        if f.nullable.has(self.version):
            marker = self.fresh("m")
            self.line(f"{marker}, = {self.bound('unpack_from', '>b')}(b, p); p += 1")
            indented = self.unless_null(f, f"{marker} < 0", target)
        self.struct(f.element, inner)
        self.line(f"{target} = {inner}")
        self.indent -= indented

    def array(self, f: Field, target: str) -> None:
        n = self.fresh("n")
        self.length(n, "array")
        indented = self.unless_null(f, f"{n} == -1", target)
        element, least = f.element, least_bytes(self, f.element)
        needed = n if least == 1 else f"{n} * {least}"
        self.line(f"if {n} < 0 or {needed} > end - p: raise length_fault('array', {n}, end - p, {least})")
        self.charge(n)
        if isinstance(element, Field) and element.kind == "uuid" and not self.stepped:
            self.line(f"{target} = [bytes(b[q:q + 16]) for q in range(p, p + {needed}, 16)]; p += {needed}")
        elif isinstance(element, Field) and element.kind in FIXED and element.kind != "uuid":
            layout = f"f'>{{{n}}}{FIXED[element.kind][0]}'"
            self.line(f"{target} = list(unpack_from({layout}, b, p)); p += {needed}")
        else:
            items, inner = self.fresh("a"), self.fresh("o")
            self.line(f"{items} = []")
            self.line(f"for _ in range({n}):")
            self.indent += 1
            if self.stepped:
                self.step()
            if isinstance(element, Field):
                self.value(element, inner)
            else:
                self.struct(element, inner)
            self.line(f"{items}.append({inner})")
            self.indent -= 1
            self.line(f"{target} = {items}")
        self.indent -= indented

    def tags(self, fields: list[Field], target: str) -> None:
        """Emit the tag section: known tags are decoded and must fill their size exactly, others are skipped.

        Tags ascend (KIP-482), so none comes twice.
        """
        path = self.path
        count, last, tag, size, q = (self.fresh(prefix) for prefix in ("n", "t", "t", "n", "q"))
        self.path = joined(path, "tags")
        self.compact(count)
        if not fields:
            self.line(f"if {count}:")
            self.indent += 1
            self.tag_count(count)
            self.line(f"p = skip_tags(b, p, {count})")
            self.indent -= 1
            self.path = path
            return
        self.line(f"if {count}:")
        self.indent += 1
        self.tag_count(count)
        self.line(f"{last} = -1")
        self.line(f"while {count}:")
        self.indent += 1
        self.line(f"{count} -= 1")
        self.compact(tag)
        self.compact(size)
        self.line(f"{q} = p + {size}")
        self.line(f"if {q} > end: raise length_fault('tag', {size}, end - p)")
        self.line(f"if {tag} <= {last}: raise MalformedMessage(f'tag {{{tag}}} after tag {{{last}}}')")
        self.line(f"{last} = {tag}")
        for f in fields:
            self.path = joined(path, f.name)
            self.line(f"if {tag} == {f.tag}:")
            self.indent += 1
            self.value(f, f"{target}.{f.name}")
            self.path = joined(path, f.name)
            self.line(f"if p != {q}: raise MalformedMessage(f'the tag has {{{size}}} bytes, its value does not')")
            self.indent -= 1
        self.line(f"p = {q}")
        self.indent -= 2
        self.path = path
