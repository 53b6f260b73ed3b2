"""What ShareFetch and ShareAcknowledge have in common: who asks, and what is said of records that were given out (KIP-932)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from chronik.broker.share_partitions import SharePartitions
from chronik.broker.share_sessions import Sharer
from chronik.broker.share_tiles import GAP, REJECT, Acknowledgement
from chronik.errors import ErrorCode, KafkaError
from chronik.model import PartitionId, uuid_from_text, uuid_to_text

_SLICE = 16
"""Partitions acknowledged before the reactor gets its turn: about 3 ms."""

Said = dict[PartitionId, "Deferred[KafkaError | None]"]
"""What becomes of the acknowledgements for each partition."""


def sharer(group_id: str | None, member_id: str | None) -> Sharer:
    """The member that a request names. Raises KafkaError(INVALID_REQUEST)."""
    try:
        if not group_id or not member_id:
            raise ValueError
        return Sharer(group_id, uuid_from_text(member_id))
    except ValueError:
        text = f"a member of a share group has a group and a UUID, not {group_id!r:.80} and {member_id!r:.80}"
        raise KafkaError(ErrorCode.INVALID_REQUEST, text) from None


def said(topics: Iterable[Any]) -> dict[PartitionId, list[Acknowledgement]]:
    """The acknowledgements of a request's topics, for each partition that has any; of one that is named twice, the last."""
    return {
        PartitionId(bytes(topic.topic_id), partition.partition_index): [
            Acknowledgement(batch.first_offset, batch.last_offset, batch.acknowledge_types)
            for batch in partition.acknowledgement_batches
        ]
        for topic in topics
        for partition in topic.partitions
        if partition.acknowledgement_batches
    }


async def acknowledge(
    shares: SharePartitions, who: Sharer, acknowledgements: dict[PartitionId, list[Acknowledgement]], reactor: Any
) -> Said:
    """Take all that is said, as it is now; each partition's answer comes when it is in the log."""
    member = uuid_to_text(who.member_id)
    begun: Said = {}
    for number, (place, batches) in enumerate(acknowledgements.items()):
        if number and number % _SLICE == 0:
            await deferLater(reactor, 0)
        begun[place] = _one(shares, who.group_id, member, place, batches).addErrback(_refusal)
    return begun


def _one(
    shares: SharePartitions, group_id: str, member: str, place: PartitionId, batches: Sequence[Acknowledgement]
) -> Deferred[None]:
    try:
        _check(batches)
        shares.exists(place)
        return shares.acknowledge(shares.known(group_id, place), member, batches)
    except KafkaError as error:
        return fail(error)


def _refusal(failure: Failure) -> KafkaError:
    if not isinstance(failure.value, KafkaError):
        failure.raiseException()
    assert isinstance(failure.value, KafkaError)
    return failure.value


def _check(batches: Sequence[Acknowledgement]) -> None:
    """Raises KafkaError(INVALID_REQUEST) for what makes no sense, whatever was given out."""
    before = -1
    for first, last, types in batches:
        fault = None
        if first > last:
            fault = f"a batch ends at {last} before it begins at {first}"
        elif first < before:
            fault = f"a batch begins at {first}, where one before it ends at {before}"
        elif not types:
            fault = "a batch has no acknowledge types"
        elif len(types) > 1 and len(types) != last - first + 1:
            fault = f"{len(types)} acknowledge types do not go with offsets {first} to {last}"
        elif min(types) < GAP or max(types) > REJECT:
            fault = f"acknowledge types are from {GAP} to {REJECT}"
        if fault is not None:
            raise KafkaError(ErrorCode.INVALID_REQUEST, fault)
        before = last


async def outcomes(begun: Said) -> dict[PartitionId, KafkaError | None]:
    """How it went, once all of it has."""
    return {place: await answer for place, answer in begun.items()}
