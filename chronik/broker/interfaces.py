"""The broker's own seams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

from chronik.model import TopicPartition, Uuid

if TYPE_CHECKING:
    from chronik.broker.outcomes import Fetched
    from chronik.broker.purgatory import WaitingFetch
    from chronik.log.producers import ProducerEntry


class IReadablePartition(Interface):
    """What can be read of a partition: one that has a log, or one of a saved search, which is a view of such a one."""

    name: TopicPartition = Attribute("The partition by topic name.")
    leader: int = Attribute("The node that leads it.")
    leader_epoch: int = Attribute("The epoch of that.")
    high_watermark: int = Attribute("The end of what is committed.")
    last_stable_offset: int = Attribute("The end of what no open transaction holds back.")
    log_start_offset: int = Attribute("The first offset that can be read.")
    fetch_waiters: set[WaitingFetch] = Attribute("Fetches that wait for what is committed.")
    stable_waiters: set[WaitingFetch] = Attribute("Fetches that wait for what is stable.")

    def check_leader_epoch(epoch: int) -> None:
        """Refuse a client whose idea of the leader epoch is older or newer than ours (KIP-320); below 0 is no idea."""

    def read(offset: int, max_bytes: int, committed_only: bool, at_least_one: bool) -> Fetched:
        """Whole batches from the one that holds `offset`, at most `max_bytes`, but one in any case if `at_least_one`.

        Raises KafkaError(OFFSET_OUT_OF_RANGE) below the log's start or beyond its end, KAFKA_STORAGE_ERROR.
        """

    def diverging_epoch(last_fetched_epoch: int, fetch_offset: int) -> tuple[int, int] | None:
        """(epoch, end offset) where a reader's history leaves ours, or None when it doesn't (KIP-595)."""

    def epoch_end(epoch: int) -> tuple[int, int]:
        """The largest leader epoch at or below `epoch` and the offset after its last record; (-1, -1) if there is none."""

    def epoch_of(offset: int) -> int:
        """The leader epoch in which `offset` was or will be written, -1 when none is known."""

    def offset_for_timestamp(timestamp: int) -> tuple[int, int, int] | None:
        """(timestamp, offset, leader epoch) of a committed record: none before it is at or after `timestamp`."""

    def max_timestamp() -> tuple[int, int, int] | None:
        """(timestamp, offset, leader epoch) of the committed record with the largest timestamp."""

    def producers() -> Sequence[ProducerEntry]:
        """The idempotent producers that it remembers."""


class IReadablePartitions(Interface):
    """Finds what can be read on this node."""

    def partition(topic: str, index: int) -> IReadablePartition:
        """The partition by topic name. Raises KafkaError: UNKNOWN_TOPIC_OR_PARTITION, KAFKA_STORAGE_ERROR."""

    def partition_by_id(topic_id: Uuid, index: int) -> IReadablePartition:
        """The partition by topic id. Raises KafkaError(UNKNOWN_TOPIC_ID) too."""
