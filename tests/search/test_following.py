"""What processes that search are told of logs."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chronik.interfaces import FollowedLog
from chronik.model import PartitionId, TopicPartition
from chronik.search.following import Following
from chronik.search.messages import NO_LIMIT

PARTITION = PartitionId(bytes(16), 0)


class Logs:
    """One log, as long as it is said to be."""

    stable = 100

    def look(self, partition, since):
        return FollowedLog("/log", 0, self.stable, 0, [])

    def when_more(self, partition, told):
        return lambda: None


class LimitTests(SynchronousTestCase):
    """How far an index that is on disk may go."""

    def followed(self, clean):
        """(stable offset, limit) of all that is told: a log grows before a process hears of it, and before the next does."""
        logs, told = Logs(), []
        following = Following(logs, 1, lambda place, news: told.append(news), str, Clock(), clean)
        following.partition_led(PARTITION, TopicPartition("t", 0), 0)
        logs.stable = 500
        self.assertEqual(following.bounds([PARTITION]), {PARTITION: (0, 500)})
        logs.stable = 600
        following.began_anew(0)
        following.bounds([PARTITION])
        return [(news.stable, news.limit) for news in told]

    def test_after_an_unclean_stop_no_further_than_the_log_was_when_it_was_opened(self):
        self.assertEqual(self.followed(clean=False), [(500, 100), (600, 100)])

    def test_after_a_stop_in_order_any(self):
        self.assertEqual(self.followed(clean=True), [(500, NO_LIMIT), (600, NO_LIMIT)])
