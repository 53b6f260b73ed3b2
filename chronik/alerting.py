"""What looks after the alerts of a node: counting is the search's, their state a group's, what they tell goes to a log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chronik.broker.replicas import Replicas
from chronik.coordinator.runtime import Coordinator
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.model import Alert, TopicPartition
from chronik.search.alerting import Alerting
from chronik.search.service import SearchService
from chronik.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)

GROUP_PREFIX = "chronik-alert-"
_COMMIT_VERSION = 8


def alerting(
    search: SearchService,
    metadata: IClusterMetadata,
    replicas: Replicas,
    groups: Coordinator,
    wall_clock_ms: Callable[[], int],
    clock: Any,
) -> Alerting:
    """The service, not started."""
    return Alerting(
        metadata, search.selecting, replicas.partition_by_id, GroupStates(groups), replicas.append, wall_clock_ms, clock
    )


class GroupStates:
    """Keeps the state of an alert as the offsets of a group of its name; the text is the metadata of partition 0's.

    The offsets of one request are in one batch of the log, so they are kept together or not at all.
    """

    def __init__(self, groups: Coordinator) -> None:
        self._groups = groups

    async def load(self, alert: Alert, search: str) -> tuple[dict[int, int], str]:
        """See `chronik.search.alerting.AlertStates`."""
        found = await self._groups.fetch_offsets(_group(alert.name), None, require_stable=False)
        kept = {place.partition: committed for place, committed, _ in found if place.topic == search and committed}
        text = kept[0].metadata if 0 in kept else ""
        return {partition: committed.offset for partition, committed in kept.items()}, text

    async def save(self, alert: Alert, search: str, offsets: dict[int, int], text: str) -> None:
        """See `chronik.search.alerting.AlertStates`."""
        partitions = [
            OffsetCommitRequestPartition(
                partition_index=partition, committed_offset=offset, committed_metadata="" if partition else text
            )
            for partition, offset in sorted(offsets.items())
        ]
        request = OffsetCommitRequest(
            group_id=_group(alert.name), topics=[OffsetCommitRequestTopic(name=search, partitions=partitions)]
        )
        response = await self._groups.commit(request, _COMMIT_VERSION)
        for topic in response.topics:
            for partition in topic.partitions:
                if partition.error_code:
                    place = TopicPartition(search, partition.partition_index)
                    raise KafkaError(
                        ErrorCode(partition.error_code), f"its state, beside the offset of {place}, is refused"
                    )

    async def drop(self, name: str) -> None:
        """See `chronik.search.alerting.AlertStates`."""
        try:
            await self._groups.delete(_group(name))
        except KafkaError as error:
            if error.code != ErrorCode.GROUP_ID_NOT_FOUND:
                raise


def _group(name: str) -> str:
    return GROUP_PREFIX + name
