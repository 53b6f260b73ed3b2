"""Conformance 43 to 46: search, by the queries of Elasticsearch's JSON, over a whole node.

47, an unreachable peer, needs several nodes.
"""

from __future__ import annotations

import time
from typing import Any

from chronik.model import PartitionId
from chronik.search.elastic import parse_query
from chronik.search.elastic_context import Context
from chronik.search.gathering import Found, Options, Wanted
from chronik.search.mapping import NO_MAPPING, Mapping, parse_mapping
from chronik.search.match import Scope, check_query
from chronik.search.query import QueryError
from chronik.testing.reactor_thread import call
from tests.conformance.case import ConformanceCase
from tests.differential.batches import Batch


class SearchChecks(ConformanceCase):
    def search(self, topic: str, body: Any, size: int = 100, mapping: Mapping = NO_MAPPING) -> Found:
        """What a query in JSON finds in a topic."""
        query = parse_query(body, Context(0, mapping))
        check_query(query, Scope(topic, 0, 0, mapping))
        service = self.broker._node._parts.search
        known = self.broker._node.metadata.topic(topic)
        wanted = [Wanted(topic, PartitionId(known.topic_id, each.partition), mapping) for each in known.partitions]

        async def find() -> Found:
            return await service.search(query, wanted, Options(int(time.time() * 1000), 20.0, size, count_to=-1))

        found = call(find)
        self.assertEqual((found.failures, found.timed_out), ([], False))
        return found

    def offsets(self, *arguments: Any, **options: Any) -> list[int]:
        return sorted(each.hit.offset for each in self.search(*arguments, **options).hits)

    def test_43_bool_must_stays_and_when_nested(self) -> None:
        topic = self.topic()
        values = [
            b'{"level":"error","service":"web"}', b'{"level":"error","service":"db"}', b'{"level":"info","service":"db"}',
        ]  # fmt: skip
        self.append(topic, Batch(values))
        error, db, web = (
            {"term": {field: text}} for field, text in (("level", "error"), ("service", "db"), ("service", "web"))
        )
        nested = {"bool": {"must": [{"bool": {"must": [error, {"bool": {"must": [db]}}]}}]}}
        self.assertEqual(self.offsets(topic, nested), [1])
        none = {"bool": {"must": [{"bool": {"must": [db, web]}}]}}
        self.assertEqual(self.offsets(topic, none), [])
        either = {"bool": {"must": [error, {"bool": {"should": [db, web]}}]}}
        self.assertEqual(self.offsets(topic, either), [0, 1])

    def test_43_values_are_not_quoted_into_phrases(self) -> None:
        topic = self.topic()
        self.append(topic, Batch([b"connection reset", b"reset the connection", b"connection", b"nothing"]))
        self.assertEqual(self.offsets(topic, {"match": {"value": "connection reset"}}), [0, 1, 2])
        both = {"match": {"value": {"query": "connection reset", "operator": "and"}}}
        self.assertEqual(self.offsets(topic, both), [0, 1])
        self.assertEqual(self.offsets(topic, {"match_phrase": {"value": "connection reset"}}), [0])

    def test_43_a_query_that_does_not_fit_the_fields_is_an_error(self) -> None:
        topic = self.topic()
        self.append(topic, Batch([b'{"took":5}', b'{"took":"x"}']))
        mapping = parse_mapping({"properties": {"took": {"type": "long"}, "ok": {"type": "boolean"}}})
        for body in ({"term": {"took": "fast"}}, {"range": {"took": {"gt": "fast"}}}, {"term": {"ok": "perhaps"}}):
            self.assertRaises(QueryError, self.search, topic, body, mapping=mapping)
        self.assertEqual(self.offsets(topic, {"term": {"took": 5}}, mapping=mapping), [0])

    def test_44_keys_are_keyword_fields(self) -> None:
        topic = self.topic()
        keys = [b"A", b"the", b"a", b"order-17", b"order 17", b"Not"]
        self.append(topic, Batch([b"v"] * len(keys), keys))
        for number, key in enumerate(keys):
            self.assertEqual(self.offsets(topic, {"term": {"key.keyword": key.decode()}}), [number])
        self.assertIn(0, self.offsets(topic, {"term": {"key": "A"}}))
        self.assertEqual(self.offsets(topic, {"terms": {"key.keyword": ["A", "order-17"]}}), [0, 3])

    def test_44_keys_of_json_values_are_kept(self) -> None:
        topic = self.topic()
        values = [b'{"Not":{"the.A":1}}', b'{"not":{"the.a":1}}', b'{"Not":{"the":{"A":2}}}']
        self.append(topic, Batch(values))
        self.assertEqual(self.offsets(topic, {"exists": {"field": "Not"}}), [0, 2])
        self.assertEqual(self.offsets(topic, {"exists": {"field": "Not.the.A"}}), [0, 2])
        self.assertEqual(self.offsets(topic, {"term": {"Not.the.A": 1}}), [0])
        hits = self.search(topic, {"match_all": {}}).hits
        self.assertEqual(sorted(each.hit.value or b"" for each in hits), sorted(values))

    def test_45_a_document_is_its_topic_partition_and_offset(self) -> None:
        topic = self.topic(3)
        for partition in range(3):
            self.append(topic, *[Batch([b"same"]) for _ in range(5)], partition=partition)
        hits = self.search(topic, {"match": {"value": "same"}}).hits
        places = [(each.topic, each.partition, each.hit.offset) for each in hits]
        self.assertEqual(len(places), len(set(places)), "a hit came twice")
        self.assertEqual(set(places), {(topic, partition, offset) for partition in range(3) for offset in range(5)})
        found = self.search(topic, {"ids": {"values": ["1:4", "2:0", "9:9"]}}).hits
        self.assertEqual({(each.partition, each.hit.offset) for each in found}, {(1, 4), (2, 0)})

    def test_46_a_search_after_an_acknowledgement_sees_what_was_acknowledged(self) -> None:
        topic = self.topic()
        for number in range(20):
            self.append(topic, Batch([b"number%d" % number]))
            self.assertEqual(self.offsets(topic, {"match": {"value": f"number{number}"}}), [number])

    def test_46_no_hits_wanted(self) -> None:
        topic = self.topic()
        self.append(topic, Batch([b"error"] * 7))
        found = self.search(topic, {"match": {"value": "error"}}, size=0)
        self.assertEqual((found.hits, found.total, found.exact), ([], 7, True))
