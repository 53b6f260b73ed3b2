"""Freed buffers stay with the process: allocating one again costs no page faults."""

import subprocess
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

SCRIPT = """
import resource, sys
from chronik.malloc import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def work():
    kept = []
    for _ in range(200):
        kept.append(b"x" * 1_000_000)
        if len(kept) > 8:
            del kept[0]
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


class MallocTests(SynchronousTestCase):
    def test_buffers_are_reused(self) -> None:
        def faults(how: str) -> int:
            environment = {"PYTHONPATH": ":".join(filter(None, sys.path))}
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT, how], env=environment, capture_output=True, text=True, check=True
            )
            return int(done.stdout)

        if subprocess.run([sys.executable, "-c", "import ctypes; ctypes.CDLL(None).mallopt"], check=False).returncode:
            raise SkipTest("the C library is not glibc")
        self.assertLess(faults("kept"), faults("plain") / 4)
