"""Chronik's answers against Apache Kafka's recorded ones; with CHRONIK_COMPAT=1, Kafka's against its own record too."""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path

from tests.differential import compare, run
from tests.differential.__main__ import CHRONIK_SETTINGS, KAFKA_SETTINGS
from tests.peers import cache
from tests.peers.apache_kafka import ApacheKafka
from tests.peers.chronik_node import ChronikNode


class Differential(unittest.TestCase):
    """The whole script, on a fresh broker."""

    maxDiff = None

    def test_chronik_answers_as_kafka_did(self) -> None:
        """Every difference is in the table, and every entry of the table still has one."""
        with tempfile.TemporaryDirectory() as directory, ChronikNode(Path(directory), CHRONIK_SETTINGS) as node:
            answers = run.normal(run.run(("127.0.0.1", node.port), seconds=60))
        findings = compare.compare(run.load(), answers)
        strangers = [finding for finding in findings if finding.intended is None]
        self.assertFalse(strangers, compare.report(findings))
        unused = compare.unused(findings, answers)
        self.assertFalse(unused, f"these entries of differences.py excuse nothing any more: {unused}")

    @unittest.skipUnless(os.environ.get("CHRONIK_COMPAT") == "1", "runs with CHRONIK_COMPAT=1")
    def test_the_record_is_what_kafka_answers(self) -> None:
        """A changed script without a new record is noticed."""
        with tempfile.TemporaryDirectory() as directory:
            try:
                kafka = ApacheKafka(Path(directory) / "kafka", KAFKA_SETTINGS)
            except cache.PeerMissing as missing:
                raise unittest.SkipTest(str(missing)) from None
            with kafka:
                answers = run.normal(run.run(("127.0.0.1", kafka.port)))
        findings = compare.compare(run.load(), answers, ())
        self.assertFalse(
            findings, "the record, and under Chronik's name what Kafka says now:\n" + compare.report(findings)
        )


if __name__ == "__main__":
    unittest.main()
