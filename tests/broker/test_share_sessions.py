"""Share sessions: epochs in turn, what is fetched in which order, and the connections that sessions end with (KIP-932)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.broker.share_sessions import MAX_SESSION_PARTITIONS, Sharer, ShareRound, ShareSessions
from chronik.errors import ErrorCode, KafkaError
from chronik.model import PartitionId

TOPIC = b"t" * 16
MEMBER, OTHER = Sharer("g", b"m" * 16), Sharer("g", b"o" * 16)


def at(*partitions: int) -> list[PartitionId]:
    return [PartitionId(TOPIC, partition) for partition in partitions]


class SessionCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.sessions = ShareSessions(3)

    def fetch(
        self,
        epoch: int,
        wanted: list[PartitionId] | None = None,
        forgotten: list[PartitionId] | None = None,
        sharer: Sharer = MEMBER,
        acknowledges: bool = False,
        connection: object = "one",
    ) -> ShareRound | None:
        return self.sessions.fetch(sharer, epoch, wanted or [], forgotten or [], acknowledges, connection)

    def partitions(self, epoch: int, *args: list[PartitionId]) -> list[int]:
        """What is fetched, in order."""
        fetch_round = self.fetch(epoch, *args)
        assert fetch_round is not None
        return [target.partition for target in fetch_round.targets]

    def refused(self, code: ErrorCode, epoch: int, wanted: list[PartitionId] | None = None, **how: object) -> None:
        error = self.assertRaises(KafkaError, self.fetch, epoch, wanted, **how)
        self.assertEqual(error.code, code)

    def acknowledge(self, epoch: int, sharer: Sharer = MEMBER) -> ErrorCode:
        try:
            self.sessions.acknowledge(sharer, epoch)
        except KafkaError as error:
            return error.code
        return ErrorCode.NONE


class EpochTests(SessionCase):
    def test_each_request_has_the_next(self) -> None:
        self.assertEqual(self.partitions(0, at(0)), [0])
        self.assertEqual(self.partitions(1), [0])
        self.assertEqual(self.acknowledge(2), ErrorCode.NONE)
        self.refused(ErrorCode.INVALID_SHARE_SESSION_EPOCH, 2)
        self.refused(ErrorCode.INVALID_SHARE_SESSION_EPOCH, 4)
        self.refused(ErrorCode.INVALID_SHARE_SESSION_EPOCH, -2)
        self.assertEqual(self.acknowledge(4), ErrorCode.INVALID_SHARE_SESSION_EPOCH)
        self.assertEqual(self.partitions(3), [0])

    def test_a_refused_request_changes_nothing(self) -> None:
        self.fetch(0, at(0))
        self.refused(ErrorCode.INVALID_SHARE_SESSION_EPOCH, 5, at(1))
        self.assertEqual(self.partitions(1), [0])

    def test_without_a_session(self) -> None:
        for epoch in (1, -1, 7):
            self.refused(ErrorCode.SHARE_SESSION_NOT_FOUND, epoch)
            self.assertEqual(self.acknowledge(epoch), ErrorCode.SHARE_SESSION_NOT_FOUND)
        self.assertEqual(self.acknowledge(0), ErrorCode.INVALID_SHARE_SESSION_EPOCH)

    def test_nothing_can_be_acknowledged_at_first(self) -> None:
        self.refused(ErrorCode.INVALID_REQUEST, 0, at(0), acknowledges=True)
        self.assertEqual(len(self.sessions), 0)

    def test_a_session_anew(self) -> None:
        self.fetch(0, at(0, 1))
        self.fetch(1)
        self.assertEqual(self.partitions(0, at(2)), [2])
        self.assertEqual(self.partitions(1), [2])
        self.assertEqual(len(self.sessions), 1)

    def test_the_last_request_fetches_nothing_and_is_known_until_the_session_is_closed(self) -> None:
        self.fetch(0, at(0))
        self.assertIsNone(self.fetch(-1))
        self.assertTrue(self.sessions.close(MEMBER))
        self.assertFalse(self.sessions.close(MEMBER))
        self.assertFalse(self.sessions.has_members("g"))
        self.refused(ErrorCode.SHARE_SESSION_NOT_FOUND, -1)

    def test_epochs_begin_again_at_one(self) -> None:
        self.fetch(0, at(0))
        (session,) = self.sessions._sessions.values()
        session.epoch = 2**31 - 1
        self.assertEqual(self.acknowledge(2**31 - 1), ErrorCode.NONE)
        self.assertEqual(self.acknowledge(1), ErrorCode.NONE)


class OrderTests(SessionCase):
    def test_each_round_begins_elsewhere(self) -> None:
        self.fetch(0, at(0, 1, 2))
        self.assertEqual([self.partitions(epoch) for epoch in (1, 2, 3)], [[1, 2, 0], [2, 0, 1], [0, 1, 2]])

    def test_more_and_fewer_partitions(self) -> None:
        self.fetch(0, at(0, 1))
        self.assertEqual(sorted(self.partitions(1, at(2), at(0))), [1, 2])
        self.assertEqual(self.partitions(2, [], at(1, 2, 9)), [])
        self.assertEqual(self.partitions(3), [])

    def test_what_is_told(self) -> None:
        """All in the first answer; then records, errors until they are over, and each partition that is new."""
        (place,), (new,) = at(0), at(1)
        first = self.fetch(0, [place])
        assert first is not None
        self.assertTrue(first.select(place, 0, False))
        for error, has_records, told in (
            (0, False, False),
            (0, True, True),
            (3, False, True),
            (3, False, True),
            (0, False, True),
            (0, False, False),
        ):
            (session,) = self.sessions._sessions.values()
            later = self.fetch(session.epoch)
            assert later is not None
            self.assertEqual(later.select(place, error, has_records), told, (error, has_records))
        later = self.fetch(session.epoch, [new])
        assert later is not None
        self.assertTrue(later.select(new, 0, False))
        later = self.fetch(session.epoch)
        assert later is not None
        self.assertFalse(later.select(new, 0, False))

    def test_a_partition_that_gave_records_comes_last(self) -> None:
        self.fetch(0, at(0, 1, 2))
        later = self.fetch(1)
        assert later is not None
        later.select(*at(0), 0, True)
        self.assertEqual(list(self.sessions._sessions[MEMBER].partitions), at(1, 2, 0))

    def test_what_was_forgotten_meanwhile_stays_so(self) -> None:
        self.fetch(0, at(0, 1))
        early = self.fetch(1)
        self.fetch(2, [], at(0))
        assert early is not None
        early.select(*at(0), 0, True)
        self.assertEqual(self.partitions(3), [1])


class LimitTests(SessionCase):
    def test_sessions(self) -> None:
        for number in range(3):
            self.fetch(0, at(0), sharer=Sharer("g", b"%016d" % number))
        self.refused(ErrorCode.SHARE_SESSION_LIMIT_REACHED, 0, at(0), sharer=OTHER)
        self.fetch(0, at(0), sharer=Sharer("g", b"%016d" % 1))
        self.sessions.close(Sharer("g", b"%016d" % 2))
        self.fetch(0, at(0), sharer=OTHER)

    def test_partitions_of_one(self) -> None:
        many = at(*range(MAX_SESSION_PARTITIONS + 1))
        self.refused(ErrorCode.SHARE_SESSION_LIMIT_REACHED, 0, many)
        self.fetch(0, many[:-1])
        self.refused(ErrorCode.SHARE_SESSION_NOT_FOUND, 1, many[-1:])
        self.assertEqual(len(self.sessions), 0)


class ConnectionTests(SessionCase):
    def test_all_sessions_of_a_connection_end_with_it(self) -> None:
        self.fetch(0, at(0))
        self.fetch(0, at(0), sharer=OTHER)
        self.fetch(0, at(0), sharer=Sharer("h", b"m" * 16), connection="two")
        self.assertCountEqual(self.sessions.disconnected("one"), [MEMBER, OTHER])
        self.assertEqual(self.sessions.disconnected("one"), [])
        self.assertEqual((self.sessions.has_members("g"), self.sessions.has_members("h")), (False, True))

    def test_a_member_that_came_back_keeps_its_new_session(self) -> None:
        self.fetch(0, at(0))
        self.fetch(0, at(0), connection="two")
        self.assertEqual(self.sessions.disconnected("one"), [])
        self.assertEqual(self.partitions(1), [0])

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("open"), st.integers(0, 3), st.integers(0, 2)),
                st.tuples(st.just("close"), st.integers(0, 3), st.just(0)),
                st.tuples(st.just("disconnect"), st.just(0), st.integers(0, 2)),
            ),
            max_size=30,
        )
    )
    def test_nothing_is_left_of_what_has_ended(self, steps: list[tuple[str, int, int]]) -> None:
        """The sessions that should be there, by a plain dictionary of who is connected where."""
        sessions = ShareSessions(100)
        expected: dict[Sharer, int] = {}
        for what, number, connection in steps:
            sharer = Sharer("ab"[number % 2], b"%016d" % number)
            if what == "open":
                sessions.fetch(sharer, 0, at(0), [], False, connection)
                expected[sharer] = connection
            elif what == "close":
                self.assertEqual(sessions.close(sharer), expected.pop(sharer, None) is not None)
            else:
                gone = [each for each, where in expected.items() if where == connection]
                self.assertCountEqual(sessions.disconnected(connection), gone)
                for each in gone:
                    del expected[each]
            self.assertEqual(len(sessions), len(expected))
            for group in "ab":
                self.assertEqual(sessions.has_members(group), any(each.group_id == group for each in expected))
        for connection in range(3):
            sessions.disconnected(connection)
        self.assertEqual((sessions._sessions, sessions._connections, sessions._members), ({}, {}, {}))
