"""What ShareFetch and ShareAcknowledge have in common: who asks, and what is said of records that were given out (KIP-932)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from chronik.broker.share_partitions import SharePartitions
from chronik.broker.share_sessions import Sharer
from chronik.broker.share_tiles import GAP, REJECT, Acknowledgement, runs
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.slices import Slices
from chronik.model import PartitionId, uuid_from_text, uuid_to_text
from chronik.steps import Steps

_STRETCHES = 250
"""Stretches of records of which different things are said that are decided and written in one piece: about 3 ms."""

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


def places(topics: Iterable[Any]) -> Steps[list[PartitionId]]:
    """The partitions that a request names."""
    found = []
    for topic in topics:
        topic_id = bytes(topic.topic_id)
        for partition in topic.partitions:
            index = partition if isinstance(partition, int) else partition.partition_index
            found.append(PartitionId(topic_id, index))
            yield
    return found


def said(topics: Iterable[Any]) -> Steps[dict[PartitionId, list[Acknowledgement]]]:
    """The acknowledgements of a request's topics, for each partition that has any; of one that is named twice, the last."""
    found: dict[PartitionId, list[Acknowledgement]] = {}
    for topic in topics:
        topic_id = bytes(topic.topic_id)
        for partition in topic.partitions:
            yield
            if partition.acknowledgement_batches:
                batches = found[PartitionId(topic_id, partition.partition_index)] = []
                for batch in partition.acknowledgement_batches:
                    batches.append(Acknowledgement(batch.first_offset, batch.last_offset, batch.acknowledge_types))
                    yield
    return found


async def acknowledge(
    shares: SharePartitions, who: Sharer, acknowledgements: dict[PartitionId, list[Acknowledgement]], slices: Slices
) -> Said:
    """Take all that is said; each partition's answer comes when it is in the log."""
    member = uuid_to_text(who.member_id)
    pace = slices.pace()
    begun: Said = {}
    for place, batches in acknowledgements.items():
        begun[place] = Deferred.fromCoroutine(_one(shares, who.group_id, member, place, batches, slices))
        await pace.turn()
    return begun


async def _one(
    shares: SharePartitions,
    group_id: str,
    member: str,
    place: PartitionId,
    batches: Sequence[Acknowledgement],
    slices: Slices,
) -> KafkaError | None:
    try:
        _check(batches)
        shares.exists(place)
        led = shares.known(group_id, place)
        pace = slices.pace()
        for piece in _pieces(batches):
            await shares.acknowledge(led, member, piece)
            await pace.turn()
    except KafkaError as error:
        return error
    return None


def _pieces(batches: Sequence[Acknowledgement]) -> Iterator[Sequence[Acknowledgement]]:
    """What counts together: all of it, unless it is much. Then each piece counts by itself, up to one that is refused."""
    if sum(len(types) for _, _, types in batches) <= _STRETCHES:
        yield batches
        return
    piece = []
    for first, last, types in batches:
        for span, kind in runs(first, last, types):
            piece.append(Acknowledgement(span.first, span.last, (kind,)))
            if len(piece) == _STRETCHES:
                yield piece
                piece = []
    if piece:
        yield piece


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


async def outcomes(begun: Said, slices: Slices) -> dict[PartitionId, KafkaError | None]:
    """How it went, once all of it has."""
    pace = slices.pace()
    found = {}
    for place, answer in begun.items():
        found[place] = await answer
        await pace.turn()
    return found
