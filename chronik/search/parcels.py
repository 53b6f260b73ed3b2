"""What a tail sends to its clients: JSON texts, each with its `type`. The protocol is described in docs/tail.md.

A **parcel** is one such message. Those with hits know which they have, so that they can be counted, or sent in part; its text
is made when it is first asked for, and shared by all clients that get it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

_encode = msgspec.json.Encoder().encode
_OVERHEAD = 26

Positions = Mapping[str, Mapping[str, int]]
"""By topic and partition, as JSON has it: the next offset."""


class Place(NamedTuple):
    """A partition, by name."""

    topic: str
    partition: int


class ParcelHit(NamedTuple):
    """A hit: the node's number of its partition, its offset, and its JSON."""

    part: int
    offset: int
    json: bytes


class Parcel:
    """A message with hits; `size` is about that of its text."""

    __slots__ = ("_text", "frame", "hits", "size")

    def __init__(self, hits: Sequence[ParcelHit]) -> None:
        self.hits = hits
        self.size = sum(len(hit.json) for hit in hits) + len(hits) + _OVERHEAD
        self.frame: bytes | None = None
        """For whoever sends it to many: what the text becomes on the wire."""
        self._text: bytes | None = None

    @property
    def text(self) -> bytes:
        """The message."""
        if self._text is None:
            self._text = b'{"type":"hits","hits":[' + b",".join([hit.json for hit in self.hits]) + b"]}"
        return self._text

    def since(self, floors: Mapping[int, int]) -> Parcel:
        """This parcel without hits below the offsets, by partition; itself where there are none."""
        left = [hit for hit in self.hits if hit.offset >= floors.get(hit.part, 0)]
        return self if len(left) == len(self.hits) else Parcel(left)


class Note:
    """A message without hits, its text known."""

    __slots__ = ("frame", "size", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.size = len(text)
        self.frame: bytes | None = None


class Missing(NamedTuple):
    """Offsets of a partition in which something is that was not sent, both included."""

    place: Place
    first: int
    last: int


def hello(query: str, positions: Positions) -> Note:
    """The first message: what is looked for, and from where on."""
    return Note(_encode({"type": "hello", "query": query, "positions": positions}))


def positions_note(positions: Positions) -> Note:
    """All hits below these offsets are sent, or told of as dropped."""
    return Note(_encode({"type": "positions", "positions": positions}))


def dropped_note(count: int, missing: Iterable[Missing]) -> Note:
    """So many hits, which lie at these offsets, were not sent: the client is too slow, or the node."""
    return Note(_encode({"type": "dropped", "count": count, "ranges": _ranges(missing)}))


def skipped_note(missing: Iterable[Missing], reason: str) -> Note:
    """Nobody knows how many hits there were at these offsets, and why."""
    return Note(_encode({"type": "skipped", "reason": reason, "ranges": _ranges(missing)}))


def error_note(status: int, reason: str, position: int | None = None) -> Note:
    """The last message before the connection is closed. `position` is where in the query it is wrong."""
    told: dict[str, object] = {"type": "error", "status": status, "reason": reason}
    if position is not None:
        told["position"] = position
    return Note(_encode(told))


def by_name(places: Iterable[tuple[Place, int]]) -> dict[str, dict[str, int]]:
    """Offsets as JSON has them."""
    found: dict[str, dict[str, int]] = {}
    for place, offset in places:
        found.setdefault(place.topic, {})[str(place.partition)] = offset
    return found


def _ranges(missing: Iterable[Missing]) -> list[dict[str, object]]:
    return [
        {"topic": place.topic, "partition": place.partition, "first": first, "last": last}
        for place, first, last in missing
    ]
