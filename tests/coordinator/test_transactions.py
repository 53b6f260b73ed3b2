"""The transaction coordinator on logs that delay and fail: outcomes, crashes, timeouts, expiry, and who waits for what."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chronik.coordinator import transaction_partition
from chronik.coordinator.settings import TransactionSettings
from chronik.coordinator.transaction import V1, V2, Identity, TransactionState
from chronik.coordinator.transaction_filters import filters
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IMarkerWriter, IPartitionHost, ITransactions
from chronik.model import TRANSACTIONS_TOPIC, TopicPartition, TransactionMarker
from tests.coordinator.transactions import EVENTS, LOGS, PARTITION, MemoryMarkers, TransactionWorld

E, S = ErrorCode, TransactionState
DAY = 86_400


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = TransactionWorld()

    def tearDown(self) -> None:
        self.world.coordinator.stop()

    def ongoing(self, *partitions: TopicPartition, transactional_id: str = "t", **options: Any) -> Identity:
        """A producer with an open transaction."""
        producer: Identity = self.world.initialise(transactional_id, **options)
        self.assertIsNone(self.world.add(producer, *(partitions or (EVENTS, LOGS)), transactional_id=transactional_id))
        return producer

    def crash(self) -> None:
        """The node dies and comes back. What was in memory is what is in the log."""
        self.world = self.world.crash()

    def assert_is_its_log(self) -> None:
        before = dict(self.world.shard.transactions)
        self.crash()
        self.assertEqual(self.world.shard.transactions, before)


class InterfaceTests(Case):
    def test_interfaces(self) -> None:
        verifyObject(IPartitionHost, self.world.coordinator)
        verifyObject(ITransactions, self.world.coordinator)
        verifyObject(IMarkerWriter, MemoryMarkers())


class LifeTests(Case):
    def test_a_commit(self) -> None:
        producer = self.ongoing()
        self.assertEqual(producer, (1, 0))
        self.assertEqual(self.world.end(producer), (1, 1))
        self.assertEqual(self.world.states(), ["Empty", "Ongoing", "PrepareCommit", "CompleteCommit"])
        marker = TransactionMarker(1, 1, True, 0)
        self.assertEqual(self.world.markers.written, {EVENTS: [marker], LOGS: [marker]})
        self.assert_is_its_log()

    def test_an_abort_of_v1_keeps_the_epoch(self) -> None:
        producer = self.world.initialise()
        self.world.add(producer, version=V1)
        self.assertEqual(self.world.end(producer, commit=False, version=V1), producer)
        self.assertEqual(self.world.markers.written[EVENTS], [TransactionMarker(1, 0, False, 0)])
        self.assertEqual(self.world.end(producer, commit=False, version=V1), producer, "a repetition")
        self.assertEqual(len(self.world.states()), 4)
        self.assert_is_its_log()

    def test_the_answer_comes_before_the_markers(self) -> None:
        producer = self.ongoing()
        self.world.markers.holding = True
        self.assertEqual(self.world.end(producer), (1, 1))
        self.assertEqual(self.world.state().state, S.PREPARE_COMMIT)
        self.assertEqual(self.world.end(producer), E.CONCURRENT_TRANSACTIONS)
        self.world.markers.release()
        self.assertEqual(self.world.state().state, S.PREPARE_COMMIT, "one marker is still missing")
        self.world.markers.release()
        self.assertEqual(self.world.state().state, S.COMPLETE_COMMIT)
        self.assertEqual(self.world.end(producer), (1, 1), "a repetition")

    def test_an_abort_without_partitions(self) -> None:
        """v2: the client cannot know whether a write came through, so it gets a new epoch all the same."""
        producer = self.world.initialise()
        self.assertEqual(self.world.end(producer, commit=False), (1, 1))
        self.assertEqual(self.world.states()[1:], ["PrepareAbort", "CompleteAbort"])
        self.assertEqual(self.world.markers.written, {})
        self.assertEqual(self.world.end(Identity(1, 1), commit=True), E.INVALID_TXN_STATE)

    def test_partitions_of_one_request_are_one_record(self) -> None:
        producer = self.ongoing(EVENTS)
        self.world.add(producer, EVENTS)
        self.assertEqual(self.world.states(), ["Empty", "Ongoing"])
        self.world.add(producer, LOGS, TopicPartition("events", 3))
        self.assertEqual(len(self.world.states()), 3)
        self.assertEqual(len(self.world.state().partitions), 3)

    def test_a_zombie_is_fenced(self) -> None:
        zombie = self.ongoing()
        self.assertEqual(self.world.initialise(), E.CONCURRENT_TRANSACTIONS, "the open transaction is aborted first")
        self.assertEqual(self.world.markers.outcomes(), [False])
        producer = self.world.initialise()
        self.assertEqual(producer, (1, 2))
        for version in (V1, V2):
            self.assertEqual(self.world.add(zombie, version=version), E.PRODUCER_FENCED)
            self.assertEqual(self.world.end(zombie, version=version), E.PRODUCER_FENCED)
        self.assertEqual(self.world.initialise(expected=zombie), E.PRODUCER_FENCED)
        self.assertIsNone(self.world.add(producer))

    def test_line_36_the_longest_timeout(self) -> None:
        """36. InitProducerId rejects a timeout above `transaction.max.timeout.ms` with INVALID_TRANSACTION_TIMEOUT."""
        for timeout_ms in (900_001, 0, -1):
            self.assertEqual(self.world.initialise(timeout_ms=timeout_ms), E.INVALID_TRANSACTION_TIMEOUT)
        self.assertEqual(self.world.initialise(timeout_ms=900_000), (1, 0))

    def test_an_empty_id(self) -> None:
        self.assertEqual(self.world.initialise(""), E.INVALID_REQUEST)
        self.assertEqual(self.world.add(Identity(1, 0), transactional_id=""), E.INVALID_REQUEST)
        self.assertEqual(self.world.end(Identity(1, 0), transactional_id=""), E.INVALID_REQUEST)

    def test_epochs_that_are_used_up(self) -> None:
        """The producer gets a new id with the end of its transaction, and its late EndTxn still finds the outcome."""
        self.ongoing()
        old = Identity(1, 32_766)
        self.patch(self.world.shard, "transactions", {"t": _at(self.world.state(), 32_766)})
        self.assertEqual(self.world.end(old), (2, 0))
        self.assertEqual(self.world.markers.written[EVENTS], [TransactionMarker(1, 32_767, True, 0)])
        self.assertEqual(self.world.end(old), (2, 0))
        self.assertIsNone(self.world.add(Identity(2, 0)))


def _at(state: Any, epoch: int) -> Any:
    import dataclasses

    return dataclasses.replace(state, producer_epoch=epoch)


class CrashTests(Case):
    """A crash between any two of: the outcome logged, some markers written, all written, the completion logged."""

    def test_before_the_outcome_is_logged(self) -> None:
        producer = self.ongoing()
        self.world.log.holding = True
        waiting = self.world.begin(self.world.coordinator.end("t", producer, True, V2))
        self.crash()
        self.assertEqual([error.code for error in waiting], [], "nothing was promised")
        self.assertEqual(self.world.state().state, S.ONGOING)
        self.assertEqual(self.world.markers.written, {})
        self.assertEqual(self.world.end(producer), (1, 1), "the client asks again")
        self.assertEqual(self.world.markers.outcomes(), [True])

    def test_with_none_some_and_all_of_the_markers_written(self) -> None:
        for commit in (True, False):
            for written in range(3):
                self.world = TransactionWorld()
                producer = self.ongoing()
                self.world.markers.holding = True
                self.assertEqual(self.world.end(producer, commit), (1, 1))
                if written == 2:
                    self.world.log.holding = True  # all are written, and nobody has noted it
                for _ in range(written):
                    self.world.markers.release()
                self.assertEqual(self.world.states()[-1], "PrepareCommit" if commit else "PrepareAbort")
                self.crash()
                for partition in (EVENTS, LOGS):
                    self.assertEqual(self.world.markers.outcomes(partition), [commit], (commit, written))
                self.assertEqual(self.world.states()[-1], "CompleteCommit" if commit else "CompleteAbort")
                self.assertEqual(self.world.end(producer, commit), (1, 1), "the client learns the outcome")
                self.assertEqual(self.world.end(producer, not commit), E.INVALID_TXN_STATE)

    def test_while_completing_again(self) -> None:
        producer = self.ongoing()
        self.world.markers.holding = True
        self.world.end(producer)
        for _ in range(3):
            self.world = self.world.crash(holding=True)
            self.world.markers.release()
            self.assertEqual(self.world.state().state, S.PREPARE_COMMIT)
        self.crash()
        self.assertEqual(len(self.world.markers.written[EVENTS]), 4, "the same marker, each time")
        self.assertEqual((self.world.markers.outcomes(EVENTS), self.world.markers.outcomes(LOGS)), ([True], [True]))
        self.assertEqual(self.world.state().state, S.COMPLETE_COMMIT)

    def test_an_outcome_that_was_logged_though_its_append_failed(self) -> None:
        """The client was told that it failed; the log says otherwise, and the log is the truth."""
        producer = self.ongoing()
        self.world.log.failing, self.world.log.torn = E.NOT_ENOUGH_REPLICAS, True
        self.assertEqual(self.world.end(producer), E.COORDINATOR_NOT_AVAILABLE)
        self.world.log.failing = None
        self.assertEqual(self.world.markers.outcomes(), [True], "it is completed without a restart")
        self.world.advance(1)
        self.assertEqual(self.world.state().state, S.COMPLETE_COMMIT)
        self.assertEqual(self.world.end(producer), (1, 1), "and the client who asks again learns it")
        self.assert_is_its_log()

    def test_a_completion_that_cannot_be_logged_at_first(self) -> None:
        producer = self.ongoing()
        self.world.markers.holding = True
        self.world.end(producer)
        self.world.log.failing = E.KAFKA_STORAGE_ERROR
        self.world.markers.release_all()
        self.world.advance(30)
        self.assertEqual(self.world.state().state, S.PREPARE_COMMIT)
        self.world.log.failing = None
        self.world.advance(5)
        self.assertEqual(self.world.state().state, S.COMPLETE_COMMIT)
        self.assertEqual(len(self.world.markers.written[EVENTS]), 1, "its markers need no second")

    def test_many_at_once(self) -> None:
        """What a crash left prepared is completed in slices, so that the node answers meanwhile."""
        self.world.markers.holding = True
        for number in range(250):
            name = f"t{number}"
            self.world.end(self.ongoing(EVENTS, transactional_id=name), transactional_id=name)
        turns: list[float] = []
        call_later = self.world.clock.callLater

        def counted(delay: float, *arguments: Any) -> Any:
            turns.append(delay)
            return call_later(delay, *arguments)

        self.patch(self.world.clock, "callLater", counted)
        self.crash()
        self.assertGreaterEqual(turns.count(0), 250 // transaction_partition.IDS_A_SLICE)
        states = {state.state for state in self.world.shard.transactions.values()}
        self.assertEqual(states, {S.COMPLETE_COMMIT})

    def test_a_log_that_cannot_be_read(self) -> None:
        producer = self.ongoing()
        self.world.markers.holding = True
        self.world.end(producer)
        self.world.log.unreadable = True
        self.world.lead()
        self.flushLoggedErrors()
        self.assertEqual(self.world.end(producer), E.COORDINATOR_NOT_AVAILABLE)
        self.assertEqual(self.world.initialise(), E.COORDINATOR_NOT_AVAILABLE)
        self.world.log.unreadable = False
        self.world.markers.release_all()
        self.world.advance(1)
        self.assertEqual(self.world.state().state, S.COMPLETE_COMMIT)


class MarkerTests(Case):
    def end_with(self, code: ErrorCode, partition: TopicPartition = EVENTS) -> None:
        producer = self.ongoing()
        self.world.markers.refuse(partition, code)
        self.assertEqual(self.world.end(producer), (1, 1))

    def test_every_partition_is_tried_until_it_has_its_marker(self) -> None:
        for code in (
            E.NOT_LEADER_OR_FOLLOWER,
            E.UNKNOWN_TOPIC_OR_PARTITION,  # it exists, and is not open here yet
            E.KAFKA_STORAGE_ERROR,
            E.UNKNOWN_SERVER_ERROR,
        ):
            self.world = TransactionWorld()
            self.end_with(code)
            self.world.advance(60)
            self.assertEqual(self.world.state().state, S.PREPARE_COMMIT)
            self.assertEqual(self.world.markers.outcomes(LOGS), [True], "the others don't wait")
            self.world.markers.failing.clear()
            self.world.advance(5)
            self.assertEqual(self.world.markers.outcomes(EVENTS), [True])
            self.assertEqual(self.world.state().state, S.COMPLETE_COMMIT)

    def test_whatever_goes_wrong(self) -> None:
        producer = self.ongoing()
        self.world.markers.failing[EVENTS] = OSError("a wire was cut")
        self.world.end(producer)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.world.markers.failing.clear()
        self.world.advance(1)
        self.assertEqual(self.world.state().state, S.COMPLETE_COMMIT)

    def test_a_deleted_partition_is_given_up(self) -> None:
        self.end_with(E.UNKNOWN_TOPIC_OR_PARTITION)
        self.world.metadata.delete("events")
        self.world.advance(5)
        self.assertEqual(self.world.state().state, S.COMPLETE_COMMIT)
        self.assertEqual(self.world.markers.outcomes(EVENTS), [])

    def test_a_producer_that_is_further_there(self) -> None:
        self.end_with(E.INVALID_PRODUCER_EPOCH)
        self.assertEqual(self.world.state().state, S.COMPLETE_COMMIT)
        self.assertEqual(self.world.markers.outcomes(LOGS), [True], "the others have theirs")

    def test_a_newer_coordinator_ends_it(self) -> None:
        self.end_with(E.TRANSACTION_COORDINATOR_FENCED)
        self.world.advance(60)
        self.assertEqual(self.world.state().state, S.PREPARE_COMMIT, "not ours to complete")
        self.world.markers.failing.clear()
        self.world.lead(epoch=5)
        self.assertEqual(self.world.markers.written[EVENTS], [TransactionMarker(1, 1, True, 5)])
        self.assertEqual(self.world.state().state, S.COMPLETE_COMMIT)

    def test_many_partitions_leave_the_reactor_free(self) -> None:
        places = [TopicPartition("events", number % 10) for number in range(10)]
        self.world.metadata.create("wide", 500)
        places += [TopicPartition("wide", number) for number in range(500)]
        producer = self.ongoing(*places)
        results = self.world.begin(self.world.coordinator.end("t", producer, True, V2))
        self.assertEqual(results, [(1, 1)], "the answer waits for none of them")
        self.assertLess(len(self.world.markers.written), 100)
        self.world.settle()
        self.assertEqual(len(self.world.markers.written), 510)
        self.assertEqual(self.world.state().state, S.COMPLETE_COMMIT)

    def test_a_stop_ends_the_tries(self) -> None:
        self.end_with(E.NOT_LEADER_OR_FOLLOWER)
        self.world.coordinator.stop()
        self.assertEqual(self.world.clock.getDelayedCalls(), [])
        self.world.markers.failing.clear()
        self.world.advance(60)
        self.assertEqual(self.world.markers.outcomes(EVENTS), [])


class WaitingTests(Case):
    def test_the_next_transaction_waits_for_the_end_of_the_last(self) -> None:
        producer = self.ongoing()
        self.world.markers.holding = True
        following = self.world.end(producer)
        adding = self.world.begin(self.world.coordinator.add_partitions("t", following, [EVENTS], V2))
        self.world.settle()
        self.assertEqual(adding, [])
        self.world.markers.release_all()
        self.assertEqual(adding, [None])
        self.assertEqual(self.world.state().state, S.ONGOING)

    def test_not_for_long(self) -> None:
        producer = self.ongoing()
        self.world.markers.holding = True
        following = self.world.end(producer)
        adding = self.world.begin(self.world.coordinator.add_partitions("t", following, [EVENTS], V2))
        self.world.advance(0.2)
        self.assertEqual(adding[0].code, E.CONCURRENT_TRANSACTIONS)

    def test_two_requests_at_once(self) -> None:
        """Produce to two partitions: the second waits for the first, and both are in the transaction."""
        producer = self.world.initialise()
        self.world.log.holding = True
        first = self.world.begin(self.world.coordinator.join("t", *producer, [EVENTS], False))
        second = self.world.begin(self.world.coordinator.join("t", *producer, [LOGS], False))
        ending = self.world.begin(self.world.coordinator.end("t", producer, True, V2))
        self.assertEqual(ending[0].code, E.CONCURRENT_TRANSACTIONS)
        self.assertEqual((first, second), ([], []))
        self.world.log.release_all()
        self.assertEqual((first, second), ([{EVENTS: E.NONE}], [{LOGS: E.NONE}]))
        self.assertEqual(self.world.state().partitions, {EVENTS, LOGS})

    def test_one_change_at_a_time(self) -> None:
        producer = self.world.initialise()
        self.world.log.holding = True
        first = self.world.begin(self.world.coordinator.initialise("t", 1_000, None))
        self.assertEqual(self.world.initialise(), E.CONCURRENT_TRANSACTIONS)
        self.assertEqual(self.world.end(producer), E.CONCURRENT_TRANSACTIONS)
        self.world.log.release(E.NOT_ENOUGH_REPLICAS)
        self.assertEqual(first[0].code, E.COORDINATOR_NOT_AVAILABLE)
        self.world.log.holding = False
        self.assertEqual(self.world.initialise(), (1, 1), "what failed took no epoch")

    def test_a_new_id_that_two_ask_for(self) -> None:
        self.world.log.holding = True
        first = self.world.begin(self.world.coordinator.initialise("t", 1_000, None))
        self.assertEqual(self.world.initialise(), E.CONCURRENT_TRANSACTIONS)
        self.world.log.release_all()
        self.assertEqual(first, [(1, 0)])

    def test_who_waits_is_told_of_a_resignation(self) -> None:
        producer = self.ongoing()
        self.world.markers.holding = True
        following = self.world.end(producer)
        adding = self.world.begin(self.world.coordinator.add_partitions("t", following, [EVENTS], V2))
        self.world.resign()
        self.assertEqual(adding[0].code, E.NOT_COORDINATOR)
        self.assertEqual([call for call in self.world.clock.getDelayedCalls() if call.getTime() < 5], [])

    def test_while_loading(self) -> None:
        """31. While loading, a coordinator answers COORDINATOR_LOAD_IN_PROGRESS."""
        producer = self.ongoing()
        self.world.lead(load=False)
        coordinator, loading = self.world.coordinator, E.COORDINATOR_LOAD_IN_PROGRESS
        for operation in (
            coordinator.initialise("t", 1_000, None),
            coordinator.add_partitions("t", producer, [EVENTS], V2),
            coordinator.end("t", producer, True, V2),
            coordinator.join("t", *producer, [EVENTS], True),
            coordinator.list(filters((), (), -1, None)[0]),
        ):
            self.assertEqual(self.world.begin(operation)[0].code, loading)
        self.assertEqual(self.assertRaises(KafkaError, coordinator.describe, "t").code, loading)
        self.world.settle()
        self.assertEqual(self.world.end(producer), (1, 1))

    def test_no_producer_ids(self) -> None:
        async def none() -> int:
            raise KafkaError(E.COORDINATOR_LOAD_IN_PROGRESS)

        self.patch(self.world.coordinator, "_fresh_producer_id", none)
        self.assertEqual(self.world.initialise(), E.COORDINATOR_LOAD_IN_PROGRESS)
        self.assertEqual(self.world.entries(), [])


class JoinTests(Case):
    def join(self, producer: Identity, *partitions: TopicPartition, verify_only: bool) -> Any:
        return self.world.result(self.world.coordinator.join("t", *producer, partitions, verify_only))

    def test_verifying_changes_nothing(self) -> None:
        producer = self.ongoing(EVENTS)
        records = len(self.world.entries())
        found = self.join(producer, EVENTS, LOGS, verify_only=True)
        self.assertEqual(found, {EVENTS: E.NONE, LOGS: E.TRANSACTION_ABORTABLE})
        self.assertEqual(self.join(Identity(1, 9), EVENTS, verify_only=True), E.PRODUCER_FENCED)
        self.assertEqual(self.join(Identity(9, 0), EVENTS, verify_only=True), E.INVALID_PRODUCER_ID_MAPPING)
        self.assertEqual(len(self.world.entries()), records)

    def test_joining_begins_a_transaction_of_v2(self) -> None:
        producer = self.world.initialise()
        self.assertEqual(self.join(producer, EVENTS, LOGS, verify_only=False), {EVENTS: E.NONE, LOGS: E.NONE})
        self.assertEqual((self.world.state().state, self.world.state().client_version), (S.ONGOING, V2))
        self.assertEqual(self.join(Identity(1, 9), EVENTS, verify_only=False), E.PRODUCER_FENCED)


class TimeoutTests(Case):
    def test_an_open_transaction_is_aborted_and_its_producer_fenced(self) -> None:
        producer = self.ongoing()
        self.world.advance(60)
        self.assertEqual(self.world.state().state, S.ONGOING, "it was open for 60 s, not longer")
        self.world.advance(10)
        self.assertEqual(self.world.markers.written[EVENTS], [TransactionMarker(1, 1, False, 0)])
        self.assertEqual(self.world.state().state, S.COMPLETE_ABORT)
        self.assertEqual(self.world.add(producer), E.PRODUCER_FENCED)
        self.assertEqual(self.world.end(producer, commit=True), E.INVALID_TXN_STATE)
        self.assertEqual(self.world.end(producer, commit=True, version=V1), E.PRODUCER_FENCED)
        self.assertEqual(self.world.initialise(expected=producer), (1, 1), "it may go on (KIP-360)")

    def test_what_ends_in_time_is_left_alone(self) -> None:
        producer = self.ongoing()
        self.world.advance(30)
        following = self.world.end(producer)
        self.world.advance(30)
        self.assertIsNone(self.world.add(following))
        self.world.advance(55)
        self.assertEqual(self.world.state().state, S.ONGOING, "the time of the second counts from its own begin")
        self.assertEqual(self.world.end(following), (1, 2))

    def test_a_restart_does_not_set_the_clock_back(self) -> None:
        self.ongoing()
        self.world.advance(50)
        self.crash()
        self.world.advance(20)
        self.assertEqual(self.world.state().state, S.COMPLETE_ABORT)

    def test_an_abort_that_cannot_be_logged_is_tried_again(self) -> None:
        self.ongoing()
        self.world.log.failing = E.NOT_ENOUGH_REPLICAS
        self.world.advance(65)
        self.world.advance(10)
        self.assertEqual(self.world.state().state, S.ONGOING)
        self.world.log.failing = None
        self.world.advance(10)
        self.assertEqual(self.world.state().state, S.COMPLETE_ABORT)

    def test_one_whose_end_is_on_its_way(self) -> None:
        producer = self.ongoing()
        self.world.log.holding = True
        ending = self.world.begin(self.world.coordinator.end("t", producer, True, V2))
        self.world.advance(70)
        self.world.log.release_all()
        self.assertEqual(ending, [(1, 1)])
        self.assertEqual(self.world.markers.outcomes(), [True])
        self.world.advance(70)
        self.assertEqual(self.world.state().state, S.COMPLETE_COMMIT)

    def test_one_whose_end_failed_on_its_way(self) -> None:
        producer = self.ongoing()
        self.world.log.holding = True
        self.world.begin(self.world.coordinator.end("t", producer, True, V2))
        self.world.advance(70)
        self.world.log.release(E.NOT_ENOUGH_REPLICAS)
        self.world.log.holding = False
        self.world.advance(10)
        self.assertEqual(self.world.state().state, S.COMPLETE_ABORT)


class ExpiryTests(Case):
    def setUp(self) -> None:
        self.world = TransactionWorld(TransactionSettings(transactional_id_expiration_ms=DAY * 1000))

    def test_an_id_that_is_not_used_is_forgotten(self) -> None:
        producer = self.ongoing()
        self.world.end(producer)
        self.world.initialise("u")
        self.world.advance(DAY - 3600)
        self.world.initialise("u")
        self.world.advance(3600)
        self.assertEqual(list(self.world.shard.transactions), ["u"])
        self.assertEqual(self.world.states()[-1], "gone")
        self.assertEqual(self.world.add(Identity(1, 1)), E.INVALID_PRODUCER_ID_MAPPING)
        self.assertEqual(self.world.initialise(), (3, 0), "it begins anew")
        self.assert_is_its_log()

    def test_what_is_open_prepared_or_on_its_way_stays(self) -> None:
        producer = self.ongoing(timeout_ms=900_000)
        self.world.initialise("u")
        self.world.markers.holding = True
        self.world.end(producer)
        self.world.advance(DAY - 1)
        self.world.log.holding = True
        waiting = self.world.begin(self.world.coordinator.initialise("u", 1_000, None))
        self.world.advance(3600)
        self.world.log.release_all()
        self.assertEqual(waiting, [(2, 1)])
        self.assertEqual(sorted(self.world.shard.transactions), ["t", "u"])
        self.world.markers.release_all()
        self.assertEqual(self.world.state().state, S.COMPLETE_COMMIT)

    def test_a_tombstone_that_fails(self) -> None:
        self.world.initialise()
        self.world.log.failing = E.NOT_ENOUGH_REPLICAS
        self.world.advance(DAY)
        self.assertEqual(list(self.world.shard.transactions), ["t"])
        self.world.log.failing = None
        self.world.advance(3600)
        self.assertEqual(list(self.world.shard.transactions), [])

    def test_a_request_meets_its_expiry(self) -> None:
        producer = self.world.initialise()
        self.world.log.holding = True
        self.world.advance(DAY)
        self.assertEqual(self.world.initialise(), E.CONCURRENT_TRANSACTIONS)
        adding = self.world.begin(self.world.coordinator.add_partitions("t", producer, [EVENTS], V2))
        self.world.log.release_all()
        self.assertEqual(adding[0].code, E.INVALID_PRODUCER_ID_MAPPING)


class LookingTests(Case):
    def listed(self, *arguments: Any) -> list[str]:
        wanted, _ = filters(*arguments)
        return [name for name, _ in self.world.result(self.world.coordinator.list(wanted))]

    def test_list(self) -> None:
        self.ongoing(transactional_id="orders-1")
        self.world.advance(10)
        self.ongoing(transactional_id="orders-2")
        self.world.initialise("idle")
        self.assertEqual(self.listed((), (), -1, None), ["orders-1", "orders-2", "idle"])
        self.assertEqual(self.listed(["Ongoing"], (), -1, ""), ["orders-1", "orders-2"])
        self.assertEqual(self.listed(["Dead"], (), -1, None), [])
        self.assertEqual(self.listed((), [2, 9], -1, None), ["orders-2"])
        self.assertEqual(self.listed(["Ongoing"], (), 5_000, None), ["orders-1"])
        self.assertEqual(self.listed((), (), -1, "orders-.*"), ["orders-1", "orders-2"])
        self.assertEqual(self.listed((), (), -1, "orders"), [], "a pattern has to match all of it")

    def test_filters(self) -> None:
        wanted, unknown = filters(["Nonsense", "ongoing"], (), -1, None)
        self.assertEqual((wanted.states, unknown), (frozenset(), ["Nonsense", "ongoing"]))
        for pattern in ("(", "a" * 5000, "(?=a)", "\ud800"):
            error = self.assertRaises(KafkaError, filters, (), (), -1, pattern)
            self.assertEqual(error.code, E.INVALID_REGULAR_EXPRESSION)

    def test_a_hostile_pattern_costs_no_more(self) -> None:
        wanted, _ = filters((), (), -1, "(a*)*b")
        self.assertFalse(wanted.matches("a" * 30_000))

    def test_describe(self) -> None:
        self.ongoing(EVENTS)
        self.assertEqual(self.world.coordinator.describe("t").partitions, {EVENTS})
        error = self.assertRaises(KafkaError, self.world.coordinator.describe, "nobody")
        self.assertEqual(error.code, E.TRANSACTIONAL_ID_NOT_FOUND)


class HostingTests(Case):
    def test_find_creates_the_topic_once(self) -> None:
        self.world = TransactionWorld(led=False)
        for key in ("t", "u"):
            found = self.world.result(self.world.coordinator.find(key, "OTHER"))
            self.assertEqual(found, (1, "elsewhere", 9192))
        self.assertEqual(self.world.created, 1)

    def test_a_request_before_the_topic_exists(self) -> None:
        self.world = TransactionWorld(led=False)
        self.assertEqual(self.world.initialise(), E.NOT_COORDINATOR)
        self.assertEqual(self.world.created, 1, "the client looks for its coordinator again")

    def test_other_topics_are_none_of_its_business(self) -> None:
        self.world.coordinator.partition_led(None, EVENTS, 0)
        self.world.coordinator.partition_resigned(None, EVENTS)
        self.assertEqual(list(self.world.coordinator._hosted), [0])

    def test_a_stop_leaves_nothing_behind(self) -> None:
        self.ongoing()
        self.world.coordinator.stop()
        self.assertEqual(self.world.clock.getDelayedCalls(), [])
        self.assertEqual(self.world.initialise(), E.NOT_COORDINATOR)

    def test_partition_by_javas_hash(self) -> None:
        self.world = TransactionWorld(led=False)
        self.world.metadata.create(TRANSACTIONS_TOPIC, 50)
        self.assertEqual(
            self.world.coordinator.topic.partition_of("my-transactional-id"), _java_hash("my-transactional-id")
        )

    def test_records_of_unknown_kinds_are_skipped(self) -> None:
        from chronik.wire.records import Record, encode_batch

        self.ongoing()
        batch = encode_batch([Record(0, 0, b"\x00\x63new", b"?"), Record(1, 0, b"\x00\x63new", None)])
        self.world.result(self.world.log.append(PARTITION, batch))
        self.crash()
        self.assertEqual(self.world.state().state, S.ONGOING)


def _java_hash(text: str) -> int:
    value = 0
    for character in text:
        value = (31 * value + ord(character)) % 2**32
    return abs(value - 2**32 if value >= 2**31 else value) % 50
