"""Runs aiokafka's own integration tests against a broker, and what is expected of them.

`FAIL_ON_KAFKA` names those that fail against Apache Kafka 4.1.1, run the same way, with the reason. All others must pass here.
The tests of TLS, SASL and Kerberos need the container that aiokafka brings and are left out.

    python -m tests.compat.aiokafka_suite HOST:PORT [EXPRESSION]     print each test's outcome against a running broker
"""

from __future__ import annotations

import sys

from tests.compat import pytest_suite
from tests.peers import aiokafka_suite

BROKER_SETTINGS = {"node.id": "0", "num.partitions": "2"}
"""What the container that aiokafka brings sets on its broker."""

_FILES = (
    "test_admin.py",
    "test_client.py",
    "test_conn.py",
    "test_consumer.py",
    "test_coordinator.py",
    "test_pep492.py",
    "test_producer.py",
    "test_sender.py",
    "test_transactional_consumer.py",
    "test_transactional_producer.py",
)

FAIL_ON_KAFKA: dict[str, str] = {
    "test_consumer.py::TestConsumerIntegration::test_kip_345_enabled": (
        "it looks at one member's listener as soon as the other has its partitions: nine runs of ten are too early"
    ),
}
"""Tests that fail against Apache Kafka 4.1.1 too, with what is wrong with them."""


def outcomes(bootstrap: str, only: str = "") -> dict[str, str]:
    """The outcome ("PASSED", ...) of each test, by file and name; `only` is a pytest expression over names."""
    options = ["-m", "not ssl", "-W", "ignore", "--override-ini=markers=ssl: needs certificates"]
    if only:
        options += ["-k", only]
    environment = {"AIOKAFKA_TEST_BROKER": bootstrap, "AIOKAFKA_TEST_VERSION": "4.1.0"}
    files = [f"tests/{name}" for name in _FILES]
    return pytest_suite.outcomes(aiokafka_suite.source(), files, environment, options, timeout=1800)


if __name__ == "__main__":
    for _name, _outcome in sorted(outcomes(sys.argv[1], *sys.argv[2:3]).items()):
        print(_outcome, _name)
