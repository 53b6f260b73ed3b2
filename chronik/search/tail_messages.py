"""What the node and the processes that search say to each other about tails: see `chronik.search.tailing`.

Msgspec structs, carried by `chronik.workers`. A **watch** is one query over some partitions, for any number of clients; the
node numbers watches, and the partitions that are watched (`part`).
"""

from __future__ import annotations

import msgspec

from chronik.search.mapping import NO_MAPPING, Mapping
from chronik.search.messages import SearchedPart
from chronik.search.query import Query

# -- live ----------------------------------------------------------------------------------------------------------------


class WatchedPart(msgspec.Struct, frozen=True):
    """A partition that a watch covers. Hits count from offset `floor` on.

    `wide`: no patterns are known that every hit has one of, so each record has to be decided.
    """

    part: int
    topic: str
    topic_id: bytes
    partition: int
    floor: int
    wide: bool
    mapping: Mapping = NO_MAPPING


class Watch(msgspec.Struct, frozen=True):
    """Look for a query in these partitions from now on. Of a watch that is known, these are all that it covers now.

    `sequence` grows with every such news. `now_ms` is what `now` means in dates.
    """

    sequence: int
    number: int
    query: Query
    now_ms: int
    parts: tuple[WatchedPart, ...]


class Unwatch(msgspec.Struct, frozen=True):
    """Look for it no more."""

    number: int


class Choke(msgspec.Struct, frozen=True):
    """None of the clients of a watch can take anything: count its hits, and send none. Or: send them again."""

    number: int
    choked: bool


class Taken(msgspec.Struct, frozen=True):
    """So many bytes of hits (`Matched.size`) are dealt with: more may come."""

    size: int


class Tail(msgspec.Struct, frozen=True):
    """The job of telling hits. It never ends by itself."""


class TailHit(msgspec.Struct, frozen=True, array_like=True):
    """A record that matches, as JSON, and the watches that it is a hit of."""

    part: int
    offset: int
    watches: tuple[int, ...]
    json: bytes


class Counted(msgspec.Struct, frozen=True, array_like=True):
    """Hits that were not sent: how many, and the first and last of their offsets.

    `late`: they would have come too late. Else none of the clients could take anything.
    """

    part: int
    watch: int
    count: int
    first: int
    last: int
    late: bool


class Reached(msgspec.Struct, frozen=True, array_like=True):
    """All hits of a partition below `offset` are told, of the watches that are wide or of those that are not."""

    part: int
    wide: bool
    offset: int


class Skipped(msgspec.Struct, frozen=True, array_like=True):
    """Offsets of a partition, `following` not included, were not looked at, and why."""

    part: int
    wide: bool
    first: int
    following: int
    why: str


class Matched(msgspec.Struct, frozen=True, kw_only=True):
    """What has come since the last time. `seen` is the sequence of the last `Watch` that is considered."""

    seen: int
    hits: tuple[TailHit, ...] = ()
    counted: tuple[Counted, ...] = ()
    reached: tuple[Reached, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    size: int = 0


class Ended(msgspec.Struct, frozen=True):
    """The job of telling hits has no end: this is never sent."""


# -- the past ------------------------------------------------------------------------------------------------------------


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """Which records of these parts match, in the order of their offsets, part by part?

    Ends early at `max_hits` or `max_bytes` of hits, and after `seconds`.
    """

    query: Query
    parts: tuple[SearchedPart, ...]
    now_ms: int
    max_hits: int
    max_bytes: int
    seconds: float


class ReplayedHit(msgspec.Struct, frozen=True, array_like=True):
    """A record that matches, as JSON. `part` is the number of its partition in the request."""

    part: int
    offset: int
    json: bytes


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """The hits, and for each part the offset up to which it was looked through.

    `unknown` are parts that the process doesn't know of (yet), `failures` those that cannot be read from there on, and why.
    """

    hits: tuple[ReplayedHit, ...]
    reached: tuple[int, ...]
    unknown: tuple[int, ...] = ()
    failures: tuple[tuple[int, str], ...] = ()
