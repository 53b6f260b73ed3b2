"""The state machine of one transactional id: what a request means to it, and what it becomes. Pure.

A `Transaction` is a value: the whole state of a transactional id, as one record of `__transaction_state` has it. The functions
below decide: they take the present state (None for an id that is not known) and return the next one, to be logged, or
raise KafkaError with what the client is to be told. Times are arguments, in ms since 1970.

What keeps zombies out is the producer's epoch. Transactions v1 (clients up to EndTxn v4) get a new epoch from InitProducerId
only, so two transactions of one producer cannot be told apart by it. With transactions v2 every EndTxn moves the epoch on,
so one that is delayed names an epoch that is over and ends nothing. Epochs end at 32767, which no client ever gets, so
that there is always one left to fence with; then the producer gets a new id.

Sources: KIP-98, KIP-360 (a producer that bumps its own epoch), KIP-588 (PRODUCER_FENCED), KIP-890 (transactions v2); the
transaction coordinator of Apache Kafka 4.1.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, NamedTuple

from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition

NO_PRODUCER_ID = -1
NO_EPOCH = -1
NEVER = -1
"""The time at which what has not begun began."""

LAST_EPOCH = 32_767
LAST_EPOCH_OF_CLIENTS = LAST_EPOCH - 1
V1 = 0
"""How the log marks what clients of transactions v1 do, as Kafka does."""

V2 = 2

_CONCURRENT = ErrorCode.CONCURRENT_TRANSACTIONS
_FENCED = ErrorCode.PRODUCER_FENCED
_NOT_THAT_ID = ErrorCode.INVALID_PRODUCER_ID_MAPPING
_WRONG_STATE = ErrorCode.INVALID_TXN_STATE
_NONE = ErrorCode.NONE
_ABORTABLE = ErrorCode.TRANSACTION_ABORTABLE


class TransactionState(Enum):
    """The states, by their numbers in the log.

    DEAD and PREPARE_EPOCH_FENCE are never logged: they say where an id is on its way to, out of the log and to the abort of
    what a fenced producer left open.
    """

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6
    PREPARE_EPOCH_FENCE = 7

    @property
    def text(self) -> str:
        """Its name in DescribeTransactions and ListTransactions."""
        return _NAMES[self]


_NAMES = {state: "".join(word.capitalize() for word in state.name.split("_")) for state in TransactionState}
STATES_BY_NAME = {name: state for state, name in _NAMES.items()}

_EMPTY, _ONGOING = TransactionState.EMPTY, TransactionState.ONGOING
_PREPARE_COMMIT, _PREPARE_ABORT = TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT
_COMPLETE_COMMIT, _COMPLETE_ABORT = TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT
PREPARED = frozenset({_PREPARE_COMMIT, _PREPARE_ABORT})
IDLE = frozenset({_EMPTY, _COMPLETE_COMMIT, _COMPLETE_ABORT})
"""States in which no transaction is open."""


class Identity(NamedTuple):
    """A producer as it names itself."""

    producer_id: int
    epoch: int


class NeedsProducerId(Exception):
    """The decision needs a fresh producer id: ask again, with one."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """The state of one transactional id.

    `start_ms` is when the last transaction began. `last_producer_epoch` is the epoch that a client may still believe in after
    its own request moved it on; -1 when another took the producer's place. `next_producer_id` is the id that a
    prepared transaction leaves to the producer whose epochs are used up, `previous_producer_id` that before the last change.
    """

    producer_id: int
    producer_epoch: int
    timeout_ms: int
    state: TransactionState = _EMPTY
    partitions: frozenset[TopicPartition] = frozenset()
    start_ms: int = NEVER
    updated_ms: int = NEVER
    client_version: int = V1
    previous_producer_id: int = NO_PRODUCER_ID
    next_producer_id: int = NO_PRODUCER_ID
    last_producer_epoch: int = NO_EPOCH

    @property
    def identity(self) -> Identity:
        """The producer that is served now."""
        return Identity(self.producer_id, self.producer_epoch)

    @property
    def committed(self) -> bool:
        """How a prepared transaction ends."""
        return self.state is _PREPARE_COMMIT

    @property
    def epochs_used_up(self) -> bool:
        """Whether there is no further epoch that a client might have."""
        return _is_last(self.producer_epoch)

    def _next(self, state: TransactionState, now_ms: int, **changes: Any) -> Transaction:
        changes = {"next_producer_id": NO_PRODUCER_ID, **changes}
        return replace(self, state=state, updated_ms=now_ms, previous_producer_id=self.producer_id, **changes)


class Initialised(NamedTuple):
    """InitProducerId: the state to log, and the producer to answer then.

    None for the producer: the state aborts what an older one left open, and the client is told CONCURRENT_TRANSACTIONS, so
    that it asks again.
    """

    state: Transaction
    producer: Identity | None


class Ended(NamedTuple):
    """EndTxn: the state to log, None where that was done before; and the producer that may begin the next transaction."""

    state: Transaction | None
    producer: Identity


def _is_last(epoch: int) -> bool:
    return epoch >= LAST_EPOCH_OF_CLIENTS


def _required(fresh_id: int | None) -> int:
    if fresh_id is None:
        raise NeedsProducerId
    return fresh_id


def initialise(
    now: Transaction | None, moving: bool, timeout_ms: int, expected: Identity | None, now_ms: int, fresh_id: int | None
) -> Initialised:
    """InitProducerId. `expected` is the producer that the client was, `moving` whether a change is on its way to the log.

    Raises NeedsProducerId, and KafkaError(CONCURRENT_TRANSACTIONS, PRODUCER_FENCED).
    """
    if moving:
        raise KafkaError(_CONCURRENT, "another change of the transactional id is being written")
    if now is None:
        new = Transaction(_required(fresh_id), 0, timeout_ms, updated_ms=now_ms)
        return Initialised(new, new.identity)
    if expected is not None and not _may_have_been(now, expected):
        raise KafkaError(_FENCED, f"the transactional id has producer id {now.producer_id} by now")
    if now.state in PREPARED:
        raise KafkaError(_CONCURRENT, "the last transaction is being completed")
    if now.state is _ONGOING:
        if (
            expected is not None and expected != now.identity
        ):  # Kafka lets a zombie abort its successor's transaction here
            raise _epoch_is_over(now, expected)
        return Initialised(abort(now, now_ms), None)
    producer, last_epoch = _moved_on(now, expected, fresh_id)
    state = now._next(
        _EMPTY,
        now_ms,
        producer_id=producer.producer_id,
        producer_epoch=producer.epoch,
        last_producer_epoch=last_epoch,
        timeout_ms=timeout_ms,
        partitions=frozenset(),
        start_ms=NEVER,
    )
    return Initialised(state, producer)


def _may_have_been(now: Transaction, expected: Identity) -> bool:
    """Whether `expected` is this producer, at an epoch to be seen, or was it before its epochs were used up."""
    if expected.producer_id == now.producer_id:
        return True
    return expected.producer_id == now.previous_producer_id and _is_last(expected.epoch)


def _moved_on(now: Transaction, expected: Identity | None, fresh_id: int | None) -> tuple[Identity, int]:
    """The next producer, and the epoch at which a repetition of the request is known."""
    epoch = now.producer_epoch
    if expected is None:
        if now.epochs_used_up:
            return Identity(_required(fresh_id), 0), NO_EPOCH
        return Identity(now.producer_id, epoch + 1), NO_EPOCH
    # The last epoch is the coordinator's own: it aborted the transaction of the client, who knows of the one before.
    known = now.last_producer_epoch if epoch == LAST_EPOCH else epoch
    if expected.epoch in (epoch, known):
        if now.epochs_used_up:
            return Identity(_required(fresh_id), 0), expected.epoch
        return Identity(now.producer_id, epoch + 1), epoch
    if expected.epoch == now.last_producer_epoch:  # the answer to the same request got lost
        return now.identity, now.last_producer_epoch
    raise KafkaError(_FENCED, f"epoch {expected.epoch} of producer {expected.producer_id} is over; it is at {epoch}")


def add(
    now: Transaction | None,
    moving: bool,
    producer: Identity,
    partitions: Collection[TopicPartition],
    client_version: int,
    now_ms: int,
) -> Transaction | None:
    """AddPartitionsToTxn: the state to log, None when all of them are in the transaction already.

    Raises KafkaError(INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED, CONCURRENT_TRANSACTIONS).
    """
    now = _of(now, producer)
    if moving:
        raise KafkaError(_CONCURRENT, "another change of the transactional id is being written")
    _check_not_prepared(now)
    ongoing = now.state is _ONGOING
    if ongoing and now.partitions.issuperset(partitions):
        return None
    return now._next(
        _ONGOING,
        now_ms,
        partitions=now.partitions.union(partitions),
        start_ms=now.start_ms if ongoing else now_ms,
        client_version=client_version,
    )


def verify(
    now: Transaction | None, producer: Identity, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, ErrorCode]:
    """Which partitions are in the producer's transaction: NONE, or TRANSACTION_ABORTABLE. Raises KafkaError as `add`."""
    now = _of(now, producer)
    _check_not_prepared(now)
    return {place: _NONE if place in now.partitions else _ABORTABLE for place in partitions}


def _of(now: Transaction | None, producer: Identity) -> Transaction:
    """The state, which must be that of `producer`."""
    if now is None or now.producer_id != producer.producer_id:
        raise KafkaError(_NOT_THAT_ID, f"producer {producer.producer_id} does not have this transactional id")
    if now.producer_epoch != producer.epoch:
        raise _epoch_is_over(now, producer)
    return now


def _epoch_is_over(now: Transaction, producer: Identity) -> KafkaError:
    return KafkaError(
        _FENCED, f"producer {producer.producer_id} is at epoch {now.producer_epoch}, not {producer.epoch}"
    )


def _check_not_prepared(now: Transaction) -> None:
    if now.state in PREPARED:
        raise KafkaError(_CONCURRENT, "the last transaction is being completed")


def end(
    now: Transaction | None,
    moving: bool,
    producer: Identity,
    commit: bool,
    client_version: int,
    now_ms: int,
    fresh_id: int | None,
) -> Ended:
    """EndTxn. A repetition is answered as the first time, and CONCURRENT_TRANSACTIONS until that is complete.

    Raises NeedsProducerId, and KafkaError(INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED, INVALID_TXN_STATE,
    CONCURRENT_TRANSACTIONS).
    """
    if client_version < V2:
        now, repeated = _of(now, producer), True  # its epoch cannot tell a repetition from the next request
    else:
        now, repeated = _of_v2(now, producer)
    if moving:
        raise KafkaError(_CONCURRENT, "another change of the transactional id is being written")
    if now.state is _ONGOING:
        return _prepared(now, commit, client_version, now_ms, fresh_id)
    if now.state in PREPARED:
        if now.committed != commit:
            raise _wrong(now, commit)
        raise KafkaError(_CONCURRENT, "the transaction is being completed")
    if repeated and now.state is (_COMPLETE_COMMIT if commit else _COMPLETE_ABORT):
        return Ended(None, now.identity)
    if client_version >= V2 and not repeated and not commit:
        # The client cannot know whether its writes came through: what has no partitions is aborted with a new epoch too.
        return _prepared(replace(now, start_ms=now_ms), commit, client_version, now_ms, fresh_id)
    raise _wrong(now, commit)


def _of_v2(now: Transaction | None, producer: Identity) -> tuple[Transaction, bool]:
    """The state, and whether the producer repeats the request that moved it on from the producer's epoch."""
    if now is None:
        raise KafkaError(_NOT_THAT_ID, f"producer {producer.producer_id} does not have this transactional id")
    ended = now.state not in (_EMPTY, _ONGOING)
    if now.producer_id != producer.producer_id:
        rotated = now.previous_producer_id == producer.producer_id and producer.epoch == LAST_EPOCH_OF_CLIENTS
        if ended and rotated and now.producer_epoch == 0:
            return now, True
        raise KafkaError(_NOT_THAT_ID, f"producer {producer.producer_id} does not have this transactional id")
    if ended and producer.epoch == now.producer_epoch - 1:
        return now, True
    if producer.epoch != now.producer_epoch or now.state in PREPARED:
        raise _epoch_is_over(now, producer)
    return now, False


def _wrong(now: Transaction, commit: bool) -> KafkaError:
    return KafkaError(_WRONG_STATE, f"a transaction in state {now.state.text} cannot {'commit' if commit else 'abort'}")


def _prepared(now: Transaction, commit: bool, client_version: int, now_ms: int, fresh_id: int | None) -> Ended:
    state = _PREPARE_COMMIT if commit else _PREPARE_ABORT
    if client_version < V2:
        prepared = now._next(state, now_ms, client_version=client_version)
        return Ended(prepared, prepared.identity)
    prepared = now._next(
        state,
        now_ms,
        client_version=client_version,
        next_producer_id=_required(fresh_id) if now.epochs_used_up else NO_PRODUCER_ID,
        **_bumped(now),
    )
    return Ended(prepared, complete(prepared, now_ms).identity)


def _bumped(now: Transaction) -> dict[str, int]:
    # A client that claims the last epoch, which it was never given, cannot make it overflow.
    return {"producer_epoch": min(now.producer_epoch + 1, LAST_EPOCH), "last_producer_epoch": now.producer_epoch}


def abort(now: Transaction, now_ms: int) -> Transaction:
    """The coordinator ends an ongoing transaction, over its producer's head: the epoch moves on, so the producer is fenced."""
    return now._next(_PREPARE_ABORT, now_ms, client_version=V2, **_bumped(now))


def complete(now: Transaction, now_ms: int) -> Transaction:
    """All markers of a prepared transaction are written."""
    state = _COMPLETE_COMMIT if now.committed else _COMPLETE_ABORT
    if now.next_producer_id != NO_PRODUCER_ID:
        return now._next(state, now_ms, partitions=frozenset(), producer_id=now.next_producer_id, producer_epoch=0)
    return now._next(state, now_ms, partitions=frozenset())
