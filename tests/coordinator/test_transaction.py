"""The state machine of a transactional id, request by request, against what Apache Kafka 4.1 answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chronik.coordinator import transaction
from chronik.coordinator.transaction import (
    LAST_EPOCH,
    LAST_EPOCH_OF_CLIENTS,
    V1,
    V2,
    Identity,
    NeedsProducerId,
    Transaction,
    TransactionState,
)
from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition

E, S = ErrorCode, TransactionState
A, B = TopicPartition("a", 0), TopicPartition("b", 1)
NOW = 5_000


def state(of: S = S.ONGOING, epoch: int = 7, **fields: Any) -> Transaction:
    """A transactional id of producer 1; its last epoch is the one before."""
    partitions = frozenset({A}) if of in (S.ONGOING, S.PREPARE_COMMIT, S.PREPARE_ABORT) else frozenset()
    start = -1 if of is S.EMPTY else 1_000
    given = {"partitions": partitions, "start_ms": start, "last_producer_epoch": epoch - 1, "client_version": V2}
    return Transaction(1, epoch, 60_000, of, **{**given, **fields})


class Case(SynchronousTestCase):
    def outcome(self, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except KafkaError as error:
            return error.code
        except NeedsProducerId:
            return NeedsProducerId


class NamesTests(SynchronousTestCase):
    def test_states_have_kafkas_numbers_and_names(self) -> None:
        names = ["Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort"]
        names += ["Dead", "PrepareEpochFence"]
        self.assertEqual([each.text for each in sorted(S, key=lambda each: each.value)], names)
        self.assertEqual(sorted(each.value for each in S), list(range(8)))


class InitialiseTests(Case):
    def initialise(
        self, now: Transaction | None, expected: Identity | None = None, fresh: int | None = 99, moving: bool = False
    ) -> Any:
        return self.outcome(transaction.initialise, now, moving, 30_000, expected, NOW, fresh)

    def producer(self, now: Transaction | None, expected: Identity | None = None, fresh: int | None = None) -> Any:
        found = self.initialise(now, expected, fresh)
        return found.producer if isinstance(found, transaction.Initialised) else found

    def test_a_new_id(self) -> None:
        self.assertIs(self.initialise(None, fresh=None), NeedsProducerId)
        made = self.initialise(None)
        self.assertEqual(made.producer, (99, 0))
        self.assertEqual(made.state, Transaction(99, 0, 30_000, updated_ms=NOW))
        self.assertEqual(self.initialise(None, Identity(3, 4)).producer, (99, 0))

    def test_the_next_producer_fences_the_last(self) -> None:
        for of in (S.EMPTY, S.COMPLETE_COMMIT, S.COMPLETE_ABORT):
            made = self.initialise(state(of))
            self.assertEqual(made.producer, (1, 8))
            self.assertEqual((made.state.state, made.state.partitions), (S.EMPTY, frozenset()))
            self.assertEqual((made.state.start_ms, made.state.updated_ms, made.state.timeout_ms), (-1, NOW, 30_000))
            self.assertEqual(self.initialise(made.state, Identity(1, 7)), E.PRODUCER_FENCED)

    def test_what_is_open_is_aborted_first(self) -> None:
        fenced = self.initialise(state())
        self.assertIsNone(fenced.producer)
        self.assertEqual((fenced.state.state, fenced.state.identity), (S.PREPARE_ABORT, (1, 8)))
        self.assertEqual(fenced.state.partitions, {A})
        self.assertEqual(self.initialise(fenced.state), E.CONCURRENT_TRANSACTIONS)
        self.assertEqual(self.producer(transaction.complete(fenced.state, NOW)), (1, 9))

    def test_a_zombie_does_not_abort_what_its_successor_has_open(self) -> None:
        for epoch in (5, 6, 8):
            self.assertEqual(self.initialise(state(), Identity(1, epoch)), E.PRODUCER_FENCED)
        self.assertIsNone(self.initialise(state(), Identity(1, 7)).producer, "its own it may")

    def test_meanwhile(self) -> None:
        for of in (S.PREPARE_COMMIT, S.PREPARE_ABORT):
            self.assertEqual(self.initialise(state(of)), E.CONCURRENT_TRANSACTIONS)
        for of in (S.EMPTY, S.ONGOING, S.COMPLETE_ABORT):
            self.assertEqual(self.initialise(state(of), moving=True), E.CONCURRENT_TRANSACTIONS)
        self.assertEqual(self.initialise(None, moving=True), E.CONCURRENT_TRANSACTIONS)

    def test_a_producer_that_goes_on(self) -> None:
        """KIP-360: it names the epoch that it has, and its repetition is known."""
        now = state(S.COMPLETE_ABORT)
        went_on = self.initialise(now, Identity(1, 7))
        self.assertEqual((went_on.producer, went_on.state.last_producer_epoch), ((1, 8), 7))
        again = self.initialise(went_on.state, Identity(1, 7))
        self.assertEqual((again.producer, again.state.last_producer_epoch), ((1, 8), 7))
        self.assertEqual(self.producer(now, Identity(1, 5)), E.PRODUCER_FENCED)
        self.assertEqual(self.producer(now, Identity(1, 9)), E.PRODUCER_FENCED)
        self.assertEqual(self.producer(now, Identity(2, 7)), E.PRODUCER_FENCED)

    def test_epochs_that_are_used_up(self) -> None:
        used_up = state(S.COMPLETE_COMMIT, LAST_EPOCH_OF_CLIENTS)
        self.assertEqual(self.producer(state(S.EMPTY, LAST_EPOCH_OF_CLIENTS - 1)), (1, LAST_EPOCH_OF_CLIENTS))
        self.assertIs(self.producer(used_up), NeedsProducerId)
        self.assertEqual(self.producer(used_up, None, 99), (99, 0))
        mine = Identity(1, LAST_EPOCH_OF_CLIENTS)
        rotated = self.initialise(used_up, mine)
        self.assertEqual((rotated.producer, rotated.state.last_producer_epoch), ((99, 0), LAST_EPOCH_OF_CLIENTS))
        self.assertEqual(self.producer(rotated.state, mine), (99, 0), "a repetition")
        self.assertEqual(self.producer(rotated.state, Identity(1, 5)), E.PRODUCER_FENCED)
        retry = Identity(1, LAST_EPOCH_OF_CLIENTS - 1)
        self.assertEqual(self.producer(used_up, retry), mine, "a repetition of the one that used them up")

    def test_nobody_gets_the_last_epoch(self) -> None:
        """The coordinator fences at the last epoch of clients, and the epoch that it takes is its own."""
        aborted = transaction.complete(self.initialise(state(S.ONGOING, LAST_EPOCH_OF_CLIENTS)).state, NOW)
        self.assertEqual(aborted.identity, (1, LAST_EPOCH))
        self.assertEqual(self.producer(aborted, None, 99), (99, 0))
        mine = Identity(1, LAST_EPOCH_OF_CLIENTS)
        rotated = self.initialise(aborted, mine)
        self.assertEqual(rotated.producer, (99, 0), "the coordinator's epoch is given to nobody")
        self.assertEqual(self.producer(rotated.state, mine), (99, 0))


class AddTests(Case):
    def add(
        self, now: Transaction | None, producer: Identity, *partitions: TopicPartition, moving: bool = False
    ) -> Any:
        return self.outcome(transaction.add, now, moving, producer, partitions, V2, NOW)

    def test_the_first_partition_begins_it(self) -> None:
        for of in (S.EMPTY, S.COMPLETE_COMMIT, S.COMPLETE_ABORT):
            begun = self.add(state(of, client_version=V1), Identity(1, 7), A, B)
            self.assertEqual((begun.state, begun.partitions, begun.start_ms), (S.ONGOING, {A, B}, NOW))
            self.assertEqual((begun.client_version, begun.identity, begun.timeout_ms), (V2, (1, 7), 60_000))

    def test_more_of_them(self) -> None:
        more = self.add(state(), Identity(1, 7), B)
        self.assertEqual((more.partitions, more.start_ms, more.updated_ms), ({A, B}, 1_000, NOW))
        self.assertIsNone(self.add(state(), Identity(1, 7), A), "nothing changes")

    def test_refusals(self) -> None:
        for operation in (self.add, self.verify):
            self.assertEqual(operation(None, Identity(1, 7), A), E.INVALID_PRODUCER_ID_MAPPING)
            self.assertEqual(operation(state(), Identity(2, 7), A), E.INVALID_PRODUCER_ID_MAPPING)
            self.assertEqual(operation(state(), Identity(1, 6), A), E.PRODUCER_FENCED)
            self.assertEqual(operation(state(), Identity(1, 8), A), E.PRODUCER_FENCED)
            for of in (S.PREPARE_COMMIT, S.PREPARE_ABORT):
                self.assertEqual(operation(state(of), Identity(1, 7), A), E.CONCURRENT_TRANSACTIONS)
        self.assertEqual(self.add(state(), Identity(1, 7), A, moving=True), E.CONCURRENT_TRANSACTIONS)

    def verify(self, now: Transaction | None, producer: Identity, *partitions: TopicPartition) -> Any:
        return self.outcome(transaction.verify, now, producer, partitions)

    def test_verifying(self) -> None:
        self.assertEqual(self.verify(state(), Identity(1, 7), A, B), {A: E.NONE, B: E.TRANSACTION_ABORTABLE})
        self.assertEqual(self.verify(state(S.EMPTY), Identity(1, 7), A), {A: E.TRANSACTION_ABORTABLE})


V1_ENDS = {
    # (state, commit): what is answered to the current epoch
    (S.EMPTY, True): E.INVALID_TXN_STATE,
    (S.EMPTY, False): E.INVALID_TXN_STATE,
    (S.ONGOING, True): S.PREPARE_COMMIT,
    (S.ONGOING, False): S.PREPARE_ABORT,
    (S.PREPARE_COMMIT, True): E.CONCURRENT_TRANSACTIONS,
    (S.PREPARE_COMMIT, False): E.INVALID_TXN_STATE,
    (S.PREPARE_ABORT, True): E.INVALID_TXN_STATE,
    (S.PREPARE_ABORT, False): E.CONCURRENT_TRANSACTIONS,
    (S.COMPLETE_COMMIT, True): None,
    (S.COMPLETE_COMMIT, False): E.INVALID_TXN_STATE,
    (S.COMPLETE_ABORT, True): E.INVALID_TXN_STATE,
    (S.COMPLETE_ABORT, False): None,
}

V2_ENDS = {
    # (state, commit): (answered to the current epoch, to the one before: a repetition)
    (S.EMPTY, True): (E.INVALID_TXN_STATE, E.PRODUCER_FENCED),
    (S.EMPTY, False): (S.PREPARE_ABORT, E.PRODUCER_FENCED),
    (S.ONGOING, True): (S.PREPARE_COMMIT, E.PRODUCER_FENCED),
    (S.ONGOING, False): (S.PREPARE_ABORT, E.PRODUCER_FENCED),
    (S.PREPARE_COMMIT, True): (E.PRODUCER_FENCED, E.CONCURRENT_TRANSACTIONS),
    (S.PREPARE_COMMIT, False): (E.PRODUCER_FENCED, E.INVALID_TXN_STATE),
    (S.PREPARE_ABORT, True): (E.PRODUCER_FENCED, E.INVALID_TXN_STATE),
    (S.PREPARE_ABORT, False): (E.PRODUCER_FENCED, E.CONCURRENT_TRANSACTIONS),
    (S.COMPLETE_COMMIT, True): (E.INVALID_TXN_STATE, None),
    (S.COMPLETE_COMMIT, False): (S.PREPARE_ABORT, E.INVALID_TXN_STATE),
    (S.COMPLETE_ABORT, True): (E.INVALID_TXN_STATE, E.INVALID_TXN_STATE),
    (S.COMPLETE_ABORT, False): (S.PREPARE_ABORT, None),
}


class EndTests(Case):
    def end(
        self,
        now: Transaction | None,
        epoch: int = 7,
        commit: bool = True,
        version: int = V2,
        fresh: int | None = None,
        moving: bool = False,
        producer_id: int = 1,
    ) -> Any:
        return self.outcome(transaction.end, now, moving, Identity(producer_id, epoch), commit, version, NOW, fresh)

    def result(self, ended: Any) -> Any:
        if not isinstance(ended, transaction.Ended):
            return ended
        return None if ended.state is None else ended.state.state

    def test_v1(self) -> None:
        for (of, commit), expected in V1_ENDS.items():
            ended = self.end(state(of), 7, commit, V1)
            self.assertEqual(self.result(ended), expected, (of, commit))
            if isinstance(expected, S):
                self.assertEqual((ended.state.identity, ended.producer), ((1, 7), (1, 7)), "the epoch stays")
                self.assertEqual((ended.state.partitions, ended.state.client_version), ({A}, V1))
            for epoch in (6, 8):
                self.assertEqual(self.end(state(of), epoch, commit, V1), E.PRODUCER_FENCED)

    def test_v2(self) -> None:
        for (of, commit), (current, before) in V2_ENDS.items():
            ended = self.end(state(of), 7, commit)
            self.assertEqual(self.result(ended), current, (of, commit, "current"))
            if isinstance(current, S):
                self.assertEqual((ended.state.identity, ended.producer), ((1, 8), (1, 8)), "the epoch moves on")
                self.assertEqual((ended.state.last_producer_epoch, ended.state.client_version), (7, V2))
                self.assertEqual(ended.state.start_ms, 1_000 if of is S.ONGOING else NOW)
            repeated = self.end(state(of), 6, commit)
            self.assertEqual(self.result(repeated), before, (of, commit, "repeated"))
            if before is None:
                self.assertEqual(repeated.producer, (1, 7))
            self.assertEqual(self.end(state(of), 5, commit), E.PRODUCER_FENCED)
            self.assertEqual(self.end(state(of), 8, commit), E.PRODUCER_FENCED)

    def test_line_34_a_delayed_end_ends_no_later_transaction(self) -> None:
        """34. A delayed EndTxn cannot end a later transaction: epoch bump per transaction, KIP-890."""
        first = self.end(state())
        complete = transaction.complete(first.state, NOW)
        later = transaction.add(complete, False, first.producer, [B], V2, NOW)
        for commit in (True, False):
            self.assertEqual(self.end(later, 7, commit), E.PRODUCER_FENCED)

    def test_refusals(self) -> None:
        for version in (V1, V2):
            self.assertEqual(self.end(None, version=version), E.INVALID_PRODUCER_ID_MAPPING)
            self.assertEqual(self.end(state(), producer_id=2, version=version), E.INVALID_PRODUCER_ID_MAPPING)
            self.assertEqual(self.end(state(), moving=True, version=version), E.CONCURRENT_TRANSACTIONS)

    def test_epochs_that_are_used_up(self) -> None:
        now = state(S.ONGOING, LAST_EPOCH_OF_CLIENTS)
        self.assertIs(self.end(now, LAST_EPOCH_OF_CLIENTS), NeedsProducerId)
        ended = self.end(now, LAST_EPOCH_OF_CLIENTS, fresh=99)
        self.assertEqual((ended.state.identity, ended.producer), ((1, LAST_EPOCH), (99, 0)), "markers have the old id")
        self.assertEqual(self.end(ended.state, LAST_EPOCH_OF_CLIENTS), E.CONCURRENT_TRANSACTIONS)
        complete = transaction.complete(ended.state, NOW)
        self.assertEqual(complete.identity, (99, 0))
        self.assertEqual(self.end(complete, LAST_EPOCH_OF_CLIENTS).producer, (99, 0), "a repetition")
        self.assertEqual(self.end(complete, LAST_EPOCH_OF_CLIENTS, False), E.INVALID_TXN_STATE)
        self.assertEqual(self.end(complete, 5), E.INVALID_PRODUCER_ID_MAPPING)
        later = transaction.add(complete, False, Identity(99, 0), [A], V2, NOW)
        self.assertEqual(self.end(later, LAST_EPOCH_OF_CLIENTS), E.INVALID_PRODUCER_ID_MAPPING)

    def test_v1_uses_no_epochs_up(self) -> None:
        ended = self.end(state(S.ONGOING, LAST_EPOCH_OF_CLIENTS), LAST_EPOCH_OF_CLIENTS, version=V1)
        self.assertEqual(ended.producer, (1, LAST_EPOCH_OF_CLIENTS))

    def test_a_client_that_claims_the_last_epoch_overflows_nothing(self) -> None:
        now = state(S.ONGOING, LAST_EPOCH)
        self.assertEqual(self.end(now, LAST_EPOCH, fresh=99).state.producer_epoch, LAST_EPOCH)
        self.assertEqual(transaction.abort(now, NOW).producer_epoch, LAST_EPOCH)


class CompleteTests(Case):
    def test_the_outcome_stands(self) -> None:
        for of, complete in ((S.PREPARE_COMMIT, S.COMPLETE_COMMIT), (S.PREPARE_ABORT, S.COMPLETE_ABORT)):
            done = transaction.complete(state(of), NOW)
            self.assertEqual(
                done,
                replace(state(of), state=complete, partitions=frozenset(), updated_ms=NOW, previous_producer_id=1),
            )

    def test_an_abort_by_the_coordinator(self) -> None:
        for version in (V1, V2):
            aborted = transaction.abort(state(client_version=version), NOW)
            self.assertEqual((aborted.state, aborted.identity, aborted.partitions), (S.PREPARE_ABORT, (1, 8), {A}))
            self.assertEqual(aborted.last_producer_epoch, 7)
            done = transaction.complete(aborted, NOW)
            self.assertEqual(
                self.outcome(transaction.add, done, False, Identity(1, 7), [A], V1, NOW), E.PRODUCER_FENCED
            )
