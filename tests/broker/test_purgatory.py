"""Waiting for commits and for bytes."""

from twisted.trial.unittest import SynchronousTestCase

from chronik.broker.purgatory import CommitQueue, WaitingFetch, Wakeups, bytes_committed


class CommitQueueTests(SynchronousTestCase):
    def test_waiters_are_answered_in_order_up_to_the_high_watermark(self) -> None:
        queue, seen = CommitQueue(), []
        for offset in (1, 2, 2, 5):
            queue.wait(offset, lambda error, offset=offset: seen.append((offset, error)))
        queue.committed(2)
        self.assertEqual(seen, [(1, None), (2, None), (2, None)])
        self.assertEqual(len(queue), 1)

    def test_failing_answers_everybody_once(self) -> None:
        queue, seen = CommitQueue(), []
        queue.wait(3, seen.append)
        error = ValueError("gone")
        queue.fail(error)
        queue.committed(9)
        self.assertEqual(seen, [error])


class WaitingFetchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ready: list[WaitingFetch] = []
        self.one: set[WaitingFetch] = set()
        self.other: set[WaitingFetch] = set()

    def waiting(self, missing: int) -> WaitingFetch:
        fetch = WaitingFetch(missing, self.ready.append)
        fetch.watch(self.one)
        fetch.watch(self.other)
        return fetch

    def test_bytes_of_all_watched_partitions_count(self) -> None:
        fetch = self.waiting(10)
        bytes_committed(self.one, 6)
        self.assertEqual(self.ready, [])
        bytes_committed(self.other, 4)
        bytes_committed(self.other, 4)
        self.assertEqual(self.ready, [fetch])

    def test_an_event_wakes_at_once(self) -> None:
        fetch = self.waiting(10**9)
        fetch.wake()
        self.assertEqual(self.ready, [fetch])

    def test_forgetting_leaves_every_partition(self) -> None:
        self.waiting(1).forget()
        bytes_committed(self.one, 5)
        self.assertEqual((self.one, self.other, self.ready), (set(), set(), []))


class WakeupsTests(SynchronousTestCase):
    def test_each_turn_finishes_one_slice(self) -> None:
        turns, done = [], []
        wakeups = Wakeups(turns.append, per_turn=2)
        for number in range(5):
            wakeups.add(lambda number=number: done.append(number))
        sizes = []
        while turns:
            turns.pop()()
            sizes.append(len(done))
        self.assertEqual(sizes, [2, 4, 5])
        wakeups.add(lambda: done.append(9))
        self.assertEqual(len(turns), 1)
