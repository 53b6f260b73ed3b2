"""Incremental fetch sessions (KIP-227; conformance line 22)."""

import itertools

from twisted.trial.unittest import SynchronousTestCase

from chronik.broker.fetch_sessions import MAX_SESSION_PARTITIONS, FetchSessions, FetchTarget, PartitionKey, Seen
from chronik.errors import ErrorCode, KafkaError


def target(partition: int, offset: int = 0, topic: str = "t") -> FetchTarget:
    return FetchTarget(topic, partition, offset, 1000, -1, -1, -1)


def targets(*named: FetchTarget) -> dict[PartitionKey, FetchTarget]:
    return {(each.topic, each.partition): each for each in named}


class SessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        ids = itertools.count(1)
        self.sessions = FetchSessions(2, 1000, lambda: next(ids))

    def refused(self, code: ErrorCode, *request: object) -> None:
        with self.assertRaises(KafkaError) as caught:
            self.sessions.begin(*request)  # type: ignore[arg-type]
        self.assertEqual(caught.exception.code, code)

    def test_epoch_zero_opens_a_session_that_answers_in_full(self) -> None:
        opened = self.sessions.begin(0, 0, targets(target(0), target(1)), [], False, 0)
        self.assertEqual((opened.session_id, opened.full), (1, True))
        self.assertTrue(opened.select(target(0), 0, False, Seen(0, 0)))

    def test_without_a_session_everything_is_answered_and_nothing_remembered(self) -> None:
        alone = self.sessions.begin(0, -1, targets(target(0)), [], False, 0)
        self.assertEqual((alone.session_id, len(self.sessions)), (0, 0))
        self.assertTrue(alone.select(target(0), 0, False, Seen(0, 0)))

    def test_an_incremental_round_answers_what_changed(self) -> None:
        opened = self.sessions.begin(0, 0, targets(target(0), target(1), target(2)), [], False, 0)
        for index in range(3):
            opened.select(target(index), 0, False, Seen(5, 0))
        later = self.sessions.begin(1, 1, targets(target(1, 7)), [], False, 0)
        self.assertEqual([t.fetch_offset for t in later.targets], [0, 7, 0])
        self.assertFalse(later.select(later.targets[0], 0, False, Seen(5, 0)))
        self.assertTrue(later.select(later.targets[1], 0, True, Seen(5, 0)))
        self.assertTrue(later.select(later.targets[2], 0, False, Seen(6, 0)))

    def test_a_partition_with_records_goes_to_the_end(self) -> None:
        self.sessions.begin(0, 0, targets(target(0), target(1)), [], False, 0)
        busy = self.sessions.begin(1, 1, {}, [], False, 0)
        busy.select(target(0), 0, True, Seen(1, 0))
        self.assertEqual([t.partition for t in self.sessions.begin(1, 2, {}, [], False, 0).targets], [1, 0])

    def test_an_error_is_sent_every_time_and_its_end_too(self) -> None:
        self.sessions.begin(0, 0, targets(target(0)), [], False, 0).select(target(0), 0, False, Seen(5, 0))
        for epoch in (1, 2):
            self.assertTrue(self.sessions.begin(1, epoch, {}, [], False, 0).select(target(0), 6, False, Seen(-1, -1)))
        self.assertTrue(self.sessions.begin(1, 3, {}, [], False, 0).select(target(0), 0, False, Seen(5, 0)))

    def test_forgotten_partitions_are_no_longer_read(self) -> None:
        self.sessions.begin(0, 0, targets(target(0), target(1)), [], False, 0)
        later = self.sessions.begin(1, 1, {}, [("t", 0)], False, 0)
        self.assertEqual([t.partition for t in later.targets], [1])

    def test_wrong_epochs_and_ids_are_refused(self) -> None:
        self.sessions.begin(0, 0, targets(target(0)), [], False, 0)
        self.refused(ErrorCode.INVALID_FETCH_SESSION_EPOCH, 1, 2, {}, [], False, 0)
        self.refused(ErrorCode.FETCH_SESSION_ID_NOT_FOUND, 9, 1, {}, [], False, 0)
        self.refused(ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR, 1, 1, {}, [], True, 0)

    def test_the_final_epoch_closes(self) -> None:
        self.sessions.begin(0, 0, targets(target(0)), [], False, 0)
        self.sessions.begin(1, -1, targets(target(0)), [], False, 0)
        self.assertEqual(len(self.sessions), 0)

    def test_a_full_cache_gives_no_session_until_one_is_old(self) -> None:
        for _ in range(2):
            self.sessions.begin(0, 0, targets(target(0)), [], False, 0)
        self.assertEqual(self.sessions.begin(0, 0, targets(target(0)), [], False, 999).session_id, 0)
        self.assertEqual(self.sessions.begin(0, 0, targets(target(0)), [], False, 1000).session_id, 3)
        self.refused(ErrorCode.FETCH_SESSION_ID_NOT_FOUND, 1, 1, {}, [], False, 1000)

    def test_the_epoch_wraps_to_one(self) -> None:
        self.sessions.begin(0, 0, targets(target(0)), [], False, 0)
        self.sessions._sessions[1].epoch = 2**31 - 1
        self.sessions.begin(1, 2**31 - 1, {}, [], False, 0)
        self.sessions.begin(1, 1, {}, [], False, 0)

    def test_a_session_has_so_many_partitions_at_most(self) -> None:
        many = [target(index) for index in range(MAX_SESSION_PARTITIONS + 1)]
        alone = self.sessions.begin(0, 0, targets(*many), [], False, 0)
        self.assertEqual((alone.session_id, len(alone.targets), len(self.sessions)), (0, len(many), 0))
        self.assertEqual(self.sessions.begin(0, 0, targets(*many[1:]), [], False, 0).session_id, 1)
        self.refused(ErrorCode.FETCH_SESSION_ID_NOT_FOUND, 1, 1, targets(many[0]), [], False, 0)
        self.assertEqual(len(self.sessions), 0)

    def test_all_sessions_together_have_so_many_partitions_at_most(self) -> None:
        sessions = FetchSessions(10, 1000, itertools.count(1).__next__, partitions=5)
        self.assertEqual(sessions.begin(0, 0, targets(target(0), target(1), target(2)), [], False, 0).session_id, 1)
        self.assertEqual(sessions.begin(0, 0, targets(target(0), target(1), target(2)), [], False, 0).session_id, 0)
        self.assertEqual(sessions.begin(0, 0, targets(target(0)), [], False, 500).session_id, 2)
        sessions.begin(1, 1, {}, [("t", 0)], False, 600)  # what is forgotten makes room
        self.assertEqual(sessions.begin(0, 0, targets(target(0), target(1)), [], False, 600).session_id, 3)
        self.assertEqual(sessions.begin(0, 0, targets(target(0)), [], False, 600).session_id, 0)
        self.assertEqual(
            sessions.begin(0, 0, targets(target(0), target(1)), [], False, 1600).session_id, 4
        )  # 2 and 1 are old
        sessions.begin(4, -1, {}, [], False, 1600)
        self.assertEqual(len(sessions), 1)
