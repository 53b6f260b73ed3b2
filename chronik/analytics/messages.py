"""What the node asks the processes that run SQL, what these tell on their way, and what comes of it. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

Form = Literal["json", "csv", "arrow"]
Cell = str | int | None


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a statement: `code` is the error's name in the answer."""

    code: str
    reason: str
    status: int = 400


class Plan(msgspec.Struct, frozen=True):
    """Which topics does this statement name?"""

    statement: str


class Planned(msgspec.Struct, frozen=True):
    """The topics that there must be, and those that may be meant: names of common table expressions too."""

    topics: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()
    fault: Fault | None = None


class PartitionFiles(msgspec.Struct, frozen=True):
    """A partition's log, to be read from offset `start` up to `stable`; see `chronik.log.committed`."""

    partition: int
    directory: str
    start: int
    stable: int
    generation: int
    aborted: tuple[tuple[int, int, int], ...]


class Table(msgspec.Struct, frozen=True):
    """A topic. `declared` are the types of fields by their dotted paths, as DuckDB names types."""

    topic: str
    declared: dict[str, str]
    partitions: tuple[PartitionFiles, ...]


class Limits(msgspec.Struct, frozen=True):
    """What a statement may use. `rows` are those of its answer."""

    rows: int
    seconds: float
    memory_bytes: int
    threads: int


class Run(msgspec.Struct, frozen=True):
    """Run the statement over these tables."""

    statement: str
    tables: tuple[Table, ...]
    limits: Limits
    form: Form


class Describe(msgspec.Struct, frozen=True):
    """Which columns has this table?"""

    table: Table
    limits: Limits
    form: Form


class Show(msgspec.Struct, frozen=True):
    """Write these rows; the node knew them itself."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    form: Form


class Counts(msgspec.Struct):
    """What was read of the topics. A table that a statement reads twice counts twice."""

    records: int = 0
    """Handed to the statement."""
    batches: int = 0
    bytes_read: int = 0
    """Of batches, as they are stored."""
    bytes_decoded: int = 0
    segments: int = 0
    segments_pruned: int = 0
    """Passed over unread, by their offsets or the times of their records."""
    partitions_pruned: int = 0
    batches_pruned: int = 0
    """Not decoded, for the same reasons."""
    undecodable: int = 0
    """Batches that cannot be decoded: passed over."""
    not_json: int = 0
    """Values that are no JSON objects, where fields were asked for."""
    not_text: int = 0
    """Keys, values and headers that are no UTF-8: NULL."""
    mistyped: dict[str, int] = {}
    """By column: values of another type than the column's: NULL."""


class Told(msgspec.Struct, frozen=True):
    """On the way: a piece of the answer, or how far reading has come, of how many offsets in all."""

    piece: bytes = b""
    counts: Counts | None = None
    done: int = 0
    all: int = 0


class ColumnAnswer(msgspec.Struct, frozen=True):
    """A column of the answer, its type as DuckDB names it."""

    name: str
    type: str


class Ran(msgspec.Struct, frozen=True):
    """The statement has come to its end. `truncated`: there were more rows than the limit."""

    columns: tuple[ColumnAnswer, ...] = ()
    rows: int = 0
    truncated: bool = False
    counts: Counts = msgspec.field(default_factory=Counts)
    fault: Fault | None = None


class SqlFault(Exception):
    """A statement that is refused, or that has failed."""

    def __init__(self, code: str, reason: str, status: int = 400) -> None:
        super().__init__(code, reason)
        self.fault = Fault(code, reason, status)
