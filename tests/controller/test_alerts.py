"""Alerts in the cluster's metadata."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chronik.controller.alerts import MAX_ALERTS
from chronik.controller.commands import (
    CreateTopics,
    DeleteAlert,
    DeleteTopics,
    NewTopic,
    SaveAlert,
    SaveSearch,
    TopicReference,
)
from chronik.controller.image import MetadataImage
from chronik.controller.records import AlertDeleted, AlertSaved
from chronik.errors import CorruptLogError, ErrorCode, KafkaError
from tests.controller.cluster import Cluster


class AlertTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = Cluster()
        topics = ("events", "told", "__consumer_offsets")
        self.cluster.do(CreateTopics(tuple(NewTopic(name, 1, 1) for name in topics)))
        self.cluster.do(SaveSearch("errors", "events", "error"))

    def save(self, name="a", search="errors", over=5, per_ms=60_000, to="told"):
        return self.cluster.do(SaveAlert(name, search, over, per_ms, to))

    def deleted(self, *names):
        results = self.cluster.do(DeleteTopics(tuple(TopicReference(name) for name in names)))
        return {each.name: ErrorCode.NONE if each.error is None else each.error.code for each in results}

    def test_from_saved_to_deleted(self) -> None:
        first, second = self.save("b"), self.save("a", over=0)
        self.assertEqual(list(self.cluster.image.alerts()), [second, first])
        self.assertEqual((first.over, first.per_ms, first.to), (5, 60_000, "told"))
        self.assertNotEqual(first.alert_id, second.alert_id)
        self.assertEqual(self.cluster.do(DeleteAlert("b")), first)
        self.assertNotEqual(self.save("b").alert_id, first.alert_id)

    def test_what_cannot_be(self) -> None:
        self.save()
        for changes, code in (
            ({}, ErrorCode.TOPIC_ALREADY_EXISTS),
            ({"name": "a b"}, ErrorCode.INVALID_REQUEST),
            ({"name": "b", "search": "events"}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            ({"name": "b", "search": "nowhere"}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            ({"name": "b", "over": -1}, ErrorCode.INVALID_REQUEST),
            ({"name": "b", "per_ms": 999}, ErrorCode.INVALID_REQUEST),
            ({"name": "b", "per_ms": 32 * 86_400_000}, ErrorCode.INVALID_REQUEST),
            ({"name": "b", "to": "nowhere"}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            ({"name": "b", "to": "errors"}, ErrorCode.INVALID_REQUEST),
            ({"name": "b", "to": "events"}, ErrorCode.INVALID_REQUEST),
            ({"name": "b", "to": "__consumer_offsets"}, ErrorCode.INVALID_REQUEST),
        ):
            self.assertEqual(self.assertRaises(KafkaError, self.save, **changes).code, code, changes)
        error = self.assertRaises(KafkaError, self.cluster.do, DeleteAlert("nowhere"))
        self.assertEqual(error.code, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        for number in range(MAX_ALERTS - 1):
            self.save(f"n{number}")
        self.assertEqual(self.assertRaises(KafkaError, self.save, "more").code, ErrorCode.POLICY_VIOLATION)

    def test_what_it_needs_stays(self) -> None:
        self.save()
        refused = dict.fromkeys(("errors", "told"), ErrorCode.POLICY_VIOLATION)
        self.assertEqual(self.deleted("errors", "told"), refused)
        self.assertEqual(self.deleted("errors", "events")["events"], ErrorCode.POLICY_VIOLATION)
        self.cluster.do(DeleteAlert("a"))
        self.assertEqual(set(self.deleted("events", "errors", "told").values()), {ErrorCode.NONE})

    def test_it_is_there_again_after_a_restart(self) -> None:
        self.save("b")
        self.save("a")
        self.cluster.do(DeleteAlert("b"))
        before = list(self.cluster.image.alerts())
        self.cluster.restart()
        self.assertEqual(list(self.cluster.image.alerts()), before)
        other = MetadataImage("cluster", 0)
        other.restore(1, self.cluster.image.snapshot())
        self.assertEqual(list(other.alerts()), before)
        other.restore(2, MetadataImage("cluster", 0).snapshot())
        self.assertEqual(list(other.alerts()), [])

    def test_records_that_cannot_follow_are_corruption(self) -> None:
        self.save()
        image = self.cluster.image
        for record in (
            AlertSaved(b"1" * 16, "a", image.topic("errors").topic_id, 1, 1000, "told"),
            AlertSaved(b"1" * 16, "b", image.topic("events").topic_id, 1, 1000, "told"),
            AlertSaved(b"1" * 16, "b", b"2" * 16, 1, 1000, "told"),
            AlertDeleted(b"1" * 16),
        ):
            self.assertRaises(CorruptLogError, image.replay, record)
