"""ShareFetch and ShareAcknowledge on real partitions in memory: waiting, limits, locks that end, state that cannot be had."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chronik.broker.share_tiles import ACCEPT, REJECT, RELEASE
from chronik.errors import ErrorCode
from chronik.interfaces import IPartitionHost, IRequestHandler, IShareStates
from chronik.listeners import slices
from chronik.model import PartitionId, SharePartitionKey, ShareState, StateBatch
from chronik.wire.batches import split_batches
from chronik.wire.messages.share_fetch import ShareFetchResponse
from chronik.wire.records import Record, encode_batch
from tests.listeners.handlers.hosting import NOW
from tests.listeners.handlers.sharing import Member, Ranges, Sharing, done, given

CONNECTION = ("PLAINTEXT", 0)


class SharingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.sharing = Sharing()
        self.states = self.sharing.states

    def opened(self, *partitions: int, name: str = "a", group: str = "g") -> Member:
        """A member whose session has these partitions, which are loaded."""
        member = self.sharing.member(name, group)
        member.fetch(*partitions, max_records=0)
        return member

    def key(self, partition: int = 0, group: str = "g") -> SharePartitionKey:
        return SharePartitionKey(group, self.sharing.topic_id, partition)

    def size(self, records: int) -> int:
        """Bytes of a batch of so many records."""
        return len(encode_batch([Record(index, NOW, None, b"v") for index in range(records)]))

    def waits(self, answer: Deferred[Any]) -> None:
        self.sharing.clock.pump([0] * 5)
        self.assertNoResult(answer)

    def errors(self, answer: ShareFetchResponse) -> dict[int, tuple[ErrorCode, ErrorCode]]:
        """(error, error of what was acknowledged) by partition, of those that have any."""
        return {
            each.partition_index: (ErrorCode(each.error_code), ErrorCode(each.acknowledge_error_code))
            for topic in answer.responses
            for each in topic.partitions
            if each.error_code or each.acknowledge_error_code
        }


class FetchTests(SharingCase):
    def test_interfaces(self) -> None:
        for handler in (self.sharing.fetcher, self.sharing.acknowledger):
            self.assertTrue(verifyObject(IRequestHandler, handler, tentative=True))
        self.assertTrue(verifyObject(IPartitionHost, self.sharing.shares))
        self.assertTrue(verifyObject(IShareStates, self.states))

    def test_records_of_all_partitions(self) -> None:
        self.sharing.append(2, 3)
        self.sharing.append(1, partition=1)
        member = self.sharing.member()
        answer = member.fetch(0, 1)
        self.assertEqual(given(answer), {0: [(0, 4, 1)], 1: [(0, 0, 1)]})
        self.assertEqual(answer.acquisition_lock_timeout_ms, 30_000)
        (topic,) = answer.responses
        self.assertEqual(len(list(split_batches(topic.partitions[0].records))), 2)
        self.assertEqual(given(member.fetch()), {})

    def test_the_first_answer_has_all_partitions(self) -> None:
        answer = self.sharing.member().fetch(0, 1)
        self.assertEqual([each.partition_index for each in answer.responses[0].partitions], [0, 1])
        self.assertEqual((given(answer), self.errors(answer)), ({}, {}))

    def test_no_more_records_than_are_asked_for_but_for_the_last_batch(self) -> None:
        self.sharing.append(2, 2, 2)
        self.sharing.append(2, 2, partition=1)
        member = self.opened(0, 1)
        self.assertEqual(given(member.fetch(max_records=3)), {1: [(0, 3, 1)]})
        self.assertEqual(given(member.fetch(max_records=5)), {0: [(0, 5, 1)]})

    def test_no_more_bytes_than_there_is_room_for_but_for_the_first_batch(self) -> None:
        self.sharing.append(1, 1, 1)
        self.sharing.append(1, 1, 1, partition=1)
        size = self.size(1)
        for max_bytes, found in ((1, 1), (2 * size, 2), (4 * size, 4)):
            member = self.opened(0, 1)
            answer = member.fetch(max_bytes=max_bytes)
            count = sum(last - first + 1 for ranges in given(answer).values() for first, last, _ in ranges)
            self.assertEqual(count, found, max_bytes)
            member.fetch(share_session_epoch=-1)

    def test_not_more_in_flight_than_the_node_allows(self) -> None:
        self.sharing.append(*[1] * 200)
        member = self.opened(0)
        self.assertEqual(given(member.fetch()), {0: [(0, 99, 1)]})
        self.assertEqual(given(member.fetch()), {})
        member.acknowledge({0: ((0, 49, ACCEPT),)})
        self.assertEqual(given(member.fetch(max_records=10)), {0: [(100, 109, 1)]})

    def test_pieces(self) -> None:
        self.sharing.append(*[1] * 5)
        self.assertEqual(given(self.opened(0).fetch(batch_size=2)), {0: [(0, 1, 1), (2, 3, 1), (4, 4, 1)]})

    def test_many_partitions_take_turns(self) -> None:
        self.patch(slices, "SLICE_SECONDS", -1)
        self.sharing.append(1)
        self.sharing.append(1, partition=1)
        member = self.opened(0, 1)
        answer = member.begin()
        self.assertNoResult(answer)
        self.assertEqual(len(given(done(answer, self.sharing))), 2)

    def test_who_asks(self) -> None:
        for fields in ({"group_id": None}, {"group_id": ""}, {"member_id": None}, {"member_id": "me"}):
            answer = self.sharing.member().fetch(0, **fields)
            self.assertEqual((answer.error_code, answer.responses), (ErrorCode.INVALID_REQUEST, []), fields)

    def test_partitions_that_there_are_not(self) -> None:
        member = self.opened(0)
        answer = member.begin(7, max_wait_ms=1000)
        self.waits(answer)  # the others may have something
        self.sharing.append(1)
        answer = done(answer, self.sharing)
        self.assertEqual(self.errors(answer), {7: (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.NONE)})
        self.assertEqual(given(answer), {0: [(0, 0, 1)]})
        member = self.sharing.member("b")
        answer = member.fetch(0, topic_id=b"x" * 16, max_wait_ms=1000)
        self.assertEqual(self.errors(answer), {0: (ErrorCode.UNKNOWN_TOPIC_ID, ErrorCode.NONE)})

    def test_sessions_over_the_limit_wait_before_they_are_refused(self) -> None:
        for name in "abc":
            self.opened(0, name=name)
        answer = self.sharing.member("d").begin(0, max_wait_ms=500)
        self.waits(answer)
        self.sharing.clock.advance(0.5)
        self.assertEqual(done(answer, self.sharing).error_code, ErrorCode.SHARE_SESSION_LIMIT_REACHED)


class WaitingTests(SharingCase):
    def test_until_records_come(self) -> None:
        answer = self.opened(0, 1).begin(max_wait_ms=1000)
        self.waits(answer)
        self.sharing.append(1, partition=1)
        self.assertEqual(given(done(answer, self.sharing)), {1: [(0, 0, 1)]})

    def test_as_long_as_is_asked_for(self) -> None:
        for max_wait_ms, seconds in ((1000, 1.0), (2**31 - 1, 60.0)):
            member = self.opened(0)
            answer = member.begin(max_wait_ms=max_wait_ms)
            self.sharing.clock.advance(seconds - 0.001)
            self.assertNoResult(answer)
            self.sharing.clock.advance(0.002)
            self.assertEqual(done(answer, self.sharing).responses, [])
        self.assertEqual(done(self.opened(0).begin(max_wait_ms=-5), self.sharing).responses, [])

    def test_for_enough_bytes(self) -> None:
        self.sharing.append(1)
        size = self.size(1)
        answer = self.opened(0, 1).begin(max_wait_ms=1000, min_bytes=2 * size)
        self.waits(answer)
        self.sharing.append(1, partition=1)
        self.assertEqual(given(done(answer, self.sharing)), {0: [(0, 0, 1)], 1: [(0, 0, 1)]})

    def test_and_takes_what_there_is_in_the_end(self) -> None:
        self.sharing.append(1)
        answer = self.opened(0).begin(max_wait_ms=1000, min_bytes=100_000)
        self.waits(answer)
        self.sharing.clock.advance(1)
        self.assertEqual(given(done(answer, self.sharing)), {0: [(0, 0, 1)]})

    def test_until_another_member_gives_something_back(self) -> None:
        """A delivery that a member breaks off by going away is not counted, one that it gives back or forgets is."""
        for how, expected in (("release", (1, 1, 2)), ("lock", (0, 1, 2)), ("close", (0, 1, 1)), ("leave", (0, 1, 1))):
            sharing = self.sharing = Sharing()
            self.states = sharing.states
            sharing.append(2)
            first, second = self.opened(0), self.opened(0, name="b")
            first.fetch()
            answer = second.begin(max_wait_ms=60_000)
            self.waits(answer)
            if how == "release":
                first.acknowledge({0: ((1, 1, RELEASE),)})
            elif how == "lock":
                sharing.clock.advance(29.9)
                self.waits(answer)
                sharing.clock.advance(0.2)
            elif how == "close":
                first.acknowledge({}, epoch=-1)
            else:
                first.fetch(share_session_epoch=-1)
            self.assertEqual(given(done(answer, sharing)), {0: [expected]}, how)

    def test_until_what_it_wants_is_loaded(self) -> None:
        self.sharing.append(1)
        self.states.held = []
        answer = self.sharing.member().begin(0, max_wait_ms=1000)
        self.waits(answer)
        self.states.go_on()
        self.assertEqual(given(done(answer, self.sharing)), {0: [(0, 0, 1)]})

    def test_a_wait_that_is_over_leaves_nothing_behind(self) -> None:
        member = self.opened(0)
        answer = member.begin(max_wait_ms=1000)
        self.waits(answer)
        self.sharing.clock.advance(1.1)
        done(answer, self.sharing)
        led = self.sharing.shares.known("g", PartitionId(self.sharing.topic_id, 0))
        self.assertEqual((led.waiters, led.partition.fetch_waiters), (set(), set()))


class BudgetTests(SharingCase):
    def test_while_answers_wait_for_their_clients_nothing_is_given_out(self) -> None:
        self.sharing.append(1)
        member = self.opened(0)
        self.sharing.answers.change(2 << 20)
        answer = member.begin(max_wait_ms=10_000)
        self.waits(answer)
        self.sharing.answers.change(-2 << 20)
        self.sharing.clock.advance(0.1)
        self.assertEqual(given(done(answer, self.sharing)), {0: [(0, 0, 1)]})

    def test_a_quota_is_paid_afterwards(self) -> None:
        """What was given out cannot be asked for again, so it is never withheld."""
        self.sharing.append(1)
        member = self.opened(0)
        self.sharing.quotas[("client-id", "test"),] = {"consumer_byte_rate": 1.0}
        self.sharing.throttles.refresh()
        answer = member.fetch()
        self.assertEqual(given(answer), {0: [(0, 0, 1)]})
        self.assertGreater(answer.throttle_time_ms, 0)

    def test_nor_more_than_the_quota_ever_allows_but_one_batch(self) -> None:
        self.sharing.append(1, 1, 1)
        size = self.size(1)
        member = self.opened(0)
        self.sharing.quotas[("client-id", "test"),] = {"consumer_byte_rate": 2.5 * size / 10}
        self.sharing.throttles.refresh()
        self.assertEqual(given(member.fetch()), {0: [(0, 1, 1)]})


class AcknowledgeTests(SharingCase):
    def setUp(self) -> None:
        super().setUp()
        self.sharing.append(10)
        self.member = self.opened(0)
        self.assertEqual(given(self.member.fetch()), {0: [(0, 9, 1)]})

    def test_counts_when_it_is_written(self) -> None:
        self.states.held = []
        answer = self.member.begin_acknowledge({0: ((0, 3, ACCEPT), (4, 4, REJECT))})
        self.waits(answer)
        self.states.go_on()
        self.assertEqual(done(answer, self.sharing).error_code, ErrorCode.NONE)
        accepted, rejected = StateBatch(0, 3, 2, 1), StateBatch(4, 4, 4, 1)
        self.assertEqual(self.states.written, [(0, (accepted, rejected))])
        self.member.acknowledge({0: ((5, 5, RELEASE),)})
        self.assertEqual(self.states.written[1:], [(5, (StateBatch(5, 5, 0, 1),))])

    def test_with_a_fetch(self) -> None:
        self.sharing.append(1)
        self.states.held = []
        answer = self.member.begin(says={0: ((0, 9, ACCEPT),)})
        self.waits(answer)
        self.states.go_on()
        answer = done(answer, self.sharing)
        self.assertEqual((given(answer), self.errors(answer)), ({0: [(10, 10, 1)]}, {}))

    def test_each_partition_has_its_own_answer(self) -> None:
        self.sharing.append(1, partition=1)
        self.member.fetch(1)
        codes = self.member.acknowledge({0: ((0, 9, ACCEPT),), 1: ((3, 3, ACCEPT),), 8: ((0, 0, ACCEPT),)})
        self.assertEqual(codes, [ErrorCode.NONE, ErrorCode.INVALID_REQUEST, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION])
        answer = self.member.fetch(says={1: ((0, 0, ACCEPT),), 0: ((12, 12, ACCEPT),)})
        self.assertEqual(self.errors(answer), {0: (ErrorCode.NONE, ErrorCode.INVALID_RECORD_STATE)})

    def test_what_makes_no_sense(self) -> None:
        nonsense: tuple[Ranges, ...] = (
            ((3, 2, ACCEPT),),
            ((0, 1, 4),),
            ((0, 1, -1),),
            ((0, 3, ACCEPT), (2, 5, ACCEPT)),
            ((2, 5, ACCEPT), (0, 1, ACCEPT)),
            ((-5, 3, ACCEPT),),
            ((0, 10, ACCEPT),),
            ((0, 2**63 - 1, ACCEPT),),
        )
        for ranges in nonsense:
            self.assertEqual(self.member.acknowledge({0: ranges}), [ErrorCode.INVALID_REQUEST], ranges)
        self.assertEqual(self.states.written, [])
        self.assertEqual(self.member.acknowledge({0: ((0, 9, ACCEPT),)}), [ErrorCode.NONE])

    def test_of_somebody_else(self) -> None:
        other = self.opened(0, name="b")
        self.assertEqual(other.acknowledge({0: ((0, 9, ACCEPT),)}), [ErrorCode.INVALID_RECORD_STATE])
        self.assertEqual(self.member.acknowledge({0: ((0, 9, ACCEPT),)}), [ErrorCode.NONE])

    def test_too_late(self) -> None:
        self.sharing.clock.advance(30.1)
        self.assertEqual(self.states.written, [(0, (StateBatch(0, 9, 0, 1),))])
        self.assertEqual(self.member.acknowledge({0: ((0, 9, ACCEPT),)}), [ErrorCode.INVALID_RECORD_STATE])

    def test_locks_last_as_long_as_the_group_has_configured(self) -> None:
        self.sharing.configure("g", "share.record.lock.duration.ms", "40000")
        self.sharing.append(1)
        answer = self.member.fetch()
        self.assertEqual(answer.acquisition_lock_timeout_ms, 40_000)
        self.sharing.clock.advance(30.1)
        self.assertEqual(self.member.acknowledge({0: ((10, 10, ACCEPT),)}), [ErrorCode.NONE])

    def test_records_that_are_given_up(self) -> None:
        for _ in range(4):
            self.member.acknowledge({0: ((0, 9, RELEASE),)})
            self.member.fetch()
        self.member.acknowledge({0: ((0, 9, RELEASE),)})
        self.assertEqual(given(self.member.fetch()), {})
        self.assertEqual(self.states.written[-1][1], (StateBatch(0, 9, 4, 5),))

    def test_a_write_that_fails_takes_nothing(self) -> None:
        self.states.error = ErrorCode.COORDINATOR_NOT_AVAILABLE
        self.assertEqual(self.member.acknowledge({0: ((0, 9, ACCEPT),)}), [ErrorCode.COORDINATOR_NOT_AVAILABLE])
        self.states.error = None
        self.assertEqual(self.member.acknowledge({0: ((0, 9, ACCEPT),)}), [ErrorCode.NONE])
        self.assertEqual(given(self.member.fetch()), {})

    def test_locks_end_after_a_write_that_failed(self) -> None:
        self.states.held = []
        answer = self.member.begin_acknowledge({0: ((0, 9, ACCEPT),)})
        self.sharing.clock.advance(31)
        self.states.error = ErrorCode.COORDINATOR_NOT_AVAILABLE
        self.states.go_on()
        done(answer, self.sharing)
        self.states.error = None
        self.sharing.clock.advance(0.1)
        self.assertEqual(given(self.opened(0, name="b").fetch()), {0: [(0, 9, 2)]})

    def test_one_that_was_fenced_is_loaded_anew(self) -> None:
        self.states.states[self.key()] = ShareState(2, 4, ())
        self.assertEqual(self.member.acknowledge({0: ((0, 9, ACCEPT),)}), [ErrorCode.NOT_LEADER_OR_FOLLOWER])
        self.assertEqual(self.member.acknowledge({0: ((0, 9, ACCEPT),)}), [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION])
        self.assertEqual(given(self.member.fetch(max_wait_ms=100)), {0: [(4, 9, 1)]})

    def test_much_that_is_said_of_one_partition_counts_piece_by_piece(self) -> None:
        """In pieces of 250 stretches of records, up to one that is refused; each piece counts as a whole, or not at all."""
        self.member.acknowledge({0: ((0, 9, ACCEPT),)})
        self.sharing.append(600)
        self.assertEqual(given(self.member.fetch()), {0: [(10, 609, 1)]})
        self.states.written.clear()
        self.member.acknowledge({0: ((310, 310, ACCEPT),)})
        said = tuple((n, n, ACCEPT if n % 2 else REJECT) for n in range(10, 610))
        self.assertEqual(self.member.acknowledge({0: said}), [ErrorCode.INVALID_RECORD_STATE])
        self.assertEqual([len(batches) for _, batches in self.states.written], [1, 250])
        self.assertEqual(self.member.acknowledge({0: said[250:300]}), [ErrorCode.NONE])
        self.assertEqual(self.member.acknowledge({0: said[301:]}), [ErrorCode.NONE])
        self.assertEqual([len(batches) for _, batches in self.states.written], [1, 250, 50, 250, 49])
        self.assertEqual(given(self.opened(0, name="b").fetch()), {})

    def test_no_answer_is_lost_when_many_are_on_their_way(self) -> None:
        self.states.held = []
        answers = [self.member.begin_acknowledge({0: ((n, n, ACCEPT),)}) for n in range(5)]
        self.states.go_on()
        for answer in answers:
            self.assertEqual(done(answer, self.sharing).error_code, ErrorCode.NONE)


class SessionTests(SharingCase):
    def setUp(self) -> None:
        super().setUp()
        self.sharing.append(4)
        self.first, self.second = self.opened(0), self.opened(0, name="b")
        self.first.fetch()

    def test_the_last_fetch_takes_acknowledgements_and_gives_back_the_rest(self) -> None:
        answer = self.first.fetch(says={0: ((0, 1, ACCEPT),)}, share_session_epoch=-1)
        self.assertEqual((given(answer), self.errors(answer)), ({}, {}))
        self.assertEqual(given(self.second.fetch()), {0: [(2, 3, 1)]})
        self.assertEqual(self.first.fetch(share_session_epoch=-1).error_code, ErrorCode.SHARE_SESSION_NOT_FOUND)

    def test_what_is_being_acknowledged_is_not_given_back(self) -> None:
        self.states.held = []
        answer = self.first.begin_acknowledge({0: ((0, 1, ACCEPT),)})
        self.sharing.shares.disconnected(CONNECTION)
        self.states.go_on()
        done(answer, self.sharing)
        self.states.states[self.key()] = ShareState(1, 2, ())
        self.assertEqual(given(self.opened(0, name="c").fetch())[0][0][0], 2)

    def test_a_group_without_members_is_let_go(self) -> None:
        self.sharing.shares.disconnected(CONNECTION)
        self.assertEqual((self.sharing.shares._led, self.sharing.shares._by_group), ({}, {}))
        self.assertEqual(self.states.written[-1], (0, (StateBatch(0, 3, 0, 0),)))
        before = self.states.reads
        self.opened(0)
        self.assertEqual(self.states.reads, before + 1)

    def test_a_partition_that_is_led_here_no_longer(self) -> None:
        answer = self.second.begin(max_wait_ms=10_000)
        self.waits(answer)
        self.sharing.hosting.delete("t")
        self.sharing.clock.pump([0] * 5)
        self.assertEqual(self.errors(done(answer, self.sharing)), {0: (ErrorCode.UNKNOWN_TOPIC_ID, ErrorCode.NONE)})
        self.assertEqual(self.sharing.shares._led, {})
        self.assertEqual(self.first.acknowledge({0: ((0, 3, ACCEPT),)}), [ErrorCode.UNKNOWN_TOPIC_ID])

    def test_the_node_stops(self) -> None:
        before = len(self.sharing.clock.getDelayedCalls())
        self.sharing.shares.stop()
        self.assertEqual(self.sharing.shares._led, {})
        self.assertEqual(len(self.sharing.clock.getDelayedCalls()), before - 1)  # the end of the locks


class LoadingTests(SharingCase):
    def test_goes_on_where_it_was(self) -> None:
        self.sharing.append(10)
        self.states.states[self.key()] = ShareState(3, 2, (StateBatch(4, 5, 2, 1), StateBatch(6, 6, 0, 2)))
        self.assertEqual(given(self.opened(0).fetch()), {0: [(2, 3, 1), (6, 6, 3), (7, 9, 1)]})

    def test_errors(self) -> None:
        for code, told in (
            (ErrorCode.FENCED_LEADER_EPOCH, ErrorCode.NOT_LEADER_OR_FOLLOWER),
            (ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.GROUP_ID_NOT_FOUND),
            (ErrorCode.INVALID_REQUEST, ErrorCode.UNKNOWN_SERVER_ERROR),
        ):
            self.states.error = code
            answer = self.sharing.member().fetch(0, max_wait_ms=1000)
            self.assertEqual(self.errors(answer), {0: (told, ErrorCode.NONE)}, code)
        self.states.error = None
        self.sharing.append(1)
        self.assertEqual(given(self.sharing.member().fetch(0, max_wait_ms=1000)), {0: [(0, 0, 1)]})

    def test_waits_for_the_coordinator(self) -> None:
        """A client that hears of a coordinator that isn't there ends with an exception."""
        self.sharing.append(1)
        for name, code in (("a", ErrorCode.COORDINATOR_LOAD_IN_PROGRESS), ("b", ErrorCode.NOT_COORDINATOR)):
            self.states.error = code
            member = self.sharing.member(name)
            answer = member.begin(0, max_wait_ms=1000)
            self.sharing.clock.pump([0.1] * 9)
            self.assertFalse(answer.called)
            self.sharing.clock.advance(0.2)
            self.assertEqual(self.errors(done(answer, self.sharing)), {})
            self.states.error = None
            self.sharing.clock.pump([0.1] * 10)
            self.assertEqual(given(member.fetch()), {0: [(0, 0, 1)]}, code)
            self.sharing.shares.stop()

    def test_state_that_makes_no_sense(self) -> None:
        for batches in ((StateBatch(5, 3, 2, 1),), (StateBatch(1, 3, 9, 1),)):
            self.states.states[self.key()] = ShareState(3, 2, batches)
            answer = self.sharing.member().fetch(0, max_wait_ms=1000)
            self.assertEqual(self.errors(answer), {0: (ErrorCode.UNKNOWN_SERVER_ERROR, ErrorCode.NONE)})

    def started(self, group: str, reset: str | None) -> int:
        """Where a group begins."""
        self.sharing.set_up(group)
        if reset is not None:
            self.sharing.configure(group, "share.auto.offset.reset", reset)
        member = self.opened(0, group=group)
        member.fetch(share_session_epoch=-1)
        return self.states.states[self.key(group=group)].start_offset

    def test_where_groups_begin(self) -> None:
        hour = 3_600_000
        for ago in (3, 2, 1, 0):
            self.sharing.append(2, timestamp=NOW - ago * hour)
        self.sharing.hosting.partition("t").delete_records(1, lambda _: None)
        self.assertEqual(self.started("default", None), 8)
        self.assertEqual(self.started("latest", "latest"), 8)
        self.assertEqual(self.started("earliest", "earliest"), 1)
        self.assertEqual(self.started("two", "by_duration:PT2H30M"), 2)
        self.assertEqual(self.started("one", "by_duration:PT1H"), 4)
        self.assertEqual(self.started("old", "by_duration:P30D"), 1)
        self.sharing.append(2, timestamp=NOW - hour)
        self.assertEqual(self.started("young", "by_duration:PT30M"), 6)

    def test_nothing_that_young(self) -> None:
        self.sharing.append(2, timestamp=NOW - 3_600_000)
        self.assertEqual(self.started("young", "by_duration:PT1M"), 2)

    def test_the_beginning_is_written_before_anything_is_given_out(self) -> None:
        """So that a group that begins at the end, and whose node is killed then, loses nothing."""
        self.sharing.set_up("h")
        self.states.held = []
        answer = self.sharing.member(group="h").begin(0, max_wait_ms=1000)
        for _ in range(2):  # it is read, and written
            self.waits(answer)
            (waiting,) = self.states.held
            self.states.held.clear()
            waiting.callback(None)
            self.sharing.append(1)
        self.assertEqual(given(done(answer, self.sharing)), {0: [(0, 0, 1)]})
        self.assertEqual(self.states.states[self.key(group="h")].start_offset, 0)

    def test_a_log_that_lost_its_beginning(self) -> None:
        self.sharing.append(2, 2, 2)
        self.sharing.hosting.partition("t").delete_records(3, lambda _: None)
        member = self.opened(0)
        self.assertEqual(given(member.fetch()), {0: [(3, 5, 1)]})
        member.acknowledge({0: ((3, 3, ACCEPT),)})
        self.assertEqual(self.states.written, [(3, (StateBatch(3, 3, 2, 1),))])

    def test_a_group_that_is_set_up_anew_while_somebody_reads(self) -> None:
        """Who begins to read then gets what it is now, and so does the other: nothing need be written to find out."""
        self.sharing.append(3)
        old = self.opened(0)
        old.fetch()
        old.acknowledge({0: ((0, 2, ACCEPT),)})
        waiting = old.begin(max_wait_ms=10_000)
        self.states.states[self.key()] = ShareState(2, 1, ())
        self.waits(waiting)
        answers = [self.sharing.member("b").begin(0, max_wait_ms=1000), waiting]
        self.sharing.append(1)
        found = [given(done(answer, self.sharing)) for answer in answers]
        self.assertCountEqual(found, [{0: [(1, 2, 1)]}, {0: [(3, 3, 1)]}])
        del self.states.states[self.key()]
        self.sharing.member("c").begin(0)
        self.assertEqual(self.sharing.shares._led, {})

    def test_one_of_the_same_name_and_epoch(self) -> None:
        self.sharing.append(3)
        old = self.opened(0)
        old.fetch()
        old.acknowledge({0: ((0, 1, ACCEPT),)})
        old.acknowledge({0: ((2, 2, RELEASE),)})
        self.states.states[self.key()] = ShareState(1, 0, ())
        self.assertEqual(given(self.sharing.member("b").fetch(0, max_wait_ms=1000)), {0: [(0, 2, 1)]})

    def test_it_is_kept_while_nobody_knows(self) -> None:
        self.sharing.append(3)
        self.opened(0).fetch()
        self.states.error = ErrorCode.COORDINATOR_NOT_AVAILABLE
        self.assertEqual(given(self.opened(0, name="b").fetch()), {})


class CommittedTests(SharingCase):
    def test_isolation_is_the_groups(self) -> None:
        for level, committed_only in (("read_committed", True), ("read_uncommitted", False)):
            self.sharing.configure("g", "share.isolation.level", level)
            self.assertEqual(self.sharing.shares.committed_only("g"), committed_only)
        self.assertFalse(self.sharing.shares.committed_only("h"))
