"""Membership in a consumer group: join, sync, heartbeat, leave, by the classic protocol.

`GroupMember.run` loops for as long as the member lives: it joins, gets its partitions, hands them to `on_assigned`, and beats
until the coordinator calls for a rebalance; then it calls `on_revoked`, where positions are committed, and joins again. All
partitions are given up at every rebalance (the eager protocol). The group's leader deals the partitions out itself
(`assignors`).

Sources: the Kafka protocol guide; KIP-62 (rebalance timeout), KIP-345 (static members), KIP-394 (member id required).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from chronik.client.assignors import (
    ASSIGNORS,
    PROTOCOL_TYPE,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from chronik.client.cluster import ClusterClient
from chronik.client.errors import ClientError, check, error_code
from chronik.client.offsets import CommittedOffset, commit_offsets
from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition
from chronik.wire.messages.heartbeat import HeartbeatRequest
from chronik.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from chronik.wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from chronik.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment

LANE = "group"
_METADATA_CHECK_S = 30.0

REJOIN = frozenset({ErrorCode.REBALANCE_IN_PROGRESS, ErrorCode.ILLEGAL_GENERATION, ErrorCode.UNKNOWN_MEMBER_ID})
"""Codes that tell a member to join again."""

Listener = Callable[[list[TopicPartition]], Awaitable[None]]


class GroupMember:
    """One member of `group`, wanting `topics`. Times are in seconds; `strategies` name assignors, the preferred one first."""

    log = Logger()

    def __init__(
        self,
        cluster: ClusterClient,
        group: str,
        topics: Sequence[str],
        *,
        on_assigned: Listener,
        on_revoked: Listener,
        strategies: Sequence[str] = ("range", "roundrobin"),
        session_timeout: float = 45.0,
        rebalance_timeout: float = 60.0,
        heartbeat_interval: float = 3.0,
        instance_id: str | None = None,
    ) -> None:
        self.group = group
        self.member_id = ""
        self.generation = -1
        self._cluster = cluster
        self._topics = list(topics)
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._strategies = list(strategies)
        self._session_timeout = session_timeout
        self._rebalance_timeout = rebalance_timeout
        self._heartbeat_interval = heartbeat_interval
        self._instance_id = instance_id
        self._partition_counts: dict[str, int] | None = None

    async def run(self) -> None:
        """Be a member until cancelled. Raises KafkaError for what joining again cannot mend (authorisation, fencing)."""
        while True:
            assignment = await self._join()
            await self._on_assigned(assignment)
            try:
                await self._beat()
            finally:
                await self._on_revoked(assignment)

    async def commit(self, offsets: Mapping[TopicPartition, CommittedOffset]) -> None:
        """Commit as this member. Raises KafkaError with a code of REJOIN when the group has moved on."""
        await commit_offsets(
            self._cluster,
            self.group,
            offsets,
            generation=self.generation,
            member_id=self.member_id,
            instance_id=self._instance_id,
            lane=LANE,
        )

    async def leave(self) -> None:
        """Tell the coordinator, so that the others need not wait for the session to time out. Static members just go."""
        if not self.member_id or self._instance_id is not None:
            return
        node_id = await self._cluster.coordinator(self.group)
        connection = await self._cluster.connection(node_id, LANE)
        if connection.version_of(LeaveGroupRequest) >= 3:
            request = LeaveGroupRequest(group_id=self.group, members=[MemberIdentity(member_id=self.member_id)])
        else:
            request = LeaveGroupRequest(group_id=self.group, member_id=self.member_id)
        self.member_id, self.generation = "", -1
        response = await connection.request(request, timeout=self._cluster.request_timeout)
        check(response.error_code, f"leaving group {self.group!r}")

    # --- joining

    async def _join(self) -> list[TopicPartition]:
        """Join and sync until the coordinator gives an assignment."""
        while True:
            joined = await self._send_join()
            code = error_code(joined.error_code)
            if code == ErrorCode.MEMBER_ID_REQUIRED:
                self.member_id = joined.member_id
                continue
            if code in REJOIN:
                self._start_over(code)
                continue
            check(code, f"joining group {self.group!r}")
            self.member_id, self.generation = joined.member_id, joined.generation_id
            shares = await self._share_out(joined)
            synced = await self._cluster.send_to_coordinator(
                self.group,
                SyncGroupRequest(
                    group_id=self.group,
                    generation_id=self.generation,
                    member_id=self.member_id,
                    group_instance_id=self._instance_id,
                    protocol_type=PROTOCOL_TYPE,
                    protocol_name=joined.protocol_name,
                    assignments=[
                        SyncGroupRequestAssignment(member_id=member, assignment=encode_assignment(partitions))
                        for member, partitions in shares.items()
                    ],
                ),
                lambda response: int(response.error_code),
                lane=LANE,
                timeout=self._rebalance_timeout + 5.0,
            )
            code = error_code(synced.error_code)
            if code in REJOIN:
                self._start_over(code)
                continue
            check(code, f"joining group {self.group!r}")
            return decode_assignment(bytes(synced.assignment))

    def _start_over(self, code: ErrorCode) -> None:
        if code == ErrorCode.UNKNOWN_MEMBER_ID:
            self.member_id = ""
        self.generation = -1

    async def _send_join(self) -> JoinGroupResponse:
        metadata = encode_subscription(self._topics)
        request = JoinGroupRequest(
            group_id=self.group,
            session_timeout_ms=int(self._session_timeout * 1000),
            rebalance_timeout_ms=int(self._rebalance_timeout * 1000),
            member_id=self.member_id,
            group_instance_id=self._instance_id,
            protocol_type=PROTOCOL_TYPE,
            protocols=[JoinGroupRequestProtocol(name=name, metadata=metadata) for name in self._strategies],
        )
        response: JoinGroupResponse = await self._cluster.send_to_coordinator(
            self.group,
            request,
            lambda response: int(response.error_code),
            lane=LANE,
            timeout=self._rebalance_timeout + 5.0,
        )
        return response

    async def _share_out(self, joined: JoinGroupResponse) -> dict[str, list[TopicPartition]]:
        """The leader's work: every member's partitions. Empty for the others, and where the coordinator says to skip it."""
        self._partition_counts = None
        if joined.leader != joined.member_id:
            return {}
        members = {m.member_id: decode_subscription(bytes(m.metadata)) for m in joined.members}
        self._partition_counts = await self._count_partitions(
            sorted({t for topics in members.values() for t in topics})
        )
        if joined.skip_assignment:
            return {}
        assignor = ASSIGNORS[joined.protocol_name or self._strategies[0]]
        return assignor(members, self._partition_counts)

    async def _count_partitions(self, topics: Sequence[str]) -> dict[str, int]:
        metadata = await self._cluster.refresh(topics)
        return {name: len(metadata.topics[name].partitions) for name in topics if name in metadata.topics}

    # --- staying

    async def _beat(self) -> None:
        """Heartbeat until the member has to join again; as leader, also watch for new partitions."""
        checked = self._cluster.reactor.seconds()
        while True:
            await self._cluster.pause(self._heartbeat_interval)
            request = HeartbeatRequest(
                group_id=self.group,
                generation_id=self.generation,
                member_id=self.member_id,
                group_instance_id=self._instance_id,
            )
            try:
                response = await self._cluster.send_to_coordinator(
                    self.group,
                    request,
                    lambda response: int(response.error_code),
                    lane=LANE,
                    retry_for=self._session_timeout,
                )
            except CancelledError:
                raise
            except ClientError as problem:
                self.log.warn(
                    "group {group}: no heartbeat got through, joining again: {problem}",
                    group=self.group,
                    problem=problem,
                )
                return
            code = error_code(response.error_code)
            if code in REJOIN:
                if code == ErrorCode.UNKNOWN_MEMBER_ID:
                    self.member_id = ""
                return
            if code:
                raise KafkaError(code, f"the membership in group {self.group!r}")
            now = self._cluster.reactor.seconds()
            if self._partition_counts is not None and now - checked >= _METADATA_CHECK_S:
                checked = now
                if await self._count_partitions(sorted(self._partition_counts)) != self._partition_counts:
                    return
