"""The same on a whole node, over its sockets: all of loghub produced, searched by HTTP, and what `_explain` says of it.

Blocks have their usual size here. Some lines are in a transaction that is aborted, the first ones are given up by
DeleteRecords, and the newest lines are in no block.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import cache
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from twisted.trial.unittest import SynchronousTestCase

from chronik.search import query as q
from chronik.search.document import Document
from chronik.search.mapping import NO_MAPPING
from chronik.testing import Chronik
from tests.node.searching import ask
from tests.search import oracle
from tests.search.loghub import loghub
from tests.search.records import NOW
from tests.search.truth.forms import Form, Makers, Where, asks
from tests.search.truth.judge import ways

TOPIC = "events"
GIVEN_UP = 30
SHOWN = 10_000
FORMS = 10


class Topic:
    """A topic of two partitions, and the records that count in it."""

    def __init__(self, broker: Chronik) -> None:
        self.broker = broker
        self.truth: list[tuple[int, Document]] = []
        broker.create_topic(TOPIC, 2, {"retention.ms": "-1"})
        lines = [(line.timestamp, line.value or b"") for line in loghub()]
        self._produce(lines, 0)
        self._abort(lines[500:900], 0)
        self._produce(lines[:40], 0)
        self._produce(lines[3000:3300], 1)
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        admin.delete_records([TopicPartition(TOPIC, 0, GIVEN_UP)])[TopicPartition(TOPIC, 0)].result(30)
        self.truth = [each for each in self.truth if each[0] or each[1].offset >= GIVEN_UP]

    def _produce(self, lines: Sequence[tuple[int, bytes]], partition: int) -> None:
        found: list[tuple[int, Document]] = []
        producer = Producer({"bootstrap.servers": self.broker.bootstrap_servers, "linger.ms": 5})

        def delivered(error: object, message: Any) -> None:
            assert error is None, error
            found.append((partition, Document(message.offset(), message.timestamp()[1], None, message.value())))

        for number, (after, line) in enumerate(lines):
            producer.produce(TOPIC, line, None, partition, timestamp=NOW + after, on_delivery=delivered)
            if not number % 1000:
                producer.poll(0)
        assert not producer.flush(60)
        self.truth += found

    def _abort(self, lines: Sequence[tuple[int, bytes]], partition: int) -> None:
        producer = Producer({"bootstrap.servers": self.broker.bootstrap_servers, "transactional.id": "t"})
        producer.init_transactions(30)
        producer.begin_transaction()
        for after, line in lines:
            producer.produce(TOPIC, line + b" abortedabove", None, partition, timestamp=NOW + after)
        producer.flush(30)
        producer.abort_transaction(30)


@cache
def shared() -> Topic:
    """One node, with its topic, for all tests here; searched by a process."""
    directory = TemporaryDirectory()
    broker = Chronik(
        directory=directory.name,
        search_listener="127.0.0.1:0",
        search_workers=1,
        transaction_state_log_num_partitions=1,
    ).start()
    SynchronousTestCase.addClassCleanup(directory.cleanup)
    SynchronousTestCase.addClassCleanup(broker.stop)
    return Topic(broker)


class NodeTests(SynchronousTestCase):
    """Hits over HTTP are those of a plain look at every line."""

    def setUp(self) -> None:
        self.topic = shared()

    def search(self, form: Form, way: tuple[dict[str, str], bytes], operation: str = "_search") -> Any:
        parameters, body = way
        request = json.loads(body) if body else {"query": {"query_string": {"query": parameters["q"]}}}
        request |= {"size": SHOWN, "track_total_hits": True, "_source": False}
        return ask(self.topic.broker, "POST", f"/{TOPIC}/{operation}", request)

    def truth(self, form: Form) -> set[str] | None:
        where = [Where(NO_MAPPING, TOPIC, partition) for partition in range(2)]
        try:
            return {
                f"{partition}:{record.offset}"
                for partition, record in self.topic.truth
                if form.means(record, where[partition])
            }
        except oracle.Refused:
            return None

    def judge(self, form: Form) -> set[str]:
        truth = self.truth(form)
        for way in ways(form):
            answer = self.search(form, way)
            if truth is None:
                self.assertIn(answer.status, (200, 400), way)
                continue
            self.assertEqual(answer.status, 200, (way, answer.body))
            self.assertEqual(answer.body["hits"]["total"], {"value": len(truth), "relation": "eq"}, way)
            if len(truth) <= SHOWN:
                self.assertEqual(set(answer.ids), truth, way)
            else:
                self.assertLessEqual(set(answer.ids), truth, way)
        return truth or set()

    def test_forms(self) -> None:
        """Random ones, aimed at lines that are there."""
        found = 0
        for seed in range(FORMS):
            makers = Makers(Random(seed), self.topic.truth, NO_MAPPING)
            found += bool(self.judge(makers.form(1)))
        self.assertGreater(found, FORMS / 4)

    def test_what_does_not_count_is_not_found(self) -> None:
        self.assertEqual(self.judge(Form("abortedabove", None, asks(q.Term("value", "abortedabove")))), set())
        everything = self.judge(Form("*", {"match_all": {}}, asks(q.ALL)))
        self.assertNotIn(f"0:{GIVEN_UP - 1}", everything)
        self.assertIn(f"0:{GIVEN_UP}", everything)

    def test_explain_proves_it(self) -> None:
        """Signatures and bounds prune blocks; blocks and tails are gone through; the pre-filter leaves batches out."""
        deadline = time.monotonic() + 60
        while not self.costs(Form("sshd", None, asks(q.Term("value", "sshd"))))["blocks"]:
            self.assertLess(time.monotonic(), deadline, "nothing is indexed")
            time.sleep(0.1)
        for text, node, proof in (
            ("sshd", q.Term("value", "sshd"), ("groups", "blocks", "pruned_by_signatures", "scanned_blocks", "tails")),
            (
                "timestamp:<" + str(NOW + 10_000),
                q.Range("timestamp", None, str(NOW + 10_000), True, False),
                ("pruned_by_bounds",),
            ),
            ("/blk_-?38[0-9]+/", q.Regexp("value", "blk_-?38[0-9]+"), ("filtered_batches", "tail_bytes", "records")),
        ):
            form = Form(text, None, asks(node))
            self.assertTrue(self.judge(form), text)
            costs = self.costs(form)
            for name in proof:
                self.assertGreater(costs[name], 0, (text, name, costs))

    def costs(self, form: Form) -> Any:
        """What `_explain` says that the search cost."""
        (way,) = ways(form)
        answer = self.search(form, way, "_explain")
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(answer.body["hits"]["total"]["value"], len(self.truth(form) or ()))
        return answer.body["chronik"]["costs"]
