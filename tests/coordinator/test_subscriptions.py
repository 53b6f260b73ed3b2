"""What patterns match, looked up in steps while topics come and go."""

from __future__ import annotations

import re
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from chronik.coordinator import subscriptions
from chronik.coordinator.resolving import STEPS_A_TURN
from chronik.coordinator.subscriptions import Topics
from chronik.interfaces import MetadataDelta
from tests.coordinator.world import OneNode, World, heartbeat_request

PATTERN = "t-.*[02468]"


class PatternTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metadata = OneNode()
        for number in range(200):
            self.metadata.create(f"t-{number}", 1)
        self.topics = Topics(self.metadata)
        self.metadata.subscribe(self.topics.changed)

    def create(self, name: str) -> None:
        self.metadata.tell(MetadataDelta(created=[self.metadata.create(name, 1)]))

    def expected(self, pattern: str = PATTERN) -> frozenset[str]:
        return frozenset(topic.name for topic in self.metadata.topics() if re.fullmatch(pattern, topic.name))

    def test_a_step_is_a_few_names(self) -> None:
        self.assertFalse(self.topics.knows(PATTERN))
        steps = sum(1 for _ in self.topics.resolving(PATTERN))
        self.assertEqual(steps, 200 / subscriptions._NAMES_A_STEP)
        self.assertTrue(self.topics.knows(PATTERN))
        self.assertEqual(self.topics.matching(PATTERN), self.expected())
        self.assertEqual(list(self.topics.resolving(PATTERN)), [])

    def test_one_that_is_not_valid_has_nothing_to_be_looked_up(self) -> None:
        self.assertTrue(self.topics.knows("("))
        self.assertEqual(list(self.topics.resolving("(")), [])
        self.assertEqual(self.topics.matching("("), frozenset())

    def test_topics_that_come_and_go_meanwhile(self) -> None:
        rng = Random(3)
        for _ in range(20):
            self.setUp()
            number = 1000
            for _ in self.topics.resolving(PATTERN):
                for _ in range(rng.randrange(4)):
                    names = [topic.name for topic in self.metadata.topics()]
                    if rng.random() < 0.5:
                        number += 1
                        self.create(f"t-{number}")
                    else:
                        self.metadata.delete(rng.choice(names))
            self.assertEqual(self.topics.matching(PATTERN), self.expected())
            self.create("t-again-8")
            self.assertEqual(self.topics.matching(PATTERN), self.expected())

    def test_what_was_begun_and_left_is_forgotten(self) -> None:
        steps = self.topics.resolving(PATTERN)
        next(steps)
        steps.close()  # type: ignore[attr-defined]
        self.assertFalse(self.topics.knows(PATTERN))
        self.assertEqual(self.topics._resolving, [])


class HeartbeatTests(SynchronousTestCase):
    """A member with a pattern is answered when that was looked up, some names a turn."""

    COUNT = 2 * STEPS_A_TURN * subscriptions._NAMES_A_STEP + 1

    def setUp(self) -> None:
        self.world = World()
        for number in range(self.COUNT):
            self.world.metadata.create(f"t-{number}", 1)

    def test_looked_up_in_slices(self) -> None:
        request = heartbeat_request("m", 0, regex="t-1|t-2|none")
        answers: list[object] = []
        self.world.coordinator.consumer_heartbeat(request, 1, "", "h").addBoth(answers.append)
        turns = 0
        while not answers:
            call = self.world.clock.calls.pop(0)
            call.func(*call.args, **call.kw)
            turns += 1
        self.assertGreaterEqual(turns, 2)
        (answer,) = answers
        self.assertEqual(len(answer.assignment.topic_partitions), 2)  # type: ignore[attr-defined]

    def test_a_pattern_is_looked_up_when_its_group_is_loaded(self) -> None:
        pattern = "t-1|t-2|none"
        self.world.beat(heartbeat_request("m", 0, regex=pattern))
        again = World(log=self.world.log)
        for number in range(self.COUNT):
            again.metadata.create(f"t-{number}", 1)
        again.resign()
        again.lead()
        self.assertTrue(again.coordinator._topics.knows(pattern))

    def test_a_partition_that_is_resigned_meanwhile(self) -> None:
        failed = self.world.coordinator.consumer_heartbeat(heartbeat_request("m", 0, regex="t-1"), 1, "", "h")
        self.world.resign()
        self.world.settle()
        self.failureResultOf(failed)
