"""All transactional ids of one partition of `__transaction_state`: decisions, replay, timeouts, expiry. Pure.

What is in the log changes by `replay` alone. Beside it stands only what is on its way: the ids with a change that is being
appended, which take no other until it has ended, and the prepared transactions whose markers nobody has begun to write.

A decision returns the entry to append, and what to answer once it is in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from chronik.coordinator import transaction
from chronik.coordinator.deadlines import Deadlines
from chronik.coordinator.settings import TransactionSettings
from chronik.coordinator.transaction import NO_PRODUCER_ID, Ended, Identity, Initialised, Transaction, TransactionState
from chronik.coordinator.transaction_records import TransactionEntry, UntaggedEntry
from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition

_ONGOING = TransactionState.ONGOING


class TransactionShard:
    """One partition's transactional ids. Times are in ms since 1970. `level` tells that of feature `transaction.version`."""

    def __init__(self, settings: TransactionSettings, level: Callable[[], int]) -> None:
        self.settings = settings
        self._level = level
        self.transactions: dict[str, Transaction] = {}
        self._moving: dict[str, TransactionState] = {}
        self._timeouts: Deadlines[str] = Deadlines()
        self._prepared: dict[str, Transaction] = {}

    # The log.

    def replay(self, entry: TransactionEntry, offset: int = -1, producer_id: int = NO_PRODUCER_ID) -> None:
        """Take over one record, in the order of the log."""
        transactional_id, state = entry
        self._prepared.pop(transactional_id, None)
        if state is None:
            self.transactions.pop(transactional_id, None)
        else:
            self.transactions[transactional_id] = state
            if state.state in transaction.PREPARED:
                self._prepared[transactional_id] = state
        self.watch(transactional_id)

    def end_transaction(self, producer_id: int, committed: bool) -> None:
        """A marker in this topic ends nothing: none of its records belongs to a transaction."""

    def opening(self, now: int) -> Iterator[None]:
        """The log is read: nothing more is needed, since the state is the log's."""
        return iter(())

    def begin(self, entries: Sequence[TransactionEntry]) -> None:
        """These records are being appended."""
        for transactional_id, state in entries:
            self._moving[transactional_id] = TransactionState.DEAD if state is None else state.state

    def end(self, entries: Sequence[TransactionEntry]) -> None:
        """The append of these records came to its end, one way or the other."""
        for transactional_id, _ in entries:
            self._moving.pop(transactional_id, None)

    def held(self) -> str:
        """How many transactional ids there are, for the node's log."""
        return f"{len(self.transactions)} transactional ids" if self.transactions else ""

    def is_between(self, transactional_id: str) -> bool:
        """Whether the id takes no partitions just now, and will in a moment: it is being changed, or its markers written."""
        state = self.transactions.get(transactional_id)
        return transactional_id in self._moving or (state is not None and state.state in transaction.PREPARED)

    def entry(self, transactional_id: str, state: Transaction | None) -> TransactionEntry:
        """The record of a new state, in the format of the level that is in force."""
        kind = TransactionEntry if self._level() else UntaggedEntry
        return kind(transactional_id, state)

    # The producer's requests.

    def initialise(
        self, transactional_id: str, timeout_ms: int, expected: Identity | None, now_ms: int, fresh_id: int | None
    ) -> Initialised:
        """InitProducerId, see `transaction.initialise`. Also raises KafkaError(INVALID_TRANSACTION_TIMEOUT)."""
        if not 0 < timeout_ms <= self.settings.transaction_max_timeout_ms:
            raise KafkaError(
                ErrorCode.INVALID_TRANSACTION_TIMEOUT,
                f"a transaction timeout of {timeout_ms} ms is outside 1 to {self.settings.transaction_max_timeout_ms}",
            )
        now = self.transactions.get(transactional_id)
        moving = transactional_id in self._moving
        return transaction.initialise(now, moving, timeout_ms, expected, now_ms, fresh_id)

    def add(
        self,
        transactional_id: str,
        producer: Identity,
        partitions: Collection[TopicPartition],
        client_version: int,
        now_ms: int,
    ) -> Transaction | None:
        """AddPartitionsToTxn and AddOffsetsToTxn, see `transaction.add`."""
        now = self.transactions.get(transactional_id)
        moving = transactional_id in self._moving
        return transaction.add(now, moving, producer, partitions, client_version, now_ms)

    def verify(
        self, transactional_id: str, producer: Identity, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, ErrorCode]:
        """Which partitions are in the transaction, see `transaction.verify`."""
        return transaction.verify(self.transactions.get(transactional_id), producer, partitions)

    def finish(
        self,
        transactional_id: str,
        producer: Identity,
        commit: bool,
        client_version: int,
        now_ms: int,
        fresh_id: int | None,
    ) -> Ended:
        """EndTxn, see `transaction.end`."""
        now = self.transactions.get(transactional_id)
        moving = transactional_id in self._moving
        return transaction.end(now, moving, producer, commit, client_version, now_ms, fresh_id)

    # What the coordinator does of its own accord.

    def take_prepared(self) -> list[tuple[str, Transaction]]:
        """The prepared transactions that were replayed since the last time: their markers are to be written."""
        prepared, self._prepared = self._prepared, {}
        return list(prepared.items())

    def completed(self, transactional_id: str, prepared: Transaction, now_ms: int) -> TransactionEntry | None:
        """All markers of `prepared` are written: the record that says so; None when it is not that transaction any more."""
        if self.transactions.get(transactional_id) != prepared:
            return None
        return self.entry(transactional_id, transaction.complete(prepared, now_ms))

    def watch(self, transactional_id: str) -> None:
        """Let the id's transaction time out when its time is over, if it has one that is open."""
        state = self.transactions.get(transactional_id)
        if state is not None and state.state is _ONGOING:
            self._timeouts.set(transactional_id, state.start_ms + state.timeout_ms)
        else:
            self._timeouts.cancel(transactional_id)

    def timed_out(self, now_ms: int) -> str | None:
        """One id whose transaction is over its time; None when there is none left. It is not watched any more, see `watch`."""
        return self._timeouts.pop(now_ms - 1)

    def abort(self, transactional_id: str, now_ms: int) -> TransactionEntry | None:
        """The record that ends an open transaction over its producer's head; None when it is not open, or on its way."""
        state = self.transactions.get(transactional_id)
        if state is None or state.state is not _ONGOING or transactional_id in self._moving:
            return None
        return self.entry(transactional_id, transaction.abort(state, now_ms))

    def expired(self, transactional_ids: Iterable[str], now_ms: int) -> list[TransactionEntry]:
        """The records that delete those of the ids that were not used for `transactional.id.expiration.ms`."""
        until_ms = now_ms - self.settings.transactional_id_expiration_ms
        entries = []
        for transactional_id in transactional_ids:
            state = self.transactions.get(transactional_id)
            if state is None or transactional_id in self._moving:
                continue
            if state.state in transaction.IDLE and state.updated_ms <= until_ms:
                entries.append(self.entry(transactional_id, None))
        return entries
