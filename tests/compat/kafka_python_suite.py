"""Runs kafka-python's own integration tests against a broker, and what is expected of them.

`FAIL_ON_KAFKA` names those that fail against Apache Kafka 4.1.1, run the same way, with the reason. All others must pass here.
Tests of TLS and SASL start brokers of their own and are left out.

    python -m tests.compat.kafka_python_suite HOST:PORT [EXPRESSION]     print each test's outcome against a running broker
"""

from __future__ import annotations

import sys
import tempfile

from tests.compat import pytest_suite
from tests.peers import kafka_python_suite

_FILES = ("test_admin_integration.py", "test_consumer_integration.py", "test_producer_integration.py")

BROKER_SETTINGS = {"node.id": "0", "num.partitions": "4"}
"""What kafka-python's own fixtures set. Its tests assign a partition to broker 0, and commit for a second partition of a topic
that is created by itself: without that one, the client asks again for ever."""

FAIL_ON_KAFKA: dict[str, str] = {
    "test_admin_integration.py::test_create_describe_delete_acls": "the broker runs without an authorizer",
}
"""Tests that fail against Apache Kafka 4.1.1 too, with what is wrong with them."""


def outcomes(bootstrap: str, only: str = "") -> dict[str, str]:
    """The outcome ("PASSED", ...) of each test, by file and name; `only` is a pytest expression over names."""
    with tempfile.TemporaryDirectory() as directory:
        environment = {
            "KAFKA_URI": f"kafka://{bootstrap}",
            "KAFKA_VERSION": "4.1.0",
            "KAFKA_ROOT": directory,  # must be a directory; nothing is read from it
            "PROJECT_ROOT": directory,
        }
        files = [f"test/integration/{name}" for name in _FILES]
        return pytest_suite.outcomes(kafka_python_suite.source(), files, environment, ["-k", only] if only else [])


if __name__ == "__main__":
    for _name, _outcome in sorted(outcomes(sys.argv[1], *sys.argv[2:3]).items()):
        print(_outcome, _name)
