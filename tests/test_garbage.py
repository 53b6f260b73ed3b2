"""Many new objects at once don't have Python look through all of them again and again."""

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

SCRIPT = """
import gc, sys
from chronik.garbage import collect_seldom
if sys.argv[1] == "seldom":
    collect_seldom()
gc.collect()
full = []
gc.callbacks.append(lambda phase, info: full.append(phase) if phase == "start" and info["generation"] == 2 else None)
kept = [[] for _ in range(180_000)]  # about what 6,000 partitions are made of
print(len(full))
"""


class GarbageTests(SynchronousTestCase):
    def test_full_collections_are_rare(self) -> None:
        def collections(how: str) -> int:
            environment = {"PYTHONPATH": ":".join(filter(None, sys.path))}
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT, how], env=environment, capture_output=True, text=True, check=True
            )
            return int(done.stdout)

        self.assertGreater(collections("default"), 0)
        self.assertEqual(collections("seldom"), 0)
