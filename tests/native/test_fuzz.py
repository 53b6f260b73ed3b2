"""A slice of the fuzzer in C, built with the sanitizers for addresses and undefined behaviour.

`python -m tests.native.test_fuzz SEED ROUNDS` runs as much as one likes.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from chronik.native.build import compilers
from chronik.native.sources import HERE, SOURCES
from chronik.native.unicode import flat

_FUZZER = Path(__file__).with_name("fuzz.c")
_OPTIONS = [
    "-std=c11",
    "-g",
    "-O1",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    '-DCHRONIK_SOURCES=""',
]


def fuzz(seed: int, rounds: int, options: list[str] = _OPTIONS) -> subprocess.CompletedProcess[str]:
    """Build the fuzzer and run it. Raises SkipTest where no compiler has the sanitizers."""
    with tempfile.TemporaryDirectory() as directory:
        program, table, probe = (Path(directory) / name for name in ("fuzz", "table", "probe.c"))
        probe.write_text("int main(void) { return 0; }\n")
        for compiler in compilers():
            made = [*compiler, *options, "-o", str(program)]
            if not subprocess.run([*made, str(probe)], capture_output=True).returncode:
                break
        else:
            raise SkipTest("there is no C compiler with sanitizers")
        sources = [str(HERE / name) for name in SOURCES]
        subprocess.run([*made, "-I", str(HERE), *sources, str(_FUZZER)], check=True)
        table.write_bytes(flat().blocks.tobytes() + flat().entries.tobytes())
        return subprocess.run([str(program), str(table), str(seed), str(rounds)], capture_output=True, text=True)


class FuzzTests(SynchronousTestCase):
    def test_hostile_bytes_stay_within_bounds(self):
        done = fuzz(2026, 30_000)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        rounds, whole, markers = (int(number) for number in re.findall(r"\d+", done.stdout))
        self.assertEqual(rounds, 30_000)
        self.assertTrue(rounds * 0.2 < whole < rounds * 0.8, done.stdout)
        self.assertGreater(markers, 100)

    def test_a_read_out_of_bounds_is_found(self):
        """The sanitizers see what they are there for: with a planted fault, the check of a length left out."""
        source = (HERE / "records.c").read_text()
        check = "if (length < -1 || length > stop - here.at) return LENGTH;"
        self.assertIn(check, source)
        with tempfile.TemporaryDirectory() as directory:
            for path in HERE.glob("*.[ch]"):
                (Path(directory) / path.name).write_text(path.read_text().replace(check, ""))
            self.patch(sys.modules[__name__], "HERE", Path(directory))
            done = fuzz(2026, 30_000)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("AddressSanitizer", done.stderr)


if __name__ == "__main__":
    result = fuzz(int(sys.argv[1]), int(sys.argv[2]))
    print(result.stdout, result.stderr)
    sys.exit(result.returncode)
