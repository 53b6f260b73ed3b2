"""The official Elasticsearch clients for Python, of versions 8 and 9, against a node in a process of its own."""

from __future__ import annotations

import importlib
import json
import warnings
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.peers.chronik_node import ChronikNode
from tests.peers.process import LOOPBACK


def fill(bootstrap: str) -> None:
    """Topics with messages in them."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic("events", 2), NewTopic("log-1", 1), NewTopic("log-2", 1)]).values():
        future.result(30)
    producer = Producer({"bootstrap.servers": bootstrap})
    for number in range(120):
        value = {
            "n": number,
            "level": "error" if number % 10 == 0 else "info",
            "user": {"id": number % 7},
            "msg": f"took {number} ms",
        }
        producer.produce("events", json.dumps(value), f"key-{number}", number % 2)
        producer.produce(f"log-{number % 2 + 1}", f"connection {number} reset by peer")
    assert not producer.flush(30)


class Client8(SynchronousTestCase):
    module = "elasticsearch8"

    def setUp(self) -> None:
        try:
            self.library: Any = importlib.import_module(self.module)
        except ImportError:
            raise SkipTest(f"{self.module} is not installed") from None
        self.node = ChronikNode(Path(self.mktemp()).absolute())
        self.node.start()
        self.addCleanup(self.node.stop)
        fill(self.node.bootstrap)
        self.client = self.library.Elasticsearch(f"http://{LOOPBACK}:{self.node.search_port}", request_timeout=60)
        self.addCleanup(self.client.close)

    def test_all_that_is_covered(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for name in dir(self):
                if name.startswith("check_"):
                    getattr(self, name)()

    def check_info(self) -> None:
        info = self.client.info()
        self.assertEqual(info.meta.headers["x-elastic-product"], "Elasticsearch")
        self.assertTrue(info["version"]["number"])
        self.assertTrue(self.client.ping())
        self.assertEqual(self.client.cluster.health(wait_for_status="yellow", timeout="1s")["status"], "green")

    def check_search(self) -> None:
        answer = self.client.search(
            index="events",
            query={
                "bool": {"must": [{"match": {"level": "error"}}], "filter": [{"range": {"n": {"gte": 50, "lt": 100}}}]}
            },
            sort=[{"timestamp": "asc"}],
            size=3,
            source=["n", "user"],
            track_total_hits=True,
            timeout="10s",
        )
        self.assertEqual(answer["hits"]["total"], {"value": 5, "relation": "eq"})
        self.assertEqual(sorted(answer["hits"]["hits"][0]["_source"]), ["n", "user"])
        self.assertEqual(len(answer["hits"]["hits"]), 3)
        self.assertFalse(answer["timed_out"])
        by_url = self.client.search(
            index=["events", "log-*"], q="level:error AND n:<50", size=100, ignore_unavailable=True
        )
        self.assertEqual({hit["_source"]["n"] for hit in by_url["hits"]["hits"]}, {0, 10, 20, 30, 40})
        everything = self.client.search(index="log-*", from_=200, size=100)
        self.assertEqual(everything["hits"]["total"]["value"], 120)
        self.assertEqual(everything["hits"]["hits"], [])
        phrase = self.client.search(
            index="log-1,log-2", query={"match_phrase": {"value": "7 reset"}}, rest_total_hits_as_int=True
        )
        self.assertEqual(phrase["hits"]["total"], 1)

    def check_pages_by_ids(self) -> None:
        whole = self.client.search(index="events", size=120)
        ids = [hit["_id"] for hit in whole["hits"]["hits"]]
        self.assertEqual(len(set(ids)), 120)
        some = self.client.search(index="events", query={"ids": {"values": ids[:7]}})
        self.assertEqual([hit["_id"] for hit in some["hits"]["hits"]], ids[:7])

    def check_orders_highlights_and_aggregations(self) -> None:
        sort = [{"user.id": "asc"}, {"n": "desc"}]
        pages: list[Any] = []
        while True:
            more = {"search_after": pages[-1]["sort"]} if pages else {}
            hits = self.client.search(index="events", sort=sort, size=50, **more)["hits"]["hits"]
            if not hits:
                break
            pages += hits
        expected = sorted((n % 7, -n) for n in range(120))
        self.assertEqual([(hit["_source"]["user"]["id"], -hit["_source"]["n"]) for hit in pages], expected)
        answer = self.client.search(
            index="events",
            query={"match_phrase": {"msg": "took 7 ms"}},
            highlight={"fields": {"msg": {}}},
            aggs={"levels": {"terms": {"field": "level"}, "aggs": {"n": {"avg": {"field": "n"}}}}},
        )
        self.assertEqual(answer["hits"]["hits"][0]["highlight"], {"msg": ["<em>took</em> <em>7</em> <em>ms</em>"]})
        self.assertEqual(
            answer["aggregations"]["levels"]["buckets"], [{"key": "info", "doc_count": 1, "n": {"value": 7.0}}]
        )
        histogram = {"field": "timestamp", "calendar_interval": "day", "time_zone": "Europe/Berlin"}
        days = self.client.search(index="events", size=0, aggs={"days": {"date_histogram": histogram}})
        self.assertEqual(sum(day["doc_count"] for day in days["aggregations"]["days"]["buckets"]), 120)

    def check_an_earlier_state(self) -> None:
        first = self.client.search(index="events", size=1)
        again = self.client.search(index="events", body={"size": 1, "chronik": {"vector": first["chronik"]["vector"]}})
        self.assertEqual(again["hits"]["hits"], first["hits"]["hits"])

    def check_count(self) -> None:
        self.assertEqual(self.client.count(index="events", query={"term": {"level": "error"}})["count"], 12)
        self.assertEqual(self.client.count()["count"], 240)

    def check_several_searches(self) -> None:
        answers = self.client.msearch(
            searches=[
                {"index": "events"},
                {"query": {"term": {"n": 5}}},
                {"index": "nope"},
                {"query": {"match_all": {}}},
                {"index": ["log-1", "log-2"], "ignore_unavailable": True},
                {"size": 0, "query": {"match": {"value": "peer"}}},
            ]
        )["responses"]
        self.assertEqual([each["status"] for each in answers], [200, 404, 200])
        self.assertEqual(answers[0]["hits"]["hits"][0]["_source"]["n"], 5)
        self.assertEqual(answers[2]["hits"]["total"]["value"], 120)

    def check_indices(self) -> None:
        self.assertTrue(self.client.indices.exists(index="events"))
        self.assertFalse(self.client.indices.exists(index="nope"))
        self.assertEqual(self.client.indices.get(index="log-*")["log-1"]["settings"]["index"]["number_of_shards"], "1")
        rows = self.client.cat.indices(index="events", format="json", h=["index", "docs.count"])
        self.assertEqual(list(rows), [{"index": "events", "docs.count": "120"}])
        self.assertIn("events", str(self.client.cat.indices(v=True)))

    def check_fields_and_mappings(self) -> None:
        fields = self.client.field_caps(index="events", fields="*")["fields"]
        self.assertIn("long", fields["user.id"])
        self.assertTrue(
            self.client.indices.put_mapping(index="log-1", properties={"host": {"type": "keyword"}})["acknowledged"]
        )
        mappings = self.client.indices.get_mapping(index="log-1")["log-1"]["mappings"]
        self.assertEqual(mappings, {"properties": {"host": {"type": "keyword"}}})
        with self.assertRaises(self.library.BadRequestError):
            self.client.indices.put_mapping(index="log-1", properties={"host": {"type": "long"}})

    def check_errors(self) -> None:
        with self.assertRaises(self.library.NotFoundError) as missing:
            self.client.search(index="nope")
        self.assertEqual(missing.exception.error, "index_not_found_exception")
        with self.assertRaises(self.library.BadRequestError) as wrong:
            self.client.search(index="events", query={"term": {"a": 1, "b": 2}})
        self.assertIn("query.term", wrong.exception.body["error"]["reason"])
        self.assertIn("query.term", str(wrong.exception))
        with self.assertRaises(self.library.BadRequestError):
            self.client.search(index="events", min_score=1)
        for write in (
            lambda: self.client.index(index="events", document={"a": 1}),
            lambda: self.client.bulk(operations=[{"index": {"_index": "events"}}, {"a": 1}]),
            lambda: self.client.indices.delete(index="events"),
            lambda: self.client.open_point_in_time(index="events", keep_alive="1m"),
        ):
            with self.assertRaises(self.library.ApiError) as refused:
                write()
            self.assertIn(refused.exception.meta.status, (400, 405))


class Client9(Client8):
    module = "elasticsearch9"
