"""Runs the script against one broker and keeps what it answered."""

from __future__ import annotations

import fnmatch
import json
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.differential.scenarios import all_scenarios
from tests.differential.session import Session

RECORDED = Path(__file__).parent / "recorded" / "kafka-4.1.1.json"

Transcripts = dict[str, dict[str, Any]]


def run(
    address: tuple[str, int],
    only: Iterable[str] = ("*",),
    progress: Callable[[str], None] = lambda name: None,
    seconds: float = math.inf,
) -> Transcripts:
    """The transcript of each scenario whose name matches a pattern of `only`; none is begun after so many `seconds`.

    A scenario that breaks off says so in its last step. It may break
    off because the broker gave an answer that leaves no way on, which is a finding as any other.
    """
    found: Transcripts = {}
    patterns = list(only)
    end = time.monotonic() + seconds
    for name, function in all_scenarios().items():
        if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            continue
        progress(name)
        if time.monotonic() > end:
            found[name] = {"(not begun)": {"reason": f"the {seconds:.0f} s for all scenarios are over"}}
            continue
        session = Session(address)
        try:
            function(session)
        except (AssertionError, AttributeError, IndexError, OSError, ValueError) as problem:
            session.note("(broken off)", {"reason": f"{type(problem).__name__}: {problem}"[:500]})
        finally:
            session.close()
        found[name] = session.transcript
    return found


def save(transcripts: Transcripts) -> None:
    """Write Kafka's answers, one step a line so that changes read well in a review."""
    lines = []
    for name, steps in transcripts.items():
        body = ",\n".join(
            f"  {json.dumps(label)}: {json.dumps(outcome, sort_keys=True)}" for label, outcome in steps.items()
        )
        lines.append(f" {json.dumps(name)}: {{\n{body}\n }}")
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def load() -> Transcripts:
    """Kafka's recorded answers."""
    loaded: Transcripts = json.loads(RECORDED.read_text())
    return loaded


def normal(transcripts: Transcripts) -> Transcripts:
    """As it would be after saving and loading: tuples are lists, keys are strings."""
    copied: Transcripts = json.loads(json.dumps(transcripts))
    return copied
