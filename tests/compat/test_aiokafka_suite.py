"""aiokafka's own integration tests: what passes on Apache Kafka passes here."""

from __future__ import annotations

import unittest

from tests.compat.aiokafka_suite import BROKER_SETTINGS, FAIL_ON_KAFKA, outcomes
from tests.compat.node import WHOLE, BrokerTestCase


class AiokafkaSuite(BrokerTestCase):
    """The whole suite in one test: it is one pytest run. Minutes."""

    @unittest.skipUnless(WHOLE, "runs with CHRONIK_COMPAT=1")
    def test_suite(self) -> None:
        """No test fails but those of the list, and enough of them ran."""
        found = outcomes(self.own_broker(BROKER_SETTINGS))
        failed = {name for name, outcome in found.items() if outcome in ("FAILED", "ERROR")}
        self.assertEqual(failed - set(FAIL_ON_KAFKA), set())
        self.assertGreaterEqual(sum(outcome == "PASSED" for outcome in found.values()), 200)


if __name__ == "__main__":
    unittest.main()
