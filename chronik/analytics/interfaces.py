"""The seams of analytics: who writes what continuous queries come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from chronik.analytics.query_messages import Producer
from chronik.model import ContinuousQuery


class Written(NamedTuple):
    """A step: topic, partition and batch, in the order in which they are appended; `offsets` of the topic `source`."""

    batches: Sequence[tuple[str, int, bytes]]
    source: str
    offsets: Mapping[int, int]


class QueryWriter(Protocol):
    """Writes what queries come to. Everything raises KafkaError; after PRODUCER_FENCED and the like the life is over."""

    async def begin(self, query: ContinuousQuery) -> Producer:
        """Fence who wrote for the query before, and end what he left open."""

    async def commit(self, query: ContinuousQuery, producer: Producer, step: Written) -> Producer:
        """Write a step as one transaction; the producer of the next one."""

    async def forget(self, query: ContinuousQuery) -> None:
        """A query was dropped: its offsets are not needed any more."""

    async def erase(self, topic: str, partition: int, batches: Sequence[bytes]) -> None:
        """Append tombstones."""
