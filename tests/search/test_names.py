"""Which topics names are for."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from chronik.model import OFFSETS_TOPIC, PartitionState, SavedSearch, Topic
from chronik.search.names import Choice, NamesError, choose

NAMES = ["-odd", "_schemas", OFFSETS_TOPIC, "a.b", "events", "log-1", "log-2", "log-old", "v1"]
TOPICS = [Topic(bytes(16), name, (PartitionState(0, (1,), (1,), 1, 0),)) for name in sorted(NAMES)]

DEFAULT = Choice()


def chosen(expression: str, choice: Choice = DEFAULT, topics: list[Topic] = TOPICS) -> list[str]:
    choosing = choose(expression, topics, {topic.name: topic for topic in topics}.get, choice)
    while True:
        try:
            next(choosing)
        except StopIteration as end:
            return [topic.name for topic in end.value]


class Names(SynchronousTestCase):
    def test_what_is_meant(self) -> None:
        users = [topic.name for topic in TOPICS if not topic.internal]
        for expression, expected in [
            ("events", ["events"]), ("events,a.b", ["a.b", "events"]), ("log-*", ["log-1", "log-2", "log-old"]),
            ("log-*,-log-old", ["log-1", "log-2"]), ("log-*,-log-*", []),
            ("log-*,-log-old,log-old", ["log-1", "log-2", "log-old"]),
            ("*,-log-*,-_*", ["-odd", "a.b", "events", "v1"]), ("_all", users), ("*", users), ("", users),
            ("*.b", ["a.b"]), ("*o*l*", ["log-old"]), ("events,ev*", ["events"]), ("-odd", ["-odd"]), ("nothing*", []),
            ("events,-odd", ["-odd", "events"]), ("*schemas", ["_schemas"]),
            ("events,log-*,-events", ["log-1", "log-2", "log-old"]),
        ]:  # fmt: skip
            self.assertEqual(chosen(expression), expected, expression)

    def test_what_is_not_there(self) -> None:
        for expression in ("nope", "events,nope", "log-*,nope", OFFSETS_TOPIC, f"events,{OFFSETS_TOPIC}"):
            with self.assertRaises(NamesError) as caught:
                chosen(expression)
            self.assertIn(caught.exception.missing, ("nope", OFFSETS_TOPIC))
        self.assertEqual(chosen("events,nope", Choice(ignore_unavailable=True)), ["events"])
        self.assertEqual(chosen("nope", Choice(ignore_unavailable=True)), [])
        with self.assertRaises(NamesError):
            chosen("nothing*", Choice(allow_no_indices=False))
        with self.assertRaises(NamesError):
            chosen("nope", Choice(True, False))

    def test_saved_searches_are_not_searched(self) -> None:
        saved = Topic(bytes(16), "errors", (), search=SavedSearch(bytes(16), "error"))
        topics = sorted([*TOPICS, saved], key=lambda topic: topic.name)
        for expression in ("*", "e*", "_all"):
            self.assertEqual(chosen(expression, topics=topics), chosen(expression))
        with self.assertRaises(NamesError) as caught:
            chosen("events,errors", topics=topics)
        self.assertEqual(caught.exception.missing, "errors")
        self.assertIn("saved search", str(caught.exception))
        self.assertEqual(chosen("events,errors", Choice(ignore_unavailable=True), topics), ["events"])

    def test_what_can_be_no_name(self) -> None:
        for expression in ("<log-{now/d}>", "a:b", "events,", ",", "a b", "x" * 250, "é", "*,-", ",".join(["a"] * 101)):
            with self.assertRaises(NamesError) as caught:
                chosen(expression)
            self.assertIsNone(caught.exception.missing)

    def test_very_many_topics_are_gone_through_in_steps(self) -> None:
        topics = [Topic(bytes(16), f"t{number:05}-" + "a" * 200, ()) for number in range(5000)]
        expression = ",".join("*a" * 60 + f"b{number}" for number in range(10))
        steps, longest = 0, 0.0
        choosing = choose(expression, topics, lambda name: None, Choice())
        while True:
            began = time.process_time()
            try:
                next(choosing)
            except StopIteration as end:
                self.assertEqual(end.value, [])
                break
            steps += 1
            longest = max(longest, time.process_time() - began)
        self.assertGreater(steps, 20)
        self.assertLess(longest, 0.5)
