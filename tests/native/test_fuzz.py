"""A slice of the fuzzer in C, built with the sanitizers for addresses and undefined behaviour.

`python -m tests.native.test_fuzz SEED ROUNDS` runs as much as one likes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from chronik.native import sources
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
        files = [str(HERE / name) for name in SOURCES]
        subprocess.run([*made, "-I", str(HERE), *files, str(_FUZZER)], check=True)
        table.write_bytes(flat().blocks.tobytes() + flat().entries.tobytes())
        return subprocess.run([str(program), str(table), str(seed), str(rounds)], capture_output=True, text=True)


class FuzzTests(SynchronousTestCase):
    def test_hostile_bytes_stay_within_bounds(self):
        done = fuzz(2026, 30_000)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        rounds, whole, markers, signed = (int(number) for number in re.findall(r"\d+", done.stdout))
        self.assertEqual(rounds, 30_000)
        self.assertTrue(rounds * 0.2 < whole < rounds * 0.8, done.stdout)
        self.assertGreater(markers, 100)
        self.assertTrue(rounds * 0.2 < signed < rounds, done.stdout)

    def test_a_read_out_of_bounds_is_found(self):
        """The sanitizers see what they are there for: with a planted fault, a check that is left out."""
        self.find("records.c", "if (length < -1 || length > stop - here.at) return LENGTH;", "")
        self.find("batches.c", " || size > length - position) break;", ") break;")
        self.find("sign.c", " || records > piece->length - size) return 0;", ") return 0;")

    def find(self, name, check, instead):
        """The fuzzer finds that a source lacks a check."""
        with tempfile.TemporaryDirectory() as directory:
            for path in HERE.glob("*.[ch]"):
                shutil.copy(path, directory)
            source = (HERE / name).read_text()
            self.assertEqual(source.count(check), 1)
            (Path(directory) / name).write_text(source.replace(check, instead))
            self.patch(sys.modules[__name__], "HERE", Path(directory))
            done = fuzz(2026, 30_000)
        self.patch(sys.modules[__name__], "HERE", sources.HERE)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, "AddressSanitizer|a row is out of bounds")


if __name__ == "__main__":
    result = fuzz(int(sys.argv[1]), int(sys.argv[2]))
    print(result.stdout, result.stderr)
    sys.exit(result.returncode)
