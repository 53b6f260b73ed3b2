"""Offsets asked for and written down: a partition's ends, the offset of a time, and what a group has committed.

Each function routes its requests to the leaders or to the group's coordinator, and repeats them while those move.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from chronik.client.cluster import ClusterClient
from chronik.client.errors import check
from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition
from chronik.wire.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from chronik.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from chronik.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from chronik.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)

LATEST, EARLIEST = -1, -2
"""The timestamps that ListOffsets takes for a partition's end and beginning."""

LEADER_MOVED = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.BROKER_NOT_AVAILABLE,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.REQUEST_TIMED_OUT,
    }
)
"""Codes after which the metadata are asked for again and the request goes to the new leader."""


class CommittedOffset(NamedTuple):
    """Where a group goes on reading: `offset` is the next one. `metadata` is the committer's own text."""

    offset: int
    leader_epoch: int = -1
    metadata: str = ""


async def list_offsets(
    cluster: ClusterClient,
    wanted: Mapping[TopicPartition, int],
    *,
    read_committed: bool = False,
    timeout: float | None = None,
) -> dict[TopicPartition, int]:
    """The offset of each partition's timestamp: LATEST, EARLIEST, or ms since the epoch.

    For a time it is the first record at or after it, and -1 where there is none. Raises KafkaError for an unknown partition,
    and the last failure when a leader is not found in `timeout` seconds.
    """
    found: dict[TopicPartition, int] = {}

    async def attempt() -> dict[TopicPartition, int]:
        missing = {tp: timestamp for tp, timestamp in wanted.items() if tp not in found}
        try:
            for node_id, share in (await _by_leader(cluster, missing)).items():
                await _list_from(cluster, node_id, share, read_committed, found)
        except Exception:
            await cluster.refresh(sorted({tp.topic for tp in wanted}))
            raise
        return found

    return await cluster.retrying(attempt, LEADER_MOVED, timeout)


async def _by_leader(
    cluster: ClusterClient, wanted: Mapping[TopicPartition, int]
) -> dict[int, dict[TopicPartition, int]]:
    metadata = await cluster.topics(sorted({tp.topic for tp in wanted}))
    by_leader: dict[int, dict[TopicPartition, int]] = {}
    for tp, timestamp in wanted.items():
        leader = metadata.partition(tp).leader
        if leader < 0:
            raise KafkaError(ErrorCode.LEADER_NOT_AVAILABLE, f"partition {tp} has no leader")
        by_leader.setdefault(leader, {})[tp] = timestamp
    return by_leader


async def _list_from(
    cluster: ClusterClient,
    node_id: int,
    wanted: Mapping[TopicPartition, int],
    read_committed: bool,
    found: dict[TopicPartition, int],
) -> None:
    topics: dict[str, list[ListOffsetsPartition]] = {}
    for (topic, partition), timestamp in wanted.items():
        topics.setdefault(topic, []).append(ListOffsetsPartition(partition_index=partition, timestamp=timestamp))
    request = ListOffsetsRequest(
        replica_id=-1,
        isolation_level=int(read_committed),
        topics=[ListOffsetsTopic(name=name, partitions=partitions) for name, partitions in topics.items()],
        timeout_ms=int(cluster.request_timeout * 1000),
    )
    response = await cluster.send(node_id, request)
    for topic in response.topics:
        for answer in topic.partitions:
            answered = TopicPartition(topic.name, answer.partition_index)
            check(answer.error_code, f"the offsets of partition {answered}")
            found[answered] = answer.offset


async def committed_offsets(
    cluster: ClusterClient, group: str, partitions: Iterable[TopicPartition] | None = None
) -> dict[TopicPartition, CommittedOffset]:
    """What `group` has committed, for `partitions` or (None) for all it has; partitions without a commit are left out."""
    topics = None if partitions is None else _by_topic(partitions)
    connection = await cluster.connection(
        await cluster.retrying(lambda: cluster.coordinator(group), {*_COORDINATOR_WAIT})
    )
    if connection.version_of(OffsetFetchRequest) >= 8:
        wanted = None
        if topics is not None:
            wanted = [OffsetFetchRequestTopics(name=n, partition_indexes=p) for n, p in topics.items()]
        request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=wanted)])
    else:
        old = None
        if topics is not None:
            old = [OffsetFetchRequestTopic(name=n, partition_indexes=p) for n, p in topics.items()]
        request = OffsetFetchRequest(group_id=group, topics=old)
    response = await cluster.send_to_coordinator(group, request, _fetch_error)
    check(_fetch_error(response), f"the offsets of group {group!r}")
    found: dict[TopicPartition, CommittedOffset] = {}
    for topic in response.groups[0].topics if response.groups else response.topics:
        for answer in topic.partitions:
            partition = TopicPartition(topic.name, answer.partition_index)
            check(answer.error_code, f"the offset of group {group!r} in {partition}")
            if answer.committed_offset >= 0:
                found[partition] = CommittedOffset(
                    answer.committed_offset, answer.committed_leader_epoch, answer.metadata or ""
                )
    return found


_COORDINATOR_WAIT = (
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.BROKER_NOT_AVAILABLE,
)


def _fetch_error(response: Any) -> int:
    return int(response.groups[0].error_code if response.groups else response.error_code)


async def commit_offsets(
    cluster: ClusterClient,
    group: str,
    offsets: Mapping[TopicPartition, CommittedOffset],
    *,
    generation: int = -1,
    member_id: str = "",
    instance_id: str | None = None,
    lane: str = "",
) -> None:
    """Write `offsets` down for `group`, as a member of `generation` or, by default, as an outsider of an empty group.

    Raises KafkaError with the first partition's code that is not 0: UNKNOWN_MEMBER_ID for an outsider of a living group,
    REBALANCE_IN_PROGRESS and ILLEGAL_GENERATION for a member that has to join again.
    """
    if not offsets:
        return
    topics: dict[str, list[OffsetCommitRequestPartition]] = {}
    for (topic, partition), committed in offsets.items():
        topics.setdefault(topic, []).append(
            OffsetCommitRequestPartition(
                partition_index=partition,
                committed_offset=committed.offset,
                committed_leader_epoch=committed.leader_epoch,
                committed_metadata=committed.metadata,
            )
        )
    request = OffsetCommitRequest(
        group_id=group,
        generation_id_or_member_epoch=generation,
        member_id=member_id,
        group_instance_id=instance_id,
        topics=[OffsetCommitRequestTopic(name=name, partitions=partitions) for name, partitions in topics.items()],
    )
    response = await cluster.send_to_coordinator(group, request, _first_error, lane=lane)
    for answer_topic in response.topics:
        for answer in answer_topic.partitions:
            check(answer.error_code, f"the offset of group {group!r} in {answer_topic.name}-{answer.partition_index}")


async def delete_offsets(cluster: ClusterClient, group: str, partitions: Iterable[TopicPartition]) -> None:
    """Forget what `group` committed in `partitions`. Raises KafkaError(GROUP_SUBSCRIBED_TO_TOPIC) while it reads them."""
    request = OffsetDeleteRequest(
        group_id=group,
        topics=[
            OffsetDeleteRequestTopic(
                name=name, partitions=[OffsetDeleteRequestPartition(partition_index=p) for p in numbers]
            )
            for name, numbers in _by_topic(partitions).items()
        ],
    )
    response = await cluster.send_to_coordinator(group, request, lambda r: int(r.error_code))
    check(response.error_code, f"the offsets of group {group!r}")
    for topic in response.topics:
        for answer in topic.partitions:
            check(answer.error_code, f"the offset of group {group!r} in {topic.name}-{answer.partition_index}")


def _first_error(response: Any) -> int:
    return next((p.error_code for t in response.topics for p in t.partitions if p.error_code), 0)


def _by_topic(partitions: Iterable[TopicPartition]) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = {}
    for topic, partition in partitions:
        topics.setdefault(topic, []).append(partition)
    return topics
