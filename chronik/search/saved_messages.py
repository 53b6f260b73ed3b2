"""What processes that search are asked about saved searches, and answer: msgspec structs, carried by `chronik.workers`."""

from __future__ import annotations

import msgspec

from chronik.search.messages import Costs


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    """About a partition of `topic`, from offset `start` to `upper` (not included).

    `query` and `mapping` are texts as in `chronik.model.SavedSearch`. It ends early after `seconds`, or `scan_bytes` that were
    gone through.
    """

    topic: str
    topic_id: bytes
    partition: int
    start: int
    upper: int
    query: str
    mapping: str
    seconds: float
    scan_bytes: int


class Select(_Request, frozen=True, kw_only=True):
    """Which records match, in their order? It also ends when there are `max_bytes` of batches."""

    max_bytes: int


class CountMatches(_Request, frozen=True, kw_only=True):
    """How many records match, by windows of `per_ms` of their own time?"""

    per_ms: int


class Piece(msgspec.Struct, frozen=True):
    """A part of the batches, of which there are more."""

    data: bytes


class Selected(msgspec.Struct, frozen=True, kw_only=True):
    """What was found below `reached`: the batches, of which `data` are the last bytes, behind those of all `Piece`s.

    `ends` has the offset behind each batch and its size. `unknown`: the process doesn't know of the partition (yet).
    `failure`: why it could not read on.
    """

    reached: int
    data: bytes = b""
    ends: tuple[tuple[int, int], ...] = ()
    records: int = 0
    unknown: bool = False
    failure: str = ""
    costs: Costs


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the records below `reached` match: (begin of the window in ms, count). Else as `Selected`."""

    reached: int
    windows: tuple[tuple[int, int], ...] = ()
    unknown: bool = False
    failure: str = ""
    costs: Costs
