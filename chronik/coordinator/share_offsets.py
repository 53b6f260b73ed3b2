"""Start offsets of share groups: told, set and deleted, between the group, which must be empty, and the share coordinator.

Both keep records of it, each in its own log. The group writes first what is about to happen, and last that it has: a crash in
between leaves a group that knows, and the operation is asked for again. Source: KIP-932.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chronik.coordinator.effects import Effects
from chronik.coordinator.group_partition import GroupPartition
from chronik.coordinator.share_group import Kept, without
from chronik.coordinator.share_groups import ShareGroups
from chronik.coordinator.share_settling import Failures, among, each_partition
from chronik.errors import KafkaError
from chronik.interfaces import IShareStates
from chronik.model import SharePartitionKey, Uuid


async def alter_share_offsets(
    hosted: GroupPartition,
    states: IShareStates,
    group_id: str,
    topics: Mapping[Uuid, Mapping[int, int]],
    names: Mapping[Uuid, str],
    clock: IReactorTime,
) -> Failures:
    """Begin partitions of an empty group anew, at an offset each; what went wrong with some.

    Raises KafkaError(GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP).
    """
    kept = {topic_id: Kept(names[topic_id], frozenset(offsets)) for topic_id, offsets in topics.items()}
    epoch: Deferred[int] = Deferred()
    hosted.carry_out(hosted.check().shares.begin_altering(group_id, kept, epoch, hosted.now))
    state_epoch = await epoch

    async def begin(key: SharePartitionKey) -> None:
        await states.initialise(key, state_epoch, topics[key.topic_id][key.partition])

    failures = await each_partition(group_id, kept, begin, clock)
    failed = among(kept, failures)
    await _tell(
        hosted, lambda shares, written: shares.settled(group_id, without(kept, failed), failed, written, hosted.now)
    )
    return failures


async def delete_share_state(
    hosted: GroupPartition,
    states: IShareStates,
    group_id: str,
    topic_ids: Collection[Uuid] | None,
    clock: IReactorTime,
) -> dict[Uuid, KafkaError | None]:
    """Delete what is kept of topics for an empty group, None for all; how it went, for each topic of which something was.

    Raises KafkaError: GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP; with `topic_ids` of None also what went wrong with any of them.
    """
    chosen: Deferred[dict[Uuid, Kept]] = Deferred()
    hosted.carry_out(hosted.check().shares.begin_deleting(group_id, topic_ids, chosen, hosted.now))
    topics = await chosen
    failures = await each_partition(group_id, topics, states.delete, clock)
    outcomes: dict[Uuid, KafkaError | None] = dict.fromkeys(topics)
    for (topic_id, _), error in failures.items():
        outcomes[topic_id] = error
    if topic_ids is None and failures:
        raise next(iter(failures.values()))
    gone = [topic_id for topic_id, error in outcomes.items() if error is None]
    await _tell(hosted, lambda shares, written: shares.deleted(group_id, gone, written, hosted.now))
    return outcomes


async def _tell(hosted: GroupPartition, tell: Callable[[ShareGroups, Deferred[None]], Effects]) -> None:
    """Have the group write what was done outside."""
    written: Deferred[None] = Deferred()
    hosted.carry_out(tell(hosted.check().shares, written))
    await written
