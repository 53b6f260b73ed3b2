"""Kafka Streams with exactly_once_v2, its instances killed and replaced: the output is what one pass over the input gives."""

from __future__ import annotations

import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.compat.node import WHOLE, BrokerTestCase
from tests.compat.streams_application import Application, differences

SECONDS, SECONDS_BETWEEN_KILLS = (300.0, 10.0) if WHOLE else (30.0, 15.0)


class ExactlyOnce(BrokerTestCase):
    """Word count and windowed join in one application of three instances."""

    def test_word_count_and_join(self) -> None:
        """No count and no pair is missing, doubled or torn, however the instances died."""
        with TemporaryDirectory() as directory:
            application = Application(self.bootstrap, Path(directory))
            try:
                application.start()
                application.feed(SECONDS, SECONDS_BETWEEN_KILLS)
                wrong = differences(application)
            finally:
                application.stop()
            self.assertEqual(
                wrong[:20], [], f"{len(wrong)} differences, {application.kills} kills\n{application.log_end()}"
            )
            self.assertGreaterEqual(application.kills, 29 if WHOLE else 1)


if __name__ == "__main__":
    unittest.main()
