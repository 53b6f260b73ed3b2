"""What the node tells the processes that search, and asks them: msgspec structs, carried by `chronik.workers`."""

from __future__ import annotations

from typing import Literal

import msgspec

from chronik.search.explaining import Explanation
from chronik.search.mapping import NO_MAPPING, Mapping
from chronik.search.query import Query
from chronik.search.rendering import Rendering
from chronik.search.requests import SearchRequest
from chronik.search.sorting import After, Sort

NO_LIMIT = 2**63 - 1


class Follow(msgspec.Struct, frozen=True):
    """A partition's log is at `log`, its index belongs to `index`; it may be read so far (`chronik.log.committed.Bounds`).

    `aborted` are transactions (producer id, first and last offset) that the process may not know of yet. An index on disk that
    goes beyond `limit` was made of records that the log has lost since.
    """

    topic_id: bytes
    partition: int
    log: str
    index: str
    start: int
    stable: int
    generation: int
    aborted: tuple[tuple[int, int, int], ...]
    limit: int = NO_LIMIT


class Forget(msgspec.Struct, frozen=True):
    """A partition is gone, and its index goes with it."""

    topic_id: bytes
    partition: int
    index: str


class Save(msgspec.Struct, frozen=True):
    """Write what is in memory only: the node stops in order."""


class Saved(msgspec.Struct, frozen=True):
    """It is written, as far as that was possible."""


class AskState(msgspec.Struct, frozen=True):
    """How far have the indexes of these partitions come? (topic id, partition)"""

    partitions: tuple[tuple[bytes, int], ...]


class Rebuild(msgspec.Struct, frozen=True):
    """Throw the indexes of these partitions away, and make them anew. (topic id, partition)"""

    partitions: tuple[tuple[bytes, int], ...]


class PartitionState(msgspec.Struct, frozen=True):
    """How far the index of a partition has come: see `chronik.search.partition_index.IndexState`."""

    topic_id: bytes
    partition: int
    start: int
    stable: int
    indexed_to: int
    read_to: int
    blocks: int
    undecodable: int
    damage: str


class States(msgspec.Struct, frozen=True):
    """Of the partitions that this process knows."""

    partitions: tuple[PartitionState, ...]


class Read(msgspec.Struct, frozen=True):
    """Read a request: a URL's parameters and a body, for topics with a mapping.

    `explain` is a search, and what is known of its hits beforehand.
    """

    kind: Literal["search", "count", "explain"]
    parameters: dict[str, str]
    body: bytes
    now_ms: int
    mapping: Mapping = NO_MAPPING


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a request: see `chronik.search.query.QueryError`."""

    reason: str
    position: int | None
    path: str


class ReadResult(msgspec.Struct, frozen=True):
    """The request, or what is wrong with it."""

    request: SearchRequest | None = None
    fault: Fault | None = None
    explanation: Explanation | None = None


class Finish(msgspec.Struct, frozen=True):
    """Put together what several processes counted for aggregations."""

    aggs: bytes
    now_ms: int
    counted: tuple[bytes, ...]
    mapping: Mapping = NO_MAPPING


class Finished(msgspec.Struct, frozen=True):
    """The result was told on the way."""


class SearchedPart(msgspec.Struct, frozen=True):
    """A partition that is searched, from offset `start` to `upper` (not included)."""

    topic: str
    topic_id: bytes
    partition: int
    start: int
    upper: int
    mapping: Mapping = NO_MAPPING


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """A search over the partitions of one process.

    `size` hits are wanted, the first in the order: newest first, or oldest first. Hits are counted up to `count_to`, -1 for
    all. With `sources` hits have their key, value and headers; with a `shape`, their JSON instead, but for the first `skip`
    of them. `seconds` is the time that it may take.

    By `sort`, if there is one, hits are in another order; those `after` a place in it are wanted. `aggs` are aggregations, in
    JSON that was checked. `alone`: no other process is asked.
    """

    query: Query
    parts: tuple[SearchedPart, ...]
    now_ms: int
    size: int
    count_to: int
    oldest_first: bool = False
    sources: bool = True
    shape: Rendering | None = None
    skip: int = 0
    sort: Sort | None = None
    after: After | None = None
    aggs: bytes = b""
    alone: bool = False
    seconds: float


class Hit(msgspec.Struct, frozen=True):
    """A record that matches. `part` is the number of its partition in the request.

    `rendered` is its JSON, where that was asked for; not `whole`, without its source: all hits together were too large.
    `values` are those it was sorted by, where that was not its time.
    """

    part: int
    offset: int
    timestamp: int
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    rendered: bytes = b""
    whole: bool = True
    values: tuple[str | int | float | bool | None, ...] = ()


class Costs(msgspec.Struct):
    """What was looked at: groups and blocks that there are, those left out by times and offsets and by signatures; blocks,
    tails and bytes (decoded) that were gone through; batches in which the pre-filter found nothing; records that were decided.
    """

    groups: int = 0
    blocks: int = 0
    pruned_by_bounds: int = 0
    pruned_by_signatures: int = 0
    scanned_blocks: int = 0
    tails: int = 0
    scanned_bytes: int = 0
    tail_bytes: int = 0
    filtered_batches: int = 0
    records: int = 0
    undecodable: int = 0
    seconds: float = 0.0


class Hits(msgspec.Struct, frozen=True):
    """Some of the hits, told on the way: so many or so large ones would hold up the node if they came at once.

    `rest` goes on with what was rendered of the last hit that was told, and `aggs` with what was counted.
    """

    hits: tuple[Hit, ...]
    rest: bytes = b""
    aggs: bytes = b""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one process has found; `hits` are those that were not told before, a few. `exact`: `total` is all there are.
    `unknown` are parts that the process doesn't know of (yet).

    `failures` are parts of which not all could be read, with the reason. `indexed_to`: for each part, up to which offset its
    index went. `aggs_finished`: what was told of the aggregations is their result in JSON, not what is to be put together.
    """

    hits: tuple[Hit, ...]
    total: int
    exact: bool
    timed_out: bool
    unknown: tuple[int, ...]
    failures: tuple[tuple[int, str], ...]
    indexed_to: dict[int, int] = {}
    aggs_finished: bool = False
    costs: Costs
