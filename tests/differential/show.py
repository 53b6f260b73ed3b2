"""Transcripts for people: one step a paragraph, one short line an answer where it fits."""

from __future__ import annotations

from typing import Any

from chronik.errors import ErrorCode
from tests.differential.run import Transcripts

_NAMES = {int(code): code.name for code in ErrorCode}


def text(value: Any, name: str = "") -> str:
    """`value` in one line; error codes by name."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={text(item, key)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(text(item) for item in value) + "]"
    if name.endswith("error_code"):
        return f"{value}/{_NAMES.get(value, '?')}"
    return repr(value)


def report(transcripts: Transcripts) -> str:
    """All steps of all scenarios."""
    lines = []
    for name, steps in transcripts.items():
        lines.append(f"\n== {name}")
        for label, outcome in steps.items():
            answer = outcome.get("answer") if isinstance(outcome, dict) else None
            shown = text(answer if answer is not None and len(outcome) == 1 else outcome)
            lines.append(f"-- {label}\n   {shown}")
    return "\n".join(lines) + "\n"
