"""What the node asks the processes that run continuous queries, and what these answer. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from chronik.analytics.messages import PartitionFiles, Table


class Nothing(msgspec.Struct, frozen=True):
    """What these jobs tell on their way."""


class ReadQuery(msgspec.Struct, frozen=True):
    """What is this query called, and which topics does it name?"""

    text: str


class QueryNames(msgspec.Struct, frozen=True):
    """They are these. `fault`: why it is no query."""

    name: str = ""
    source: str = ""
    into: str = ""
    fault: str = ""


class CheckQuery(msgspec.Struct, frozen=True):
    """Is this a query that can run over this topic? Its columns are taken from a sample of it."""

    text: str
    table: Table


class Checked(msgspec.Struct, frozen=True):
    """What the query is, and the text of the columns that it reads. `fault`: why it can't be."""

    columns: str = ""
    windowed: bool = False
    fault: str = ""


class Open(msgspec.Struct, frozen=True):
    """Begin to run a query, from what its state says. `columns` is the text of its source's columns (`columns_text`)."""

    query_id: bytes
    text: str
    columns: str
    state: PartitionFiles
    idle_ms: int
    ahead_ms: int
    now_ms: int


class Opened(msgspec.Struct, frozen=True):
    """Where it goes on: the next offset by partition, for those that it has read from. `fault`: it cannot run."""

    offsets: dict[int, int] = {}
    fault: str = ""


class Producer(msgspec.Struct, frozen=True):
    """Who writes; its sequence numbers begin at 0 in every partition."""

    producer_id: int
    epoch: int


class Targets(msgspec.Struct, frozen=True):
    """How many partitions the topics have that results and late records go to."""

    into: int
    late: int


class TakeStep(msgspec.Struct, frozen=True):
    """Read what there is of these partitions, a piece of it, and say what it comes to."""

    query_id: bytes
    source: tuple[PartitionFiles, ...]
    producer: Producer
    targets: Targets
    now_ms: int


class Outcome(msgspec.Struct, frozen=True):
    """A record batch that a step comes to, to be appended behind those before it: `to` the results, late records, or states."""

    to: Literal["into", "late", "state"]
    partition: int
    batch: bytes


class Stepped(msgspec.Struct, frozen=True):
    """That were all outcomes: they are to be written, all or nothing; then the next step may come.

    `offsets` are the next to be read. `more`: there is more to read. `again_ms`: in so many ms time alone may bring results;
    -1 for never.
    """

    offsets: dict[int, int] = {}
    more: bool = False
    again_ms: int = -1
    counts: dict[str, int] = {}
    states: int = 0
    watermark: int = 0
    fault: str = ""


class Close(msgspec.Struct, frozen=True):
    """Forget a query: it is dropped, paused, or goes on from its state."""

    query_id: bytes


class Closed(msgspec.Struct, frozen=True):
    """It is forgotten."""


class Sweep(msgspec.Struct, frozen=True):
    """Which states in a partition are of queries that there are no more? `known` are the ids of those that there are."""

    state: PartitionFiles
    known: tuple[bytes, ...]
    now_ms: int


class Swept(msgspec.Struct, frozen=True):
    """Batches of tombstones that take them away."""

    batches: tuple[bytes, ...] = ()


class LookUp(msgspec.Struct, frozen=True):
    """The open windows of a query as they are now, of a key (its values in the order of the GROUP BY, as JSON) or of all."""

    query_id: bytes
    key: str | None
    first_ms: int
    last_ms: int
    most: int


class Explain(msgspec.Struct, frozen=True):
    """Which records are in the window of `key` (as in `LookUp`) that begins at `start_ms`? `source` ends where the query is."""

    text: str
    columns: str
    source: tuple[PartitionFiles, ...]
    late: tuple[PartitionFiles, ...]
    key: str
    start_ms: int
    ahead_ms: int
    now_ms: int


class Explained(msgspec.Struct, frozen=True):
    """These, by partition: so many offsets as an answer has, and how many there are; and what they come to, as JSON.

    `unknown`: there is no such window. `fault`: why it cannot be told.
    """

    offsets: dict[int, list[int]] = {}
    records: int = 0
    recomputed: bytes = b"null"
    unknown: bool = False
    fault: str = ""


class Found(msgspec.Struct, frozen=True):
    """Windows as a JSON array; `more` were left out. `unknown`: the query isn't run here."""

    windows: bytes = b"[]"
    more: bool = False
    unknown: bool = False
