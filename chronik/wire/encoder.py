"""Compiles a declared struct and version into `encode(object, chunks, head)`.

It continues the bytearray `head` and appends every finished buffer to `chunks`. In the generated source `b` is the
running bytearray, `v…` values, `o…` array elements. Fields of fixed size that stand together are one `struct` call,
together with a length that follows them, or the zero byte of an empty tag section. Large `records` become buffers of
their own. Where the elements that are encoded in one piece are bounded, `left` counts them down, and some of the arrays
with them.

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
    Buffer,
    Source,
    UnsupportedField,
    joined,
    uvarint,
)
from chronik.wire.schema import Field, Struct

INLINE_RECORDS = 4096
"""Records shorter than this are copied into the running buffer: one more in a gather-write costs more than the copy."""


def compile_encoder(
    cls: type[Struct], version: int, flexible: bool, at_once: int | None = None
) -> Callable[[Any, list[Buffer], bytearray], None]:
    """The encoder of `cls` at `version`. It raises UnsupportedField, and ValueError for a value out of its range.

    And ManyElements for more than `at_once` elements; what is in `chunks` and `head` is then of no use.
    """
    source = _Encoder(cls.__name__, version, flexible, at_once)
    encoder: Callable[[Any, list[Buffer], bytearray], None] = _compiled(source, cls, "encode")
    return encoder


def compile_stepped_encoder(
    cls: type[Struct], version: int, flexible: bool
) -> Callable[[Any, list[Buffer], bytearray], Steps[None]]:
    """As `compile_encoder`, of what encodes in steps, however many elements there are."""
    source = _Encoder(cls.__name__, version, flexible, None, stepped=True)
    encoder: Callable[[Any, list[Buffer], bytearray], Steps[None]]
    encoder = _compiled(source, cls, "encode_in_steps")
    return encoder


def _compiled(source: _Encoder, cls: type[Struct], name: str) -> Any:
    source.line(f"def {name}(o0, chunks, b):")
    source.indent += 1
    if source.at_once is not None:
        source.line(f"left = {source.at_once}")
    source.line("try:")
    source.indent += 1
    if source.stepped:
        source.begin_steps()
    source.struct(cls, "o0")
    source.line("chunks.append(b)")
    source.indent -= 1
    source.line("except (UnsupportedField, ValueError, StructError) as problem:")
    source.line("    raise fault(place(problem), problem) from None")
    return source.compile(name)


def _fault(place: str, problem: Exception) -> Exception:
    if isinstance(problem, UnsupportedField):
        return UnsupportedField(f"{place}: {problem.message}")
    return ValueError(f"{place}: {problem}")


Run = list[tuple[str, str, str]]
"""Values of fixed size still to be written: (`struct` code, expression, path of the field)."""


class _Encoder(Source):
    """Methods that write take `out`, the name of the bytearray: `b`, or another one inside a tagged field."""

    def __init__(self, name: str, version: int, flexible: bool, at_once: int | None, stepped: bool = False) -> None:
        super().__init__(name, version, flexible)
        self.at_once = at_once
        self.stepped = stepped
        self.scope.update(uvarint=uvarint, pack=_struct.pack, fault=_fault)

    def struct(self, cls: type[Struct], target: str, out: str = "b") -> None:
        """Emit the writing of the `cls` that is named `target`."""
        path = self.path
        for f in cls.FIELDS:
            if not f.versions.has(self.version) and not f.ignorable:
                self.path = joined(path, f.name)
                self.line(f"if {self.differs(f, f'{target}.{f.name}')}:")
                self.line("    raise UnsupportedField('it has a value, and this version has no such field')")
        tagged = [f for f in cls.FIELDS if self.is_tagged(f)]
        run: Run = []
        for f in cls.FIELDS:
            if not self.is_plain(f):
                continue
            self.path = joined(path, f.name)
            if self.is_fixed(f):
                run.append((FIXED[f.kind][0], f"{target}.{f.name}", self.path))
            else:
                self.value(f, f"{target}.{f.name}", out, run)
                run = []
        if self.flexible and not tagged:
            run.append(("x", "", ""))  # an empty tag section is one zero byte: a pad byte of the last run
        self.fixed_run(run, out)
        self.path = path
        if self.flexible and tagged:
            self.tags(tagged, target, out)

    def fixed_run(self, run: Run, out: str) -> None:
        """Emit one `struct` call for `run`."""
        if not run:
            return
        layout = ">" + "".join(code for code, _, _ in run)
        values = ", ".join(value for _, value, _ in run if value)
        if not values:
            self.line(f"{out} += {bytes(_struct.calcsize(layout))!r}")
            return
        after, paths = self.path, [path for _, _, path in run if path]
        self.path = paths[0] if len(paths) == 1 else f"{paths[0]} to {paths[-1].rpartition('.')[2]}"
        self.line(f"{out} += {self.bound('pack', layout)}({values})")
        self.path = after

    def differs(self, f: Field, value: str) -> str:
        """An expression that is true when `value` is not the field's default."""
        if f.default is list:
            return f"{value} or {value} is None"
        if callable(f.default):
            return f"{value} != {self.constant(f.default(), 'D')}"
        if f.default is None:
            return f"{value} is not None"
        return f"{value} != {self.literal(f.default)}"

    def length(self, expression: str, kind: str, out: str, run: Run) -> str:
        """Emit a length, after the run of fixed fields that stands before it (in one `struct` call where possible).

        What it returns stands for the length, or for one more, wherever that is cheaper to have.
        """
        if not self.flexible:
            self.fixed_run([*run, (LENGTH_CODES[kind], expression, self.path)], out)
            return expression
        n = self.fresh("n")
        self.fixed_run(run, out)
        self.line(f"{n} = {expression} + 1")
        self.line(f"if {n} < 128: {out}.append({n})")
        self.line(f"else: {out} += uvarint({n})")
        return n

    def null(self, f: Field, out: str, run: Run) -> None:
        if f.kind == "struct":
            self.fixed_run([*run, ("b", "-1", self.path)], out)
        elif self.flexible:
            self.fixed_run([*run, ("x", "", "")], out)
        else:
            self.fixed_run([*run, (LENGTH_CODES[f.kind], "-1", self.path)], out)

    def value(self, f: Field, value: str, out: str, run: Run) -> None:
        """Emit `run` and then one value."""
        if f.kind in FIXED:
            self.fixed_run([*run, (FIXED[f.kind][0], value, self.path)], out)
            return
        local = self.fresh("v")
        self.line(f"{local} = {value}")
        nullable = f.nullable.has(self.version)
        if nullable:
            self.line(f"if {local} is None:")
            self.indent += 1
            self.null(f, out, run)
            self.indent -= 1
            self.line("else:")
            self.indent += 1
        else:
            self.line(f"if {local} is None: raise UnsupportedField('it cannot be null in this version')")
        self.present(f, local, out, run)
        if nullable:
            self.indent -= 1

    def present(self, f: Field, local: str, out: str, run: Run) -> None:
        """Emit `run` and then one value of variable size that is not null."""
        if f.kind == "struct":
            self.fixed_run([*run, ("b", "1", self.path)] if f.nullable.has(self.version) else run, out)
            self.struct(f.element, local, out)
        elif f.kind == "array":
            self.array(f, local, out, run)
        elif f.kind == "string":
            self.line(f"{local} = {local}.encode()")
            self.line(f"if len({local}) > {MAX_STRING_BYTES}:")
            self.line(f"    raise ValueError(f'a string of {{len({local})}} bytes, {MAX_STRING_BYTES} are allowed')")
            self.length(f"len({local})", f.kind, out, run)
            self.line(f"{out} += {local}")
        else:
            self.length(f"len({local})", f.kind, out, run)
            if f.kind == "records" and out == "b":
                self.line(f"if len({local}) < {INLINE_RECORDS}: b += {local}")
                self.line(f"else: chunks.append(b); chunks.append({local}); b = bytearray()")
            else:
                self.line(f"{out} += {local}")

    def array(self, f: Field, value: str, out: str, run: Run) -> None:
        count = self.length(f"len({value})", "array", out, run)
        element = f.element
        if isinstance(element, Field) and element.kind in FIXED and element.kind != "uuid":
            self.line(f"{out} += pack(f'>{{len({value})}}{FIXED[element.kind][0]}', *{value})")
            return
        if self.at_once is not None:
            self.line(f"left -= {count}")
            self.line("if left < 0: raise ManyElements")
        item = self.fresh("o")
        self.line(f"for {item} in {value}:")
        self.indent += 1
        if self.stepped:
            self.step()
        if f.precoded:
            self.line(f"if {item}.__class__ is bytes: {out} += {item}; continue")
        if isinstance(element, Field):
            self.value(element, item, out, [])
        else:
            self.struct(element, item, out)
        self.indent -= 1

    def tags(self, fields: list[Field], target: str, out: str) -> None:
        """Emit the tag section: fields at their default are left out, the others stand in the order of their tags."""
        path = self.path
        section, count = self.fresh("g"), self.fresh("n")
        self.line(f"{section} = bytearray(); {count} = 0")
        for f in sorted(fields, key=lambda f: f.tag or 0):
            body = self.fresh("g")
            self.path = joined(path, f.name)
            self.line(f"if {self.differs(f, f'{target}.{f.name}')}:")
            self.indent += 1
            self.line(f"{count} += 1; {body} = bytearray()")
            self.value(f, f"{target}.{f.name}", body, [])
            self.line(f"{section} += uvarint({f.tag}) + uvarint(len({body})); {section} += {body}")
            self.indent -= 1
        self.path = path
        self.line(f"{out} += uvarint({count}); {out} += {section}")
