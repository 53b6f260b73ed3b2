"""The search listener of a whole node: every operation, on disk and in memory, over a socket."""

from __future__ import annotations

import atexit
import json
import os
import time
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource
from openapi_spec_validator import validate
from twisted.trial.unittest import SynchronousTestCase

from chronik.listeners.search_schema import OPERATIONS
from chronik.testing import Chronik
from tests.node.searching import Answer, Message, ask, produce

EVENTS = 300


def event(number: int) -> Message:
    value = {
        "n": number,
        "level": "error" if number % 10 == 0 else "info",
        "user": {"id": number % 7},
        "took": number * 1.5,
    }
    return b"order-%d" % number, json.dumps(value).encode()


@cache
def shared(in_memory: bool, processes: int) -> Chronik:
    """One node for many tests, none of which changes the messages that are in it. It is stopped at the end of the process."""
    directory = None if in_memory else TemporaryDirectory()
    broker = Chronik(
        directory=directory and directory.name,
        search_listener="127.0.0.1:0",
        search_workers=processes,
        transaction_state_log_num_partitions=1,
    ).start()
    if directory is not None:
        atexit.register(directory.cleanup)
    atexit.register(broker.stop)
    broker.create_topic("events", 3)
    broker.create_topic("lines")
    broker.create_topic("empty", 2)
    for partition in range(3):
        mine = [event(number) for number in range(partition, EVENTS, 3)]
        produce(broker, "events", mine, partition, headers=[("trace", b"t\xff"), ("trace", b"u")])
    lines: list[Message] = [(None, b'level=warn msg="hello %d" plain' % number) for number in range(20)]
    lines += [(None, b"zebra \xff\xfe"), (b"gone", None), (None, b'{"broken":'), (None, b"[1, 2]")]
    produce(broker, "lines", lines)
    return broker


class Searching(SynchronousTestCase):
    """Tests on a shared node. They may add topics of their own, whose names begin with `x-`."""

    in_memory = False
    processes = 1

    def setUp(self) -> None:
        self.broker = shared(self.in_memory, self.processes)

    def ask(self, method: str, path: str, body: Any = None, status: int = 200, **headers: str) -> Answer:
        answer = ask(self.broker, method, path, body, **headers)
        self.assertEqual(answer.status, status, answer.body)
        return answer

    def search(self, path: str = "/events/_search", status: int = 200, **body: Any) -> Answer:
        return self.ask("POST", path, body, status)


class SearchTests(Searching):
    def test_what_this_is(self) -> None:
        answer = self.ask("GET", "/")
        self.assertEqual(answer.headers["x-elastic-product"], "Elasticsearch")
        self.assertEqual(answer.body["version"]["number"].split(".")[0], "8")
        head = self.ask("HEAD", "/")
        self.assertEqual((head.body, head.headers["x-elastic-product"]), (b"", "Elasticsearch"))

    def test_a_search(self) -> None:
        answer = self.search(
            query={"bool": {"filter": [{"term": {"level": "error"}}, {"range": {"n": {"lt": 100}}}]}}, size=3
        )
        body = answer.body
        self.assertEqual(body["hits"]["total"], {"value": 10, "relation": "eq"})
        self.assertEqual((body["timed_out"], body["_shards"]["total"], body["_shards"]["failed"]), (False, 3, 0))
        self.assertIsNone(body["hits"]["max_score"])
        self.assertEqual(len(answer.hits), 3)
        hit = answer.hits[0]
        partition, offset = map(int, hit["_id"].split(":"))
        number = partition + 3 * offset
        self.assertEqual(
            (hit["_index"], hit["_score"], hit["_source"]), ("events", None, json.loads(event(number)[1] or b""))
        )
        self.assertEqual(hit["fields"]["key"], [f"order-{number}"])
        self.assertEqual((hit["fields"]["partition"], hit["fields"]["offset"]), ([partition], [offset]))
        self.assertEqual(hit["fields"]["headers.trace"], ["t\ufffd", "u"])
        self.assertRegex(hit["fields"]["timestamp"][0], r"^20\d\d-.*Z$")

    def test_the_same_by_the_url(self) -> None:
        wanted = self.search(query={"query_string": {"query": "level:error AND n:<100"}}, size=100)
        for path in (
            "/events/_search?q=level:error%20AND%20n:%3C100&size=100",
            "/ev*/_search?size=100&q=level:error+AND+n:%3C100",
        ):
            for method in ("GET", "POST"):
                self.assertEqual(self.ask(method, path).ids, wanted.ids)
        self.assertEqual(len(wanted.ids), 10)

    def test_hits_are_the_newest_first_or_the_oldest(self) -> None:
        newest = self.search(size=1000)
        self.assertEqual(len(newest.ids), EVENTS)
        times = [hit["fields"]["timestamp"] for hit in newest.hits]
        self.assertEqual(times, sorted(times, reverse=True))
        oldest = self.search(size=1000, sort=[{"timestamp": "asc"}])
        self.assertEqual(sorted(oldest.ids), sorted(newest.ids))
        self.assertEqual([hit["sort"][0] for hit in oldest.hits], sorted(hit["sort"][0] for hit in oldest.hits))
        self.assertEqual(oldest.hits[0]["sort"][1], f"events:{oldest.ids[0]}")
        self.assertNotIn("sort", newest.hits[0])

    def test_pages(self) -> None:
        whole = self.search(size=EVENTS).ids
        pages: list[str] = []
        for skip in range(0, EVENTS + 50, 70):
            answer = self.ask("GET", f"/events/_search?size=70&from={skip}")
            pages += answer.ids
            for hit in answer.hits:
                self.assertIn("n", hit["_source"])
        self.assertEqual(pages, whole)

    def test_other_orders_and_their_pages(self) -> None:
        for sort in (
            [{"user.id": "desc"}, {"took": {"order": "asc"}}],
            [{"level.keyword": {"order": "asc"}}, "offset"],
            [{"absent": {"order": "asc", "missing": "_first"}}],
            [{"timestamp": "desc"}],
            ["timestamp"],
            ["_doc"],
        ):
            whole = self.search(sort=sort, size=EVENTS).hits
            self.assertEqual(len(whole), EVENTS)
            pages: list[Any] = []
            while True:
                more = {"search_after": pages[-1]["sort"]} if pages else {}
                answer = self.search(sort=sort, size=77, **more)
                self.assertEqual(answer.body["hits"]["total"]["value"], EVENTS)
                if not answer.hits:
                    break
                pages += answer.hits
            self.assertEqual(pages, whole, sort)
        first = self.search(sort=[{"user.id": "desc"}, {"took": "asc"}], size=2).hits
        self.assertEqual([hit["sort"][:2] for hit in first], [[6, 9.0], [6, 19.5]])
        skipped = self.search(sort=[{"took": "desc"}], size=3, **{"from": 7}).hits
        self.assertEqual([hit["_source"]["n"] for hit in skipped], [292, 291, 290])

    def test_what_was_found_is_marked(self) -> None:
        body = {
            "query": {"query_string": {"query": "level:error AND n:<50"}},
            "highlight": {"fields": {"*": {}, "key": {}}},
        }
        hits = self.search(**body).hits
        self.assertEqual([hit["highlight"]["level"] for hit in hits], [["<em>error</em>"]] * 5)
        lines = self.search(
            "/lines/_search", query={"match": {"value": "hello"}}, highlight={"fields": {"value": {}}}
        ).hits
        self.assertIn("<em>hello</em>", lines[0]["highlight"]["value"][0])

    def test_aggregations(self) -> None:
        aggs = {
            "levels": {
                "terms": {"field": "level"},
                "aggs": {
                    "took": {"stats": {"field": "took"}},
                    "top": {"top_hits": {"size": 1, "sort": [{"n": "desc"}]}},
                },
            },
            "users": {"cardinality": {"field": "user.id"}},
            "steps": {"histogram": {"field": "n", "interval": 100}},
        }
        for name in ("aggs", "aggregations"):
            answer = self.search("/events,lines/_search", size=0, **{name: aggs})
            found = answer.body["aggregations"]
            levels = found["levels"]["buckets"]
            self.assertEqual(
                [(each["key"], each["doc_count"]) for each in levels], [("info", 270), ("error", 30), ("warn", 20)]
            )
            self.assertEqual((levels[1]["took"]["max"], levels[1]["took"]["count"]), (435.0, 30))
            self.assertEqual(levels[0]["top"]["hits"]["hits"][0]["_source"]["n"], 299)
            self.assertEqual(found["users"]["value"], 7)
            self.assertEqual([each["doc_count"] for each in found["steps"]["buckets"]], [100, 100, 100])
        some = self.search(
            size=1, query={"term": {"level": "error"}}, aggs={"n": {"sum": {"field": "n"}}}, track_total_hits=False
        )
        self.assertEqual(some.body["aggregations"]["n"]["value"], sum(range(0, EVENTS, 10)))
        nothing = self.search("/empty/_search", aggs={"n": {"terms": {"field": "n"}}})
        self.assertEqual(nothing.body["aggregations"]["n"]["buckets"], [])
        self.assertNotIn("aggregations", self.search(aggs={}).body)

    def test_all_buckets_by_pages(self) -> None:
        sources = [{"level": {"terms": {"field": "level"}}}, {"user": {"terms": {"field": "user.id"}}}]
        buckets: list[Any] = []
        after: dict[str, Any] = {}
        while True:
            composite = {"sources": sources, "size": 5, **after}
            found = self.search(size=0, aggs={"all": {"composite": composite}}).body["aggregations"]["all"]
            if not found["buckets"]:
                break
            buckets += found["buckets"]
            after = {"after": found["after_key"]}
        self.assertEqual(len(buckets), 14)
        self.assertEqual(sum(each["doc_count"] for each in buckets), EVENTS)

    def test_totals(self) -> None:
        exact = {"value": 30, "relation": "eq"}
        query = {"term": {"level": "error"}}
        self.assertEqual(self.search(query=query).body["hits"]["total"], exact)
        self.assertEqual(self.search(query=query, track_total_hits=True, size=0).body["hits"]["total"], exact)
        self.assertNotIn("total", self.search(query=query, track_total_hits=False).body["hits"])
        few = self.search(query=query, track_total_hits=5, size=0).body["hits"]["total"]
        self.assertGreaterEqual(few["value"], 5)
        self.assertIn(few["relation"], ("eq", "gte"))
        self.assertEqual(
            self.ask("GET", "/events/_search?rest_total_hits_as_int=true&q=level:error").body["hits"]["total"], 30
        )

    def test_messages_that_are_no_json(self) -> None:
        hits = self.search("/lines/_search", size=100, sort="timestamp").hits
        self.assertEqual(len(hits), 24)
        values = [hit["_source"]["value"] for hit in hits]
        self.assertEqual(values[0], 'level=warn msg="hello 0" plain')
        self.assertEqual(values[20:], ["zebra \ufffd\ufffd", None, '{"broken":', "[1, 2]"])
        self.assertEqual(self.ask("GET", "/lines/_search?q=level:warn&size=0").body["hits"]["total"]["value"], 20)
        self.assertEqual(self.ask("GET", "/lines/_search?q=key:gone").ids, ["0:21"])

    def test_what_of_a_hit_is_shown(self) -> None:
        query = {"term": {"n": 9}}
        (hit,) = self.search(query=query, _source=["user.*"], fields=["took", "user.id"]).hits
        self.assertEqual(hit["_source"], {"user": {"id": 2}})
        self.assertEqual((hit["fields"]["took"], hit["fields"]["user.id"]), ([13.5], [2]))
        (hit,) = self.search(
            query=query, _source=False, docvalue_fields=[{"field": "timestamp", "format": "epoch_millis"}]
        ).hits
        self.assertNotIn("_source", hit)
        self.assertRegex(hit["fields"]["timestamp"][0], r"^\d{13}$")

    def test_counts(self) -> None:
        self.assertEqual(self.ask("GET", "/events/_count").body["count"], EVENTS)
        self.assertEqual(self.ask("POST", "/events/_count", {"query": {"term": {"level": "error"}}}).body["count"], 30)
        self.assertEqual(self.ask("GET", "/_count?q=zebra").body["count"], 1)
        self.assertEqual(self.ask("GET", "/empty/_count").body["count"], 0)
        self.ask("POST", "/events/_count", {"size": 1}, 400)

    def test_several_topics(self) -> None:
        for path, expected in [
            ("/events,lines/_count", EVENTS + 24), ("/*,-lines,-x-*/_count", EVENTS), ("/*,-x-*/_count", EVENTS + 24),
            ("/l*/_count", 24), ("/lines,nope/_count?ignore_unavailable=true", 24), ("/nothing*/_count", 0),
        ]:  # fmt: skip
            self.assertEqual(self.ask("GET", path).body["count"], expected, path)
        indices = {hit["_index"] for hit in self.search("/events,lines/_search", size=1000).hits}
        self.assertEqual(indices, {"events", "lines"})

    def test_topics_that_are_not_there(self) -> None:
        for path in (
            "/nope/_search",
            "/events,nope/_search",
            "/nothing*/_search?allow_no_indices=false",
            "/nope/_mapping",
            "/nope",
            "/a,__consumer_offsets/_count",
        ):
            answer = self.ask("GET", path, status=404)
            self.assertEqual(answer.body["error"]["type"], "index_not_found_exception")
            self.assertEqual(answer.body["status"], 404)
            self.assertEqual(answer.headers["x-elastic-product"], "Elasticsearch")
        self.assertEqual(
            self.ask("GET", "/a:b/_search", status=400).body["error"]["type"], "invalid_index_name_exception"
        )
        self.ask("HEAD", "/nope", status=404)
        self.ask("HEAD", "/events")

    def test_several_searches_at_once(self) -> None:
        lines = [
            {"index": "events", "search_type": "query_then_fetch", "ignore_unavailable": True}, {"size": 1},
            {"index": ["nope"]}, {},
            {}, {"query": {"match": {"value": "hello"}}, "size": 0},
            {"index": "lines"}, {"surprise": 1},
            {"surprise": 1}, {},
            {"index": "lines", "preference": "x", "routing": None}, {"size": 0},
        ]  # fmt: skip
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        for path in ("/_msearch?max_concurrent_shard_requests=5", "/lines/_msearch"):
            answer = self.ask("POST", path, body, content_type="application/x-ndjson")
            found = answer.body["responses"]
            self.assertEqual([each["status"] for each in found], [200, 404, 200, 400, 400, 200])
            self.assertEqual(len(found[0]["hits"]["hits"]), 1)
            self.assertEqual(found[1]["error"]["type"], "index_not_found_exception")
            self.assertEqual(found[2]["hits"]["total"]["value"], 20)
            self.assertIn("surprise", found[3]["error"]["reason"])
            self.assertEqual(found[4]["error"]["path"], "header.surprise")
        for wrong in (b"", b"\n", b"{}", b"{}\n{}\n{}\n", b"{}\n{}\n" * 101):
            self.ask("POST", "/_msearch", wrong, 400, content_type="application/x-ndjson")

    def test_what_a_search_costs(self) -> None:
        answer = self.ask(
            "POST", "/events/_explain", {"query": {"query_string": {"query": "level:error AND took:>100"}}}
        )
        (explanation,) = answer.body["explanations"]
        self.assertEqual(explanation["topics"], ["events"])
        self.assertEqual(explanation["query"], 'level:error AND took:{"100" TO *]')
        self.assertEqual(explanation["tokens"], "(error AND level AND took)")
        self.assertGreater(answer.body["chronik"]["costs"]["scanned_bytes"], 0)
        self.assertEqual(answer.body["hits"]["total"]["relation"], "eq")
        self.assertEqual(
            self.ask("GET", "/events/_explain/0:1", status=400).body["error"]["type"], "illegal_argument_exception"
        )

    def test_which_fields_there_are(self) -> None:
        answer = self.ask("GET", "/events,lines/_field_caps?fields=*").body
        self.assertEqual(answer["indices"], ["events", "lines"])
        self.assertEqual(answer["chronik"]["sampled"], {"events": 200, "lines": 24})
        fields = answer["fields"]
        for name, kind in [
            ("n", "long"), ("took", "double"), ("user.id", "long"), ("level.keyword", "keyword"), ("timestamp", "date"),
            ("key", "text"), ("offset", "long"), ("msg", "text"),
        ]:  # fmt: skip
            self.assertIn(kind, fields[name], name)
        few = self.ask("POST", "/events/_field_caps", {"fields": ["user.*", "took"]}).body["fields"]
        self.assertEqual(sorted(few), ["took", "user.id"])
        self.assertEqual(
            sorted(self.ask("GET", "/empty/_field_caps?fields=timestamp,nothing").body["fields"]), ["timestamp"]
        )

    def test_lists(self) -> None:
        text = self.ask("GET", "/_cat/indices/*,-x-*?v&h=index,docs.count,pri")
        self.assertTrue(text.headers["content-type"].startswith("text/plain"))
        self.assertEqual([line.split() for line in text.body.decode().splitlines()], [
            ["index", "docs.count", "pri"], ["empty", "0", "2"], ["events", "300", "3"], ["lines", "24", "1"],
        ])  # fmt: skip
        rows = self.ask("GET", "/_cat/indices/e*?format=json&bytes=b&s=docs.count:desc").body
        self.assertEqual([row["index"] for row in rows], ["events", "empty"])
        self.assertGreater(int(rows[0]["store.size"]), 1000)
        self.assertEqual({row["health"] for row in rows}, {"green"})
        self.assertEqual(len(self.ask("GET", "/_cat/indices/*,-x-*", accept="application/json").body), 3)
        for wrong in ("h=no", "s=no", "format=xml", "bytes=kb", "help"):
            self.ask("GET", f"/_cat/indices?{wrong}", status=400)

    def test_health_and_settings(self) -> None:
        self.assertEqual(self.ask("GET", "/_cluster/health?wait_for_status=yellow").body["status"], "green")
        self.assertEqual(self.ask("GET", "/events").body["events"]["settings"]["index"]["number_of_shards"], "3")

    def test_the_document_names_every_route(self) -> None:
        document = self.ask("GET", "/v1/openapi.json").body
        validate(document)
        described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
        routes = {(method, op.path) for op in OPERATIONS for method in op.methods}
        self.assertEqual(described, routes | {("GET", "/tail")})

    def test_indented(self) -> None:
        answer = ask(self.broker, "GET", "/events/_search?pretty&size=2")
        self.assertEqual(len(answer.hits), 2)
        for path in ("/events/_search?pretty=perhaps", "/?surprise"):
            self.ask("GET", path, status=400)

    def test_a_vector_repeats_a_search(self) -> None:
        self.broker.create_topic("x-grows", 2)
        produce(self.broker, "x-grows", [(None, b"one"), (None, b"two")], 0)
        first = self.search("/x-grows/_search")
        vector = first.body["chronik"]["vector"]
        self.assertEqual(vector["topics"]["x-grows"]["partitions"], {"0": [0, 2], "1": [0, 0]})
        produce(self.broker, "x-grows", [(None, b"three")], 1)
        self.assertEqual(len(self.search("/x-grows/_search").ids), 3)
        again = self.search("/x-grows/_search", chronik={"vector": vector})
        self.assertEqual(again.hits, first.hits)
        self.assertEqual(again.body["chronik"]["vector"], vector)
        self.assertNotIn("lost", again.body["chronik"])
        self.assertEqual(self.ask("POST", "/x-grows/_count", {"chronik": {"vector": vector}}).body["count"], 2)
        self.assertEqual(self.search("/x-gr*,events/_search", size=500, chronik={"vector": vector}).ids, first.ids)

    def test_what_a_vector_lost(self) -> None:
        self.broker.create_topic("x-shrinks")
        produce(self.broker, "x-shrinks", [(None, b"m%d" % number) for number in range(10)])
        vector = self.search("/x-shrinks/_search").body["chronik"]["vector"]
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap_servers})
        for future in admin.delete_records([TopicPartition("x-shrinks", 0, 4)]).values():
            future.result(30)
        again = self.search("/x-shrinks/_search", chronik={"vector": vector})
        self.assertEqual(len(again.ids), 6)
        lost = {"topic": "x-shrinks", "partition": 0, "from": 0, "to": 4, "reason": "retention"}
        self.assertEqual(again.body["chronik"]["lost"], [lost])
        for future in admin.delete_topics(["x-shrinks"]).values():
            future.result(30)
        gone = self.search("/x-shrinks*/_search", chronik={"vector": vector})
        self.assertEqual(gone.body["chronik"]["lost"], [{"topic": "x-shrinks", "reason": "the topic was deleted"}])
        self.broker.create_topic("x-shrinks")
        produce(self.broker, "x-shrinks", [(None, b"new")])
        anew = self.search("/x-shrinks/_search", chronik={"vector": vector})
        self.assertEqual(anew.ids, [])
        self.assertEqual(
            anew.body["chronik"]["lost"], [{"topic": "x-shrinks", "reason": "the topic was deleted, and made anew"}]
        )

    def test_one_s_own_writes_are_read(self) -> None:
        self.broker.create_topic("x-own")
        produce(self.broker, "x-own", [(None, b"first")])
        answer = self.search(
            "/x-own/_search", query={"match": {"value": "first"}}, chronik={"wait_for": {"x-own": {"0": 0}}}
        )
        self.assertEqual(answer.ids, ["0:0"])
        began = time.monotonic()
        refused = self.search("/x-own/_search", 408, chronik={"wait_for": {"x-own": {"0": 1}}}, timeout="300ms")
        self.assertGreater(time.monotonic() - began, 0.25)
        self.assertEqual(refused.body["error"]["type"], "timeout_exception")
        for wrong in ({"x-own": {"7": 0}}, {"lines": {"0": 0}}):
            self.search("/x-own/_search", 400, chronik={"wait_for": wrong})

    def test_an_open_transaction_is_waited_for_and_an_aborted_one_never_found(self) -> None:
        self.broker.create_topic("x-paid")
        producer = Producer(
            {
                "bootstrap.servers": self.broker.bootstrap_servers,
                "transactional.id": f"t-{self.in_memory}-{self.processes}",
            }
        )
        producer.init_transactions(30)
        for value, commit in [(b"aborted", False), (b"committed", True)]:
            producer.begin_transaction()
            producer.produce("x-paid", value)
            producer.flush(30)
            self.search(
                "/x-paid/_search", 408, chronik={"wait_for": {"x-paid": {"0": 0}}}, timeout="100ms"
            ) if not commit else None
            self.assertEqual(self.search("/x-paid/_search").ids, [])
            if commit:
                producer.commit_transaction(30)
            else:
                producer.abort_transaction(30)
        answer = self.search("/x-paid/_search", chronik={"wait_for": {"x-paid": {"0": 2}}})
        self.assertEqual([hit["_source"]["value"] for hit in answer.hits], ["committed"])


class MappingTests(Searching):
    def test_a_mapping_is_kept_extended_and_read_by(self) -> None:
        self.broker.create_topic("x-mapped")
        produce(
            self.broker,
            "x-mapped",
            [(None, b'{"host":"Web-1","status":"500"}'), (None, b'{"host":"web","status":404}')],
        )

        def found(text: str) -> int:
            body = self.search("/x-mapped/_search", query={"match": {"host": text}}).body
            return int(body["hits"]["total"]["value"])

        self.assertEqual(found("web"), 2)
        self.ask("PUT", "/x-mapped/_mapping", {"properties": {"host": {"type": "keyword"}}})
        self.ask("PUT", "/x-mapped/_mapping", {"properties": {"status": {"type": "long"}}})
        expected = {"properties": {"host": {"type": "keyword"}, "status": {"type": "long"}}}
        for path in ("/x-mapped/_mapping", "/x-ma*/_mapping"):
            self.assertEqual(self.ask("GET", path).body, {"x-mapped": {"mappings": expected}})
        self.assertEqual(self.ask("GET", "/_mapping").body["events"], {"mappings": {"properties": {}}})
        self.assertEqual((found("web"), found("Web-1")), (1, 1))
        self.assertEqual(self.search("/x-mapped/_search", query={"range": {"status": {"gte": 500}}}).ids, ["0:0"])
        caps = self.ask("GET", "/x-mapped/_field_caps?fields=host,status").body["fields"]
        self.assertEqual({name: list(kinds) for name, kinds in caps.items()}, {"host": ["keyword"], "status": ["long"]})

    def test_each_topic_s_query_is_read_by_its_own_mapping(self) -> None:
        for name in ("x-m-one", "x-m-two"):
            self.broker.create_topic(name)
            produce(self.broker, name, [(None, b'{"host":"Web 1"}'), (None, b'{"host":"web"}')])
        self.ask("PUT", "/x-m-one/_mapping", {"properties": {"host": {"type": "keyword"}}})
        answer = self.search("/x-m-*/_search", query={"match": {"host": "web"}}, sort="timestamp")
        self.assertEqual(sorted((hit["_index"], hit["_id"]) for hit in answer.hits), [
            ("x-m-one", "0:1"), ("x-m-two", "0:0"), ("x-m-two", "0:1"),
        ])  # fmt: skip
        aggs = {"hosts": {"terms": {"field": "host", "order": {"_key": "asc"}}}}
        found = self.search("/x-m-*/_search", size=0, aggs=aggs).body["aggregations"]["hosts"]["buckets"]
        self.assertEqual([(each["key"], each["doc_count"]) for each in found], [("Web 1", 2), ("web", 2)])
        explained = self.ask("GET", "/x-m-*/_explain?q=host:web").body["explanations"]
        self.assertEqual([each["topics"] for each in explained], [["x-m-one"], ["x-m-two"]])

    def test_what_is_no_mapping_or_disagrees_is_refused(self) -> None:
        self.broker.create_topic("x-strict")
        self.ask("PUT", "/x-strict/_mapping", {"properties": {"a": {"type": "long"}}})
        for body, reason in [
            ({"properties": {"a": {"type": "keyword"}}}, "`a` is of type long and cannot become keyword"),
            ({"properties": {"a": {"properties": {"b": {"type": "long"}}}}}, "cannot hold `a.b`"),
            ({"properties": {"x": {"type": "nested"}}}, "properties.x.type"),
            ({"properties": {"timestamp": {"type": "long"}}}, "has its meaning"),
            ({"runtime": {}}, "runtime: not supported"),
            (b"", "the body is missing"),
            (b"{", "no JSON"),
            (
                {"properties": {f"{'f' * 400}{number}": {"type": "long"} for number in range(100)}},
                "at most 32000 bytes",
            ),
        ]:
            answer = self.ask("PUT", "/x-strict/_mapping", body, 400)
            self.assertIn(reason, answer.reason)
        self.ask("PUT", "/x-strict/_mapping", b" " * 70_000 + b"{}", 413)
        self.assertEqual(
            self.ask("GET", "/x-strict/_mapping").body["x-strict"]["mappings"], {"properties": {"a": {"type": "long"}}}
        )
        self.ask("PUT", "/nothing*/_mapping", {"properties": {}}, 404)

    def test_it_is_a_topic_s_config(self) -> None:
        self.broker.create_topic("x-configured")
        self.ask("PUT", "/x-configured/_mapping", {"properties": {"a": {"type": "date"}}})
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap_servers})
        resource = ConfigResource(ConfigResource.Type.TOPIC, "x-configured")
        (future,) = admin.describe_configs([resource]).values()
        told = future.result(30)["chronik.search.mapping"]
        self.assertEqual(json.loads(told.value), {"properties": {"a": {"type": "date"}}})
        resource.set_config("chronik.search.mapping", '{"properties": {"a": {"type": "long"}}}')
        for changed in admin.alter_configs([resource]).values():
            changed.result(30)
        self.assertEqual(
            self.ask("GET", "/x-configured/_mapping").body["x-configured"]["mappings"]["properties"]["a"]["type"],
            "long",
        )
        for wrong in (
            "no JSON",
            '{"properties": {"a": {"type": "x"}}}',
            "[" * 10_000,
            '{"properties":{}}' + " " * 32_100 + "x",
        ):
            resource.set_config("chronik.search.mapping", wrong)
            with self.assertRaises(KafkaException) as caught:
                for changed in admin.alter_configs([resource]).values():
                    changed.result(30)
            self.assertIn("chronik.search.mapping", str(caught.exception))


class InMemory(SearchTests):
    in_memory = True


class ThreeProcesses(SearchTests):
    """Each has some of the partitions."""

    processes = 3


class AfterARestart(SynchronousTestCase):
    def test_mappings_and_messages_are_there(self) -> None:
        directory = os.path.abspath(self.mktemp())
        with Chronik(directory=directory, search_listener="127.0.0.1:0") as broker:
            broker.create_topic("kept")
            produce(broker, "kept", [(None, b'{"a":"x"}')])
            ask(broker, "PUT", "/kept/_mapping", {"properties": {"a": {"type": "keyword"}}})
            vector = ask(broker, "GET", "/kept/_search").body["chronik"]["vector"]
        with Chronik(directory=directory, search_listener="127.0.0.1:0") as broker:
            self.assertIn("a", ask(broker, "GET", "/kept/_mapping").body["kept"]["mappings"]["properties"])
            answer = ask(
                broker, "POST", "/kept/_search", {"chronik": {"vector": vector}, "query": {"term": {"a": "x"}}}
            )
            self.assertEqual(answer.ids, ["0:0"])

    def test_without_processes_that_search_there_is_no_listener(self) -> None:
        with Chronik(search_listener="127.0.0.1:0", search_workers=0) as broker, self.assertRaises(RuntimeError):
            broker.search_url  # noqa: B018  it raises

    def test_a_broker_in_a_process_of_its_own(self) -> None:
        with Chronik(search_listener="127.0.0.1:0", process=True) as broker:
            produce(broker, "made", [(None, b"hello")])
            self.assertEqual(ask(broker, "GET", "/made/_search?q=hello").ids, ["0:0"])
