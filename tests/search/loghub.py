"""Real log lines: the loghub sample, where it is at hand (`CHRONIK_LOGHUB` names its directory)."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import SkipTest

from chronik.search.document import Document

DIRECTORY = Path(os.environ.get("CHRONIK_LOGHUB", Path(__file__).parents[3] / "shared" / "data" / "loghub"))


def loghub() -> list[Document]:
    """All lines, as records."""
    if not DIRECTORY.is_dir():
        raise SkipTest(f"no log lines in {DIRECTORY}")
    lines = [line for path in sorted(DIRECTORY.glob("*.log")) for line in path.read_bytes().splitlines()]
    return [Document(offset, offset * 1000, None, line) for offset, line in enumerate(lines)]
