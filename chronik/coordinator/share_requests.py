"""What is asked of share groups: heartbeats, where partitions start, to start elsewhere, to forget topics (KIP-932)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chronik.coordinator.runtime import Coordinator
from chronik.coordinator.share_group import Kept
from chronik.coordinator.share_heartbeats import check_share_request
from chronik.coordinator.share_offsets import alter_share_offsets, delete_share_state
from chronik.coordinator.share_settling import each_partition
from chronik.errors import KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.model import SharePartitionKey, Topic, Uuid
from chronik.wire.messages.share_group_heartbeat import ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse


class Started(NamedTuple):
    """Where a share partition starts, as it was written last; the offset is -1 where nobody knows."""

    offset: int
    leader_epoch: int


class ShareRequests:
    """What is asked of the share groups that `groups` coordinates."""

    def __init__(self, groups: Coordinator, metadata: IClusterMetadata, clock: IReactorTime) -> None:
        self._groups = groups
        self._metadata = metadata
        self._clock = clock

    def heartbeat(
        self, request: ShareGroupHeartbeatRequest, client_id: str | None, client_host: str
    ) -> Deferred[ShareGroupHeartbeatResponse]:
        """ShareGroupHeartbeat: fires when what it changes is in the log."""
        check_share_request(request)
        hosted = self._groups.host(request.group_id)
        shard = hosted.check()
        answer: Deferred[ShareGroupHeartbeatResponse] = Deferred()
        hosted.carry_out(shard.shares.heartbeat(request, client_id or "", f"/{client_host}", answer, hosted.now))
        return answer

    # Start offsets.

    def topic(self, name: str) -> Topic | None:
        """The topic of that name."""
        return self._metadata.topic(name)

    def known(self, group_id: str) -> dict[Uuid, Kept]:
        """The partitions of which state is kept for a group, of topics that there are; none of an unknown group."""
        group = self._groups.host(group_id).check().shares.groups.get(group_id)
        if group is None:
            return {}
        topics = ((topic_id, self._metadata.topic_by_id(topic_id)) for topic_id in group.initialised)
        return {
            topic_id: Kept(topic.name, group.initialised[topic_id].partitions)
            for topic_id, topic in topics
            if topic is not None
        }

    async def starts(self, group_id: str, topics: Mapping[Uuid, Collection[int]]) -> dict[tuple[Uuid, int], Started]:
        """Where partitions start. One that cannot be asked about starts nowhere."""
        found: dict[tuple[Uuid, int], Started] = {}

        async def ask(key: SharePartitionKey) -> None:
            found[key.topic_id, key.partition] = Started(*await self._groups.share_states.start_of(key))

        kept = {topic_id: Kept("", frozenset(partitions)) for topic_id, partitions in topics.items()}
        for place in await each_partition(group_id, kept, ask, self._clock):
            found[place] = Started(-1, 0)
        return found

    async def alter(
        self, group_id: str, topics: Mapping[Uuid, Mapping[int, int]]
    ) -> Mapping[tuple[Uuid, int], KafkaError]:
        """Start partitions that there are at an offset each; what went wrong with some.

        Raises KafkaError(INVALID_GROUP_ID, GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP).
        """
        names = {topic_id: topic.name for topic_id in topics if (topic := self._metadata.topic_by_id(topic_id))}
        return await alter_share_offsets(
            self._groups.host(group_id), self._groups.share_states, group_id, topics, names, self._clock
        )

    async def delete(self, group_id: str, topic_ids: Collection[Uuid]) -> Mapping[Uuid, KafkaError | None] | None:
        """Forget where partitions of topics start; how it went, for each topic of which anything was kept.

        None for a group of which nothing is. Raises KafkaError(INVALID_GROUP_ID, GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP).
        """
        hosted = self._groups.host(group_id)
        group = hosted.check().shares.existing(group_id)
        outcomes = await delete_share_state(hosted, self._groups.share_states, group_id, topic_ids, self._clock)
        return outcomes if group.has_state else None
