"""What the coordinator writes into `__transaction_state`: one record for each change of a transactional id.

The format is Kafka's: the key is an int16 0 and the id; the value an int16 version and the whole state of the id, so the last
record is all there is to know; a null value is a tombstone. Version 1 is written, 0 and 1 are read.

One field is this project's own, a tagged one that Kafka's readers skip: the epoch before the last change of epoch. Kafka
keeps it in memory only, and answers PRODUCER_FENCED to a producer that repeats InitProducerId after the coordinator moved.

Source: the coordinator's message definitions of Kafka 4.1; KIP-890 (producer ids and transaction version in tagged
fields); KIP-482 (unknown tagged fields are skipped).
"""

from __future__ import annotations

import struct
from itertools import groupby
from typing import NamedTuple

from chronik.coordinator.transaction import Transaction, TransactionState
from chronik.model import TopicPartition
from chronik.wire.codec import MalformedMessage, Message
from chronik.wire.schema import Struct, array, int8, int16, int32, int64, string

_version = struct.Struct(">h")
_KIND = 0
_VALUE_VERSION = 1
_UNTAGGED_VERSION = 0
_LAST_EPOCH_TAG = 1000
_NEVER_LOGGED = frozenset({TransactionState.DEAD, TransactionState.PREPARE_EPOCH_FENCE})


class TransactionLogKey(Message, versions="0"):
    """Whose state it is."""

    transactional_id: str = string()


class PartitionsSchema(Struct):
    topic: str = string()
    partition_ids: list[int] = array(int32())


class TransactionLogValue(Message, versions="0-1", flexible="1+"):
    """The state of a transactional id. Times are in ms, those of an event since 1970."""

    producer_id: int = int64()
    previous_producer_id: int = int64("1+", tag=0, default=-1, ignorable=True)
    next_producer_id: int = int64("1+", tag=1, default=-1, ignorable=True)
    producer_epoch: int = int16()
    transaction_timeout_ms: int = int32()
    transaction_status: int = int8()
    transaction_partitions: list[PartitionsSchema] | None = array(PartitionsSchema, nullable="0+")
    transaction_last_update_timestamp_ms: int = int64()
    transaction_start_timestamp_ms: int = int64()
    client_transaction_version: int = int16("1+", tag=2, default=0, ignorable=True)
    last_producer_epoch: int = int16("1+", tag=_LAST_EPOCH_TAG, default=-1, ignorable=True)


class TransactionEntry(NamedTuple):
    """One record to be written, or read back: the new state of a transactional id; None when it is forgotten."""

    transactional_id: str
    state: Transaction | None

    def encode(self) -> tuple[bytes, bytes | None]:
        """Key and value as they stand in the log."""
        return _encoded(self.transactional_id, self.state, _VALUE_VERSION)


class UntaggedEntry(TransactionEntry):
    """One to be written in the format without tagged fields."""

    __slots__ = ()

    def encode(self) -> tuple[bytes, bytes | None]:
        """Key and value as they stand in the log."""
        return _encoded(self.transactional_id, self.state, _UNTAGGED_VERSION)


def _encoded(transactional_id: str, state: Transaction | None, version: int) -> tuple[bytes, bytes | None]:
    key = _version.pack(_KIND) + TransactionLogKey(transactional_id=transactional_id).encode(_KIND)
    return key, None if state is None else _version.pack(version) + _value(state).encode(version)


def decode_transaction_entry(key: bytes | None, value: bytes | None) -> TransactionEntry | None:
    """What a record of the topic says; None for a kind that this release does not know, to be skipped (KIP-915).

    Raises MalformedMessage for bytes that don't parse, and for a version or state that is not known.
    """
    if key is None or len(key) < 2:
        raise MalformedMessage("a record of __transaction_state has no kind in its key")
    (kind,) = _version.unpack_from(key)
    if kind != _KIND:
        return None
    transactional_id = TransactionLogKey.decode(key, kind, 2)[0].transactional_id
    if value is None:
        return TransactionEntry(transactional_id, None)
    if len(value) < 2:
        raise MalformedMessage(f"the value of transactional id {transactional_id!r:.200} has no version")
    (version,) = _version.unpack_from(value)
    if not TransactionLogValue.VERSIONS.has(version):
        raise MalformedMessage(
            f"TransactionLogValue has versions {TransactionLogValue.VERSIONS}, the log has {version} "
            f"for transactional id {transactional_id!r:.200}"
        )
    return TransactionEntry(
        transactional_id, _state(transactional_id, TransactionLogValue.decode(value, version, 2)[0])
    )


def _value(state: Transaction) -> TransactionLogValue:
    return TransactionLogValue(
        producer_id=state.producer_id,
        previous_producer_id=state.previous_producer_id,
        next_producer_id=state.next_producer_id,
        producer_epoch=state.producer_epoch,
        transaction_timeout_ms=state.timeout_ms,
        transaction_status=state.state.value,
        # A new id has no list of partitions, later ones have an empty one: so Kafka writes it.
        transaction_partitions=None if state.state is TransactionState.EMPTY else _by_topic(state.partitions),
        transaction_last_update_timestamp_ms=state.updated_ms,
        transaction_start_timestamp_ms=state.start_ms,
        client_transaction_version=state.client_version,
        last_producer_epoch=state.last_producer_epoch,
    )


def _by_topic(partitions: frozenset[TopicPartition]) -> list[PartitionsSchema]:
    return [
        PartitionsSchema(topic=topic, partition_ids=[place.partition for place in places])
        for topic, places in groupby(sorted(partitions), key=lambda place: place.topic)
    ]


def _state(transactional_id: str, value: TransactionLogValue) -> Transaction:
    try:
        state = TransactionState(value.transaction_status)
    except ValueError:
        state = TransactionState.DEAD
    if state in _NEVER_LOGGED:
        raise MalformedMessage(
            f"transactional id {transactional_id!r:.200} is in state {value.transaction_status}, which is never written"
        )
    return Transaction(
        producer_id=value.producer_id,
        producer_epoch=value.producer_epoch,
        timeout_ms=value.transaction_timeout_ms,
        state=state,
        partitions=frozenset(
            TopicPartition(topic.topic, number)
            for topic in value.transaction_partitions or ()
            for number in topic.partition_ids
        ),
        start_ms=value.transaction_start_timestamp_ms,
        updated_ms=value.transaction_last_update_timestamp_ms,
        client_version=value.client_transaction_version,
        previous_producer_id=value.previous_producer_id,
        next_producer_id=value.next_producer_id,
        last_producer_epoch=value.last_producer_epoch,
    )
