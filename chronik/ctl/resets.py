"""Where a group's offsets go: the ways to say it, and the offsets they come to, kept within what the log has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from chronik.client.cluster import ClusterClient
    from chronik.model import TopicPartition


class Reset(NamedTuple):
    """How to find the new offset: earliest, latest, offset, shift, time (ms since the epoch) or ago (ms)."""

    kind: str
    value: int = 0


_ISO_DURATION = re.compile(r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_SHORT_DURATION = re.compile(r"(\d+)(ms|s|m|h|d|w)")
_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def parse_duration(text: str) -> int:
    """Milliseconds of an ISO 8601 duration (PT1H30M, P7D) or a short one (90m, 7d). Raises ValueError."""
    short = _SHORT_DURATION.fullmatch(text)
    if short:
        return int(short[1]) * _MS[short[2]]
    iso = _ISO_DURATION.fullmatch(text)
    if iso and any(iso.groups()) and not text.endswith("T"):
        weeks, days, hours, minutes, seconds = (float(part or 0) for part in iso.groups())
        return int(weeks * _MS["w"] + days * _MS["d"] + hours * _MS["h"] + minutes * _MS["m"] + seconds * 1000)
    raise ValueError(f"{text!r} is no duration, as PT1H30M, P7D, 90m or 7d")


def parse_datetime(text: str) -> int:
    """Milliseconds since the epoch of an ISO 8601 time; without an offset it is UTC. Raises ValueError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time, as 2026-11-23T13:00:00.000 or 2026-11-23T13:00:00+01:00") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def parse_topics(texts: Sequence[str]) -> dict[str, list[int] | None]:
    """`topic` or `topic:0,1` options: partitions by topic, None for all. Raises ValueError."""
    topics: dict[str, list[int] | None] = {}
    for text in texts:
        name, colon, numbers = text.partition(":")
        parts = numbers.split(",") if colon else []
        if not name or not all(part.strip().isdecimal() for part in parts):
            raise ValueError(f"{text!r} is not TOPIC or TOPIC:PARTITION,…")
        topics[name] = sorted({int(part) for part in parts}) if colon else None
    return topics


async def new_offsets(
    cluster: ClusterClient, reset: Reset, current: Mapping[TopicPartition, int | None], now_ms: int
) -> dict[TopicPartition, int]:
    """The offset that each partition is to go to, at least its first and at most its end offset.

    `current` has the committed offsets, None where there are none: those shift from the end. Raises what `list_offsets` does.
    """
    from chronik.client.offsets import EARLIEST, LATEST, list_offsets

    first = await list_offsets(cluster, dict.fromkeys(current, EARLIEST))
    end = await list_offsets(cluster, dict.fromkeys(current, LATEST))
    if reset.kind == "earliest":
        return first
    if reset.kind == "latest":
        return end
    wanted: dict[TopicPartition, int] = {}
    if reset.kind in ("time", "ago"):
        moment = reset.value if reset.kind == "time" else now_ms - reset.value
        found = await list_offsets(cluster, dict.fromkeys(current, max(0, moment)))
        wanted = {tp: offset if offset >= 0 else end[tp] for tp, offset in found.items()}
    else:
        for tp, offset in current.items():
            base = end[tp] if offset is None else offset
            wanted[tp] = reset.value if reset.kind == "offset" else base + reset.value
    return {tp: min(max(offset, first[tp]), end[tp]) for tp, offset in wanted.items()}
