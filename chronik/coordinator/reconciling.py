"""One member of a consumer group on its way from what it has to what it shall have.

First it gives back what it shall not keep: it stays in its epoch, is told the rest, and the coordinator waits until a
heartbeat no longer lists what was taken away (UNREVOKED). Then it moves to the epoch of the target, with all of its target
that nobody else still holds; what others hold comes as they let go of it (UNRELEASED). So a partition never has two owners.

Pure values and functions. Source: KIP-848, the reconciliation of a member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum

from chronik.coordinator.consumer_records import (
    ClassicMetadata,
    CurrentValue,
    MemberValue,
    TopicPartitions,
)
from chronik.model import Uuid

Assignment = Mapping[Uuid, frozenset[int]]
"""Partitions by topic id. No topic has an empty set. Never changed in place."""

NOTHING: Assignment = {}

JOINING_EPOCH = 0
LEAVING_EPOCH = -1
STATIC_LEAVING_EPOCH = -2
"""The epoch of a static member that has left for a while: it keeps its partitions until its session ends."""


class MemberState(IntEnum):
    """How far a member has come, by the numbers that stand in the log."""

    STABLE = 0
    UNREVOKED = 1
    UNRELEASED = 2


@dataclass(frozen=True, slots=True)
class ConsumerMember:
    """A member as the log has it. Replaced as a whole, never changed. Timeouts are in ms.

    `assigned` is what it has and may keep, `revoking` what it has to give back. `classic` is None for a member of the
    consumer protocol.
    """

    member_id: str
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    rebalance_timeout_ms: int = -1
    topics: frozenset[str] = frozenset()
    regex: str = ""
    assignor: str | None = None
    classic: ClassicMetadata | None = field(default=None, hash=False)
    epoch: int = 0
    previous_epoch: int = 0
    state: MemberState = MemberState.STABLE
    assigned: Assignment = field(default_factory=dict, hash=False)
    revoking: Assignment = field(default_factory=dict, hash=False)

    def is_reconciled(self, target_epoch: int) -> bool:
        """Whether it has all of the target of that epoch, and nothing else."""
        return self.state is MemberState.STABLE and self.epoch == target_epoch

    def holds(self) -> Iterable[tuple[Uuid, int]]:
        """Every partition that nobody else may have yet."""
        for part in (self.assigned, self.revoking):
            for topic_id, partitions in part.items():
                for partition in partitions:
                    yield topic_id, partition

    def subscribed(self, value: MemberValue) -> ConsumerMember:
        """This member with the subscription of a record."""
        return replace(
            self,
            instance_id=value.instance_id,
            rack_id=value.rack_id,
            client_id=value.client_id,
            client_host=value.client_host,
            rebalance_timeout_ms=value.rebalance_timeout_ms,
            topics=frozenset(value.subscribed_topic_names),
            regex=value.subscribed_topic_regex or "",
            assignor=value.server_assignor,
            classic=value.classic_member_metadata,
        )

    def subscription(self) -> MemberValue:
        """The record of its subscription."""
        return MemberValue(
            instance_id=self.instance_id,
            rack_id=self.rack_id,
            client_id=self.client_id,
            client_host=self.client_host,
            subscribed_topic_names=sorted(self.topics),
            subscribed_topic_regex=self.regex,
            rebalance_timeout_ms=self.rebalance_timeout_ms,
            server_assignor=self.assignor,
            classic_member_metadata=self.classic,
        )

    def placed(self, value: CurrentValue) -> ConsumerMember:
        """This member with the epoch and the partitions of a record. A state that is not known counts as UNREVOKED."""
        known = value.state in MemberState._value2member_map_
        return replace(
            self,
            epoch=value.member_epoch,
            previous_epoch=value.previous_member_epoch,
            state=MemberState(value.state) if known else MemberState.UNREVOKED,
            assigned=assignment_of(value.assigned_partitions),
            revoking=assignment_of(value.partitions_pending_revocation),
        )

    def place(self) -> CurrentValue:
        """The record of its epoch and partitions."""
        return CurrentValue(
            member_epoch=self.epoch,
            previous_member_epoch=self.previous_epoch,
            state=self.state,
            assigned_partitions=listed(self.assigned),
            partitions_pending_revocation=listed(self.revoking),
        )


def assignment_of(topics: Iterable[TopicPartitions]) -> Assignment:
    """The assignment that a record lists."""
    return {topic.topic_id: frozenset(topic.partitions) for topic in topics if topic.partitions}


def listed(assignment: Assignment) -> list[TopicPartitions]:
    """`assignment` as records list it."""
    return [
        TopicPartitions(topic_id=topic_id, partitions=sorted(partitions)) for topic_id, partitions in assignment.items()
    ]


def reconcile(
    member: ConsumerMember,
    target_epoch: int,
    target: Assignment,
    owner_of: Callable[[Uuid, int], str | None],
    owned: Assignment | None,
) -> ConsumerMember:
    """The next step of `member` towards `target`; `member` itself when it has to wait, or is there.

    `owner_of` says which member holds a partition. `owned` is what the member says it has now, None when it doesn't say.
    """
    if member.state is MemberState.STABLE and member.epoch == target_epoch:
        return member
    epoch = member.epoch
    if member.state is MemberState.UNREVOKED:
        if _overlap(member.revoking, owned):
            return member
        epoch += 1
    kept: dict[Uuid, frozenset[int]] = {}
    revoking: dict[Uuid, frozenset[int]] = {}
    added: dict[Uuid, frozenset[int]] = {}
    unreleased = False
    for topic_id in dict.fromkeys([*target, *member.assigned]):
        wanted = target.get(topic_id, frozenset())
        had = member.assigned.get(topic_id, frozenset())
        if keeps := had & wanted:
            kept[topic_id] = keeps
        if loses := had - wanted:
            revoking[topic_id] = loses
        gains = wanted - had
        free = frozenset(p for p in gains if owner_of(topic_id, p) in (None, member.member_id))
        unreleased = unreleased or len(free) < len(gains)
        if free:
            added[topic_id] = free
    if revoking and _overlap(revoking, owned):
        return _moved(member, epoch, MemberState.UNREVOKED, kept, revoking)
    for topic_id, partitions in added.items():
        kept[topic_id] = kept.get(topic_id, frozenset()) | partitions
    return _moved(member, target_epoch, MemberState.UNRELEASED if unreleased else MemberState.STABLE, kept, {})


def _moved(
    member: ConsumerMember, epoch: int, state: MemberState, assigned: Assignment, revoking: Assignment
) -> ConsumerMember:
    previous = member.previous_epoch if epoch == member.epoch else member.epoch
    return replace(member, epoch=epoch, previous_epoch=previous, state=state, assigned=assigned, revoking=revoking)


def _overlap(revoking: Assignment, owned: Assignment | None) -> bool:
    """Whether a member that says it has `owned` still has any of `revoking`; one that doesn't say may have it."""
    if owned is None:
        return True
    return any(partitions & owned.get(topic_id, frozenset()) for topic_id, partitions in revoking.items())


def is_within(owned: Assignment | None, whole: Assignment) -> bool:
    """Whether `owned` is known and part of `whole`."""
    if owned is None:
        return False
    return all(partitions <= whole.get(topic_id, frozenset()) for topic_id, partitions in owned.items())
