"""A slice of the fuzzer, small enough for every test run; `python -m tests.wire.fuzz` runs as much as one likes."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.wire import fuzz


class FuzzTests(SynchronousTestCase):
    def test_twenty_thousand_inputs(self) -> None:
        """Nothing but KafkaError comes out, and each target both accepts and refuses."""
        outcomes = fuzz.run(inputs=20_000, seed=2026)
        self.assertEqual(sum(outcomes.values()), 20_000)
        for target in {target.__name__ for target in fuzz.TARGETS}:
            self.assertGreater(outcomes[f"{target}: accepted"], 0, outcomes)
            refused = (
                sum(n for name, n in outcomes.items() if name.startswith(target)) - outcomes[f"{target}: accepted"]
            )
            self.assertGreater(refused, 0, outcomes)

    def test_inputs_repeat(self) -> None:
        """An input can be run again by its number alone."""
        whole = fuzz.run(inputs=60, seed=5)
        parts = fuzz.run(inputs=30, seed=5) + fuzz.run(inputs=30, seed=5, first=30)
        self.assertEqual(whole, parts)

    def test_a_fault_is_reported(self) -> None:
        """An exception of any other kind stops the run and names the input."""

        def faulty(corpus: fuzz.Corpus, rng: Random) -> int:
            raise IndexError("planted")

        self.patch(fuzz, "TARGETS", (faulty,))
        error = self.assertRaises(AssertionError, fuzz.run, 1, 7, 41)
        self.assertIn("input 41 of seed 7, faulty: IndexError('planted')", str(error))

    def test_hunger_is_reported(self) -> None:
        """So is memory out of proportion to the input."""

        def hungry(corpus: fuzz.Corpus, rng: Random) -> int:
            return len(bytearray(fuzz.FIXED_BYTES + 1_000_000)) * 0

        self.patch(fuzz, "TARGETS", (hungry,))
        error = self.assertRaises(AssertionError, fuzz.run, 1, 7)
        self.assertIn("bytes allocated", str(error))
