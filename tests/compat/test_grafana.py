"""What Grafana's Elasticsearch data source sends, by its sources (pkg/tsdb/elasticsearch and the plugin's frontend), to a node.

The requests are written after what it builds: the order of keys is that of Go's maps, the header of `_msearch` is its own, and
what it reads of an answer is looked at here.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chronik.testing import Chronik
from tests.node.searching import Answer, ask, produce

START = 1_795_755_600_000
MINUTE = 60_000
TAGS = ("@HIGHLIGHT@", "@/HIGHLIGHT@")


class Grafana(SynchronousTestCase):
    def setUp(self) -> None:
        self.broker = Chronik(search_listener="127.0.0.1:0").start()
        self.addCleanup(self.broker.stop)
        self.broker.create_topic("app-logs")
        for number in range(60):
            value = {
                "level": "error" if number % 6 == 0 else "info",
                "message": f"request {number} served",
                "took": number / 2,
                "host": {"name": f"web-{number % 3}"},
            }
            produce(self.broker, "app-logs", [(b"k", json.dumps(value).encode())], timestamp=START + number * 10_000)

    def msearch(self, *bodies: dict[str, Any]) -> list[dict[str, Any]]:
        """As the backend sends it."""
        header = {"ignore_unavailable": True, "index": "app-logs", "search_type": "query_then_fetch"}
        lines = b"".join(json.dumps(line).encode() + b"\n" for body in bodies for line in (header, body))
        answer = self.ask(
            "POST", "/_msearch?max_concurrent_shard_requests=5", lines, content_type="application/x-ndjson"
        )
        found: list[dict[str, Any]] = answer.body["responses"]
        for each in found:
            self.assertNotIn("error", each, each)
        return found

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        answer = ask(self.broker, method, path, body, **headers)
        self.assertEqual(answer.status, 200, answer.body)
        return answer

    def query(self, text: str = "") -> dict[str, Any]:
        """The time of the dashboard, and what its user wrote."""
        within = {"range": {"timestamp": {"format": "epoch_millis", "gte": START, "lte": START + 10 * MINUTE - 1}}}
        if not text:
            return {"bool": {"filter": within}}
        return {"bool": {"filter": [within, {"query_string": {"analyze_wildcard": True, "query": text}}]}}

    def documents(self, text: str = "", **more: Any) -> dict[str, Any]:
        """A query for messages."""
        return {
            "docvalue_fields": ["timestamp"],
            "query": self.query(text),
            "script_fields": {},
            "size": 500,
            "sort": {"_doc": {"order": "desc"}, "timestamp": {"order": "desc", "unmapped_type": "boolean"}},
            **more,
        }

    FORMATTED = ({"field": "timestamp", "format": "strict_date_optional_time_nanos"},)

    def test_the_connection_is_tested(self) -> None:
        self.assertNotEqual(self.ask("GET", "/_cluster/health?wait_for_status=yellow").body["status"], "red")
        self.assertIn("build_flavor", self.ask("GET", "/").body["version"])

    def test_fields_are_listed(self) -> None:
        for path in ("/app-logs/_field_caps?fields=*", "/_field_caps?fields=*"):
            fields = self.ask("GET", path).body["fields"]
            self.assertIn("date", fields["timestamp"])
            self.assertIn("double", fields["took"])
        for path in ("/app-logs/_mapping", "/_mapping"):
            self.assertIn("properties", self.ask("GET", path).body["app-logs"]["mappings"])

    def test_raw_data(self) -> None:
        (found,) = self.msearch(self.documents("level:error", fields=list(self.FORMATTED)))
        self.assertEqual(found["hits"]["total"]["value"], 10)
        hit = found["hits"]["hits"][0]
        self.assertIsInstance(hit["_source"], dict)
        self.assertEqual(hit["fields"]["timestamp"], ["2026-11-27T05:09:00.000Z"])
        self.assertEqual(hit["sort"][0], START + 54 * 10_000)

    def test_raw_documents(self) -> None:
        found = self.msearch(self.documents(), self.documents("message:served AND took:>20"))
        self.assertEqual([len(each["hits"]["hits"]) for each in found], [60, 19])

    def test_logs(self) -> None:
        highlight = {"fields": {"*": {}}, "fragment_size": 2147483647, "post_tags": TAGS[1:], "pre_tags": TAGS[:1]}
        (found,) = self.msearch(self.documents("message:served", fields=list(self.FORMATTED), highlight=highlight))
        hit = found["hits"]["hits"][0]
        self.assertEqual(hit["highlight"]["message"], ["request 59 @HIGHLIGHT@served@/HIGHLIGHT@"])

    def test_the_messages_around_one(self) -> None:
        (found,) = self.msearch(self.documents())
        middle = found["hits"]["hits"][30]
        for order, expected in (("asc", 31), ("desc", 29)):
            sort = {"_doc": {"order": order}, "timestamp": {"order": order, "unmapped_type": "boolean"}}
            (around,) = self.msearch(self.documents(size=10, sort=sort, search_after=middle["sort"]))
            hits = around["hits"]["hits"]
            self.assertEqual(len(hits), 10)
            self.assertEqual(hits[0], found["hits"]["hits"][60 - expected if order == "asc" else expected + 2])

    def histogram(self, interval: str, aggs: dict[str, Any] | None = None) -> dict[str, Any]:
        bounds = {"max": START + 10 * MINUTE - 1, "min": START}
        histogram = {
            "extended_bounds": bounds, "field": "timestamp", "fixed_interval": interval, "format": "epoch_millis",
            "min_doc_count": 0,
        }  # fmt: skip
        return {"aggs": aggs, "date_histogram": histogram} if aggs else {"date_histogram": histogram}

    def test_a_time_series(self) -> None:
        (found,) = self.msearch({"aggs": {"2": self.histogram("60000ms")}, "query": self.query(), "size": 0})
        buckets = found["aggregations"]["2"]["buckets"]
        self.assertEqual(
            [(each["key"], each["doc_count"]) for each in buckets], [(START + n * MINUTE, 6) for n in range(10)]
        )

    def test_a_time_series_of_metrics_by_terms(self) -> None:
        metrics = {"1": {"max": {"field": "took"}}, "3": {"percentiles": {"field": "took", "percents": ["50", "90"]}}}
        terms = {"field": "host.name", "order": {"_key": "desc"}, "size": 10}
        body = {
            "aggs": {"4": {"aggs": {"2": self.histogram("5m", metrics)}, "terms": terms}},
            "query": self.query(),
            "size": 0,
        }
        (found,) = self.msearch(body)
        buckets = found["aggregations"]["4"]["buckets"]
        self.assertEqual([each["key"] for each in buckets], ["web-2", "web-1", "web-0"])
        inner = buckets[0]["2"]["buckets"]
        self.assertEqual([each["doc_count"] for each in inner], [10, 10])
        self.assertEqual(inner[1]["1"]["value"], 29.5)
        self.assertIn("50.0", inner[1]["3"]["values"])

    def test_the_volume_of_logs_by_level(self) -> None:
        terms = {
            "field": "level",
            "min_doc_count": 0,
            "missing": "unknown",
            "order": {"_count": "desc"},
            "size": 500,
        }
        body = {
            "aggs": {"2": {"aggs": {"3": self.histogram("60000ms")}, "terms": terms}},
            "query": self.query(),
            "size": 0,
        }
        (found,) = self.msearch(body)
        buckets = found["aggregations"]["2"]["buckets"]
        self.assertEqual([(each["key"], each["doc_count"]) for each in buckets], [("info", 50), ("error", 10)])

    def test_the_values_of_a_variable(self) -> None:
        terms = {"field": "host.name", "order": {"_key": "asc"}, "size": 500}
        (found,) = self.msearch(
            {"aggs": {"1": {"terms": terms}}, "query": {"bool": {"filter": [self.query()]}}, "size": 0}
        )
        self.assertEqual([each["key"] for each in found["aggregations"]["1"]["buckets"]], ["web-0", "web-1", "web-2"])
