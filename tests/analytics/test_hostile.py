"""Hostile statements are refused before anything is read, and the connection's own lock holds without that check."""

from __future__ import annotations

import os

import duckdb
from twisted.trial.unittest import SynchronousTestCase

from chronik.analytics.connection import open_connection
from chronik.analytics.messages import Limits
from tests.analytics.hostile import HOSTILE, TOUCHING
from tests.analytics.topics import LIMITS, Topics

CODES = {"unsupported_statement", "parsing_exception", "unknown_topic"}


class HostileStatements(SynchronousTestCase):
    def test_all_are_refused_and_nothing_is_read(self) -> None:
        topics = Topics()
        topics.add_values("events", [{"level": "error", "a": 1}])
        self.assertGreaterEqual(len(HOSTILE), 60)
        for statement in HOSTILE:
            found = topics.sql(statement)
            assert found.ran.fault is not None, statement[:100]
            self.assertIn(found.ran.fault.code, CODES, (statement[:100], found.ran.fault))
            self.assertEqual((found.text, found.ran.counts.records), (b"", 0), statement[:100])
        self.assertEqual([name for name in os.listdir("/tmp") if name.startswith("chronik-hostile")], [])
        self.assertEqual(topics.sql("SELECT level FROM events").rows, [("error",)])

    def test_the_lock_alone_refuses_what_touches_the_machine(self) -> None:
        topics = [name for name in TOUCHING if "events" not in name]
        self.assertGreater(len(topics), 30)
        for statement in topics:
            connection = open_connection(LIMITS)
            with self.assertRaises(duckdb.Error, msg=statement):
                connection.execute(statement)
                connection.fetchall()
            connection.close()
        self.assertEqual([name for name in os.listdir("/tmp") if name.startswith("chronik-hostile")], [])

    def test_what_takes_all_the_memory_or_no_end_is_ended(self) -> None:
        topics = Topics()
        small = Limits(rows=10, seconds=1.0, memory_bytes=64 << 20, threads=1)
        for statement, code in (
            ("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r", "timeout"),
            ("SELECT count(*) FROM range(100000000000) a", "timeout"),
            ("SELECT count(*) FROM (SELECT DISTINCT hash(range) FROM range(100000000))", "memory_limit"),
            ("SELECT string_agg(repeat('x', 1000), '') FROM range(10000000)", "memory_limit"),
        ):
            found = topics.sql(statement, limits=small)
            assert found.ran.fault is not None
            self.assertEqual(found.ran.fault.code, code, (statement, found.ran.fault))
        self.assertEqual(topics.sql("SELECT 1").rows, [(1,)])
