"""librdkafka's own tests: what passes on Apache Kafka passes here."""

from __future__ import annotations

import unittest

from tests.compat.librdkafka_suite import FAIL_ON_KAFKA, SCENARIOS, SLICE, outcomes
from tests.compat.node import WHOLE, BrokerTestCase


class LibrdkafkaSuite(BrokerTestCase):
    """A few numbers in quick mode as a slice; the whole takes about half an hour."""

    def test_slice(self) -> None:
        """Producing, consuming, groups, offsets, compression, headers, idempotence."""
        if WHOLE:
            self.skipTest("the whole suite runs")
        self.check("default", SLICE, quick=True)

    @unittest.skipUnless(WHOLE, "runs with CHRONIK_COMPAT=1")
    def test_suite(self) -> None:
        """No test fails but those of the list, and enough of them ran."""
        self.assertGreaterEqual(self.check("default"), 95)

    @unittest.skipUnless(WHOLE, "runs with CHRONIK_COMPAT=1")
    def test_without_auto_create(self) -> None:
        """Those that need a broker which creates no topics by itself."""
        self.assertGreaterEqual(self.check("noautocreate"), 2)

    def check(self, scenario: str, numbers: tuple[str, ...] = (), quick: bool = False) -> int:
        """Run one scenario on a broker of its own; how many tests passed."""
        passed = 0
        failed: dict[str, str] = {}
        for name, outcome, output in outcomes(self.own_broker(SCENARIOS[scenario]), numbers, scenario, quick):
            passed += outcome == "PASSED"
            if outcome in ("FAILED", "TIMEOUT") and name not in FAIL_ON_KAFKA:
                failed[name] = output
        ends = "\n".join(f"--- {name}:\n{output[-3000:]}" for name, output in failed.items())
        self.assertEqual(sorted(failed), [], ends)
        return passed


if __name__ == "__main__":
    unittest.main()
