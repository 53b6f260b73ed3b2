"""Continuous queries in the cluster's metadata."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chronik.controller.commands import (
    CreateTopics,
    DeleteTopics,
    DropQuery,
    NewTopic,
    PauseQuery,
    SaveQuery,
    SaveSearch,
    TopicReference,
)
from chronik.controller.image import MetadataImage
from chronik.controller.queries import MAX_QUERIES, MAX_TEXT_BYTES
from chronik.controller.records import QueryDropped, QueryPaused, QuerySaved
from chronik.errors import CorruptLogError, ErrorCode, KafkaError
from chronik.model import ZERO_UUID
from tests.controller.cluster import Cluster


class QueryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = Cluster()
        topics = ("events", "counts", "counts-late", "other", "__consumer_offsets")
        self.cluster.do(CreateTopics(tuple(NewTopic(name, 1, 1) for name in topics)))

    def save(self, name="q", text="CREATE ...", fields="{}", source="events", into="counts", late="counts-late"):
        return self.cluster.do(SaveQuery(name, text, fields, source, into, late))

    def deleted(self, *names):
        results = self.cluster.do(DeleteTopics(tuple(TopicReference(name) for name in names)))
        return {each.name: ErrorCode.NONE if each.error is None else each.error.code for each in results}

    def test_from_saved_to_dropped(self) -> None:
        first, second = self.save("b"), self.save("a")
        self.assertEqual(list(self.cluster.image.queries()), [second, first])
        self.assertEqual((first.text, first.fields, first.paused), ("CREATE ...", "{}", False))
        self.assertNotEqual(first.query_id, second.query_id)
        paused = self.cluster.do(PauseQuery("b", True))
        self.assertEqual(paused, first.resting(True))
        self.assertEqual(list(self.cluster.image.queries()), [second, paused])
        self.assertEqual(self.cluster.do(PauseQuery("b", True)), paused)
        self.assertEqual(self.cluster.do(PauseQuery("b", False)), first)
        self.assertEqual(self.cluster.do(DropQuery("b")), first)
        self.assertEqual(list(self.cluster.image.queries()), [second])

    def test_what_cannot_be(self) -> None:
        self.save()
        self.cluster.do(SaveSearch("found", "events", "error"))
        for changes, code in (
            ({}, ErrorCode.TOPIC_ALREADY_EXISTS),
            ({"name": "a b"}, ErrorCode.INVALID_REQUEST),
            ({"name": "b", "text": "x" * (MAX_TEXT_BYTES + 1)}, ErrorCode.INVALID_REQUEST),
            ({"name": "b", "fields": "x" * (MAX_TEXT_BYTES + 1)}, ErrorCode.INVALID_REQUEST),
            ({"name": "b", "source": "nowhere"}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            ({"name": "b", "into": "nowhere"}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            ({"name": "b", "late": "nowhere"}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            ({"name": "b", "source": "__consumer_offsets"}, ErrorCode.INVALID_REQUEST),
            ({"name": "b", "into": "__consumer_offsets"}, ErrorCode.INVALID_REQUEST),
            ({"name": "b", "into": "found"}, ErrorCode.INVALID_REQUEST),
            ({"name": "b", "into": "events"}, ErrorCode.INVALID_REQUEST),
            ({"name": "b", "late": "events"}, ErrorCode.INVALID_REQUEST),
        ):
            self.assertEqual(self.assertRaises(KafkaError, self.save, **changes).code, code, changes)
        for command in (DropQuery("nothing"), PauseQuery("nothing", True)):
            error = self.assertRaises(KafkaError, self.cluster.do, command)
            self.assertEqual(error.code, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        for number in range(1, MAX_QUERIES):
            self.save(f"q{number}")
        self.assertEqual(self.assertRaises(KafkaError, self.save, "more").code, ErrorCode.POLICY_VIOLATION)

    def test_its_topics_stay(self) -> None:
        self.save()
        refused = ErrorCode.POLICY_VIOLATION
        self.assertEqual(
            self.deleted("events", "counts", "counts-late", "other"),
            {"events": refused, "counts": refused, "counts-late": refused, "other": ErrorCode.NONE},
        )
        self.cluster.do(DropQuery("q"))
        self.assertEqual(self.deleted("events", "counts"), {"events": ErrorCode.NONE, "counts": ErrorCode.NONE})

    def test_a_snapshot_has_them(self) -> None:
        self.save("b")
        self.save("a")
        self.cluster.do(PauseQuery("a", True))
        again = MetadataImage("c", 1)
        again.restore(7, self.cluster.image.snapshot())
        self.assertEqual(again.queries(), self.cluster.image.queries())
        again.restore(8, MetadataImage("c", 1).snapshot())
        self.assertEqual(list(again.queries()), [])

    def test_records_that_cannot_follow(self) -> None:
        query = self.save()
        saved = QuerySaved(query.query_id, "q", "", "", query.source_id, query.into_id, query.late_id, False)
        for record in (saved, QueryPaused(ZERO_UUID, True), QueryDropped(ZERO_UUID)):
            self.assertRaises(CorruptLogError, self.cluster.image.replay, record)
