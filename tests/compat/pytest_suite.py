"""Runs pytest over tests that others wrote, as a process of its own, and reads each test's outcome."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_OUTCOME = re.compile(r"^(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) (\S+?)(?: - .*)?$", re.MULTILINE)


def outcomes(
    directory: Path,
    files: Sequence[str],
    environment: Mapping[str, str],
    options: Sequence[str] = (),
    timeout: float = 900,
) -> dict[str, str]:
    """The outcome ("PASSED", ...) of each test, by its file's name and its own: "test_x.py::test_y".

    `directory` is where pytest runs, `options` are more of its options, `timeout` is in seconds. Raises RuntimeError when no
    test ran. With CHRONIK_COMPAT_VERBOSE set, pytest's output goes to standard error.
    """
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-rA",
            "--tb=short",
            "-o",
            "addopts=",
            *options,
            *files,
        ],
        cwd=directory,
        env={**{name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if os.environ.get("CHRONIK_COMPAT_VERBOSE"):
        print(done.stdout, file=sys.stderr)
    found = {name.rsplit("/", 1)[-1]: outcome for outcome, name in _OUTCOME.findall(done.stdout)}
    if not found:
        raise RuntimeError(f"the suite did not run:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return found
