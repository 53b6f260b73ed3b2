"""Who may commit, delete and keep offsets: decisions about the offsets of the groups of one partition, whatever their protocol.

A decision changes nothing: it returns records, and the answer that is due once they are in the log. What is committed is in
`chronik.coordinator.offsets`. Pure. Sources: KIP-496 (OffsetDelete), KIP-447 (commits in transactions), KIP-848; the checks
and codes of Kafka 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import NamedTuple

from chronik.coordinator import offsets
from chronik.coordinator.consumer_describe import check_commit
from chronik.coordinator.consumer_group import ConsumerGroup
from chronik.coordinator.effects import GroupState
from chronik.coordinator.group import Group
from chronik.coordinator.offsets import OffsetStore
from chronik.coordinator.records import Entry
from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition
from chronik.wire.messages.offset_commit import OffsetCommitRequest, OffsetCommitResponse
from chronik.wire.messages.txn_offset_commit import TxnOffsetCommitRequest, TxnOffsetCommitResponse

_GROUP_ID_NOT_FOUND_SINCE = 9  # of OffsetCommit


class Decision(NamedTuple):
    """Records to append in one batch, and the answer once they are committed."""

    entries: list[Entry]
    response: OffsetCommitResponse


class TransactionalDecision(NamedTuple):
    """As `Decision`, for records that belong to a transaction."""

    entries: list[Entry]
    response: TxnOffsetCommitResponse


class Commits:
    """Decides by the live `classic` groups, `consumers` and `shares`, and by what `store` holds; all are the shard's own."""

    def __init__(
        self,
        classic: Mapping[str, Group],
        consumers: Mapping[str, ConsumerGroup],
        shares: Container[str],
        store: OffsetStore,
        metadata_max_bytes: int,
    ) -> None:
        self._classic = classic
        self._consumers = consumers
        self._shares = shares
        self._store = store
        self._metadata_max_bytes = metadata_max_bytes

    def commit(self, request: OffsetCommitRequest, version: int, now: int, wall_ms: int) -> Decision:
        """OffsetCommit. Raises KafkaError when the member may not commit at all."""
        self._check_kind(request.group_id)
        group = self._classic.get(request.group_id)
        generation = request.generation_id_or_member_epoch
        consumers = self._consumers.get(request.group_id)
        if consumers is not None:
            check_commit(consumers, request.member_id, generation, version)
        elif group is not None:
            group.check_commit(request.member_id, request.group_instance_id, generation, now)
        elif generation >= 0:
            if version >= _GROUP_ID_NOT_FOUND_SINCE:
                raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {request.group_id} not found.")
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION, f"Group {request.group_id} not found.")
        return Decision(*offsets.commit(request, wall_ms, self._metadata_max_bytes))

    def commit_in_transaction(self, request: TxnOffsetCommitRequest, wall_ms: int) -> TransactionalDecision:
        """TxnOffsetCommit. Raises KafkaError when the member may not commit at all."""
        self._check_kind(request.group_id)
        group = self._classic.get(request.group_id)
        consumers = self._consumers.get(request.group_id)
        if consumers is not None:
            if request.generation_id >= 0 or request.member_id:
                _check_consumer(consumers, request)
        elif group is not None:
            group.check_transactional_commit(request.member_id, request.group_instance_id, request.generation_id)
        elif request.generation_id >= 0:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION, f"Group {request.group_id} not found.")
        return TransactionalDecision(*offsets.commit_in_transaction(request, wall_ms, self._metadata_max_bytes))

    def _check_kind(self, group_id: str) -> None:
        """Share groups commit no offsets. Raises KafkaError(GROUP_ID_NOT_FOUND)."""
        if group_id in self._shares:
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a consumer group.")

    def delete(
        self, group_id: str, wanted: Sequence[TopicPartition]
    ) -> tuple[list[Entry], list[tuple[TopicPartition, ErrorCode]]]:
        """OffsetDelete: the records, and a code for each partition. Raises KafkaError(GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP)."""
        subscribes: Callable[[str], bool]
        if group_id in self._consumers:
            subscribes = self._consumers[group_id].subscribes_to
        else:
            group = self.existing(group_id)
            if group is not None and group.state is not GroupState.EMPTY and not group.roster.is_consumer:
                raise KafkaError(ErrorCode.NON_EMPTY_GROUP, f"group {group_id!r:.200} has members")
            subscribes = _subscribes_to_nothing if group is None else group.roster.subscribes_to
        codes = [
            (place, ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if subscribes(place.topic) else ErrorCode.NONE)
            for place in dict.fromkeys(wanted)
        ]
        return self._store.tombstones(group_id, [place for place, code in codes if not code]), codes

    def existing(self, group_id: str) -> Group | None:
        """The classic group; None for one whose first commit is still on its way. Raises KafkaError(GROUP_ID_NOT_FOUND)."""
        group = self._classic.get(group_id)
        if group is None and not self._store.is_in_flight(group_id):
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} not found.")
        return group


def _subscribes_to_nothing(_: str) -> bool:
    return False


def _check_consumer(group: ConsumerGroup, request: TxnOffsetCommitRequest) -> None:
    """Whether a member of a consumer group may commit in a transaction; its clients know the error of classic groups."""
    try:
        check_commit(group, request.member_id, request.generation_id, _GROUP_ID_NOT_FOUND_SINCE)
    except KafkaError as error:
        if error.code is ErrorCode.STALE_MEMBER_EPOCH:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION, error.message) from None
        raise
