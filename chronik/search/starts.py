"""Where a tail begins: at the end, at the beginning, at a time, or where another one has stopped.

`latest`; `earliest`; a time, as epoch milliseconds or ISO 8601, which is the first record at or after it; or the positions that
a tail was told, as JSON: `{"events":{"0":17,"1":4}}`, the next offset by topic and partition. What these don't name begins at
its beginning: it was not there when they were told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from chronik.search.dates import resolve_date
from chronik.search.parcels import Missing, Place
from chronik.search.query import QueryError

LATEST, EARLIEST = "latest", "earliest"
_MAX_OFFSET = 2**63 - 1
_MILLISECONDS = re.compile(r"[0-9]{1,18}", re.ASCII)
_Vector = Mapping[str, Mapping[str, int]]


class Start(NamedTuple):
    """`kind` is latest, earliest, time or positions."""

    kind: str
    time_ms: int = 0
    positions: Mapping[Place, int] = {}


def parse_start(text: str, now_ms: int) -> Start:
    """What `text` says. Raises QueryError."""
    if text in (LATEST, EARLIEST):
        return Start(text)
    if text.startswith("{"):
        return Start("positions", positions=_positions(text))
    if _MILLISECONDS.fullmatch(text):
        return Start("time", time_ms=int(text))
    try:
        return Start("time", time_ms=resolve_date(text, now_ms))
    except QueryError:
        raise QueryError(
            f"from: `{text[:50]}` is none of latest, earliest, a time, or positions as a tail tells them"
        ) from None


def _positions(text: str) -> dict[Place, int]:
    try:
        vector = msgspec.json.decode(text, type=dict[str, dict[str, int]])
        found = {
            Place(topic, _number(partition)): offset
            for topic, partitions in vector.items()
            for partition, offset in partitions.items()
        }
    except (msgspec.MsgspecError, ValueError, RecursionError) as problem:
        raise QueryError(f"from: no positions as a tail tells them: {problem}") from None
    for place, offset in found.items():
        if not 0 <= offset <= _MAX_OFFSET:
            raise QueryError(f"from: {offset} is no offset of partition {place.partition} of {place.topic[:249]}")
    return found


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 11):
        raise ValueError(f"{text[:20]!r} is no partition")
    return int(text)


class Begun(NamedTuple):
    """The offset from which on a partition is tailed, and what is missing before it, with the reason."""

    offset: int
    missing: Missing | None = None
    why: str = ""


def start_offset(start: Start, place: Place, first: int, stable: int, at_time: Callable[[int], int | None]) -> Begun:
    """Where to begin in a partition that has offsets `first` to `stable`; `at_time` finds the first one at or after a time."""
    if start.kind == LATEST:
        return Begun(stable)
    if start.kind == EARLIEST:
        return Begun(first)
    if start.kind == "time":
        found = at_time(start.time_ms)
        return Begun(stable if found is None else max(min(found, stable), first))
    wanted = start.positions.get(place, first)
    if wanted < first:
        return Begun(first, Missing(place, wanted, first - 1), "they are deleted")
    if wanted > stable:
        return Begun(stable, Missing(place, stable, wanted - 1), "the log ends before them")
    return Begun(wanted)
