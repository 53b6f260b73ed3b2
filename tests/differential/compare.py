"""Finds where two sets of transcripts differ, and looks each finding up in the table of intended differences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.differential.differences import DIFFERENCES, Difference
from tests.differential.run import Transcripts
from tests.differential.show import text

_ABSENT = "(absent)"
_IDENTITY = (
    "api_key",
    "name",
    "topic",
    "resource_name",
    "group_id",
    "transactional_id",
    "partition_index",
    "partition",
    "index",
)


@dataclass(frozen=True)
class Finding:
    """One place where the answers differ. `path` leads to it inside the outcome: "answer.topics[a].error_code"."""

    scenario: str
    step: str
    path: str
    kafka: Any
    chronik: Any
    intended: Difference | None


def compare(kafka: Transcripts, chronik: Transcripts, table: Iterable[Difference] = DIFFERENCES) -> list[Finding]:
    """Every difference of the scenarios in `chronik` from those of the same name in `kafka`; `table` has the intended."""
    found = []
    for scenario, ours in chronik.items():
        theirs = kafka.get(scenario, {})
        for step in [*theirs, *(step for step in ours if step not in theirs)]:
            for path, left, right in _differences("", theirs.get(step, _ABSENT), ours.get(step, _ABSENT)):
                intended = next((d for d in table if d.covers(scenario, step, path, left, right)), None)
                found.append(Finding(scenario, step, path, left, right, intended))
    return found


def unused(findings: list[Finding], ran: Transcripts) -> list[Difference]:
    """Entries of the table that could have applied to what `ran` and did not: what they excuse no longer happens."""
    used = {id(finding.intended) for finding in findings}
    return [d for d in DIFFERENCES if id(d) not in used and any(d.concerns(scenario) for scenario in ran)]


def report(findings: list[Finding]) -> str:
    """The findings for people: unintended ones in full, intended ones counted by reason."""
    lines = []
    previous = ("", "")
    for finding in findings:
        if finding.intended is None:
            if (finding.scenario, finding.step) != previous:
                previous = (finding.scenario, finding.step)
                lines.append(f"\n{finding.scenario} / {finding.step}")
            lines.append(f"  {finding.path or '(all)'}")
            lines.append(f"    Kafka   {text(finding.kafka, finding.path)[:600]}")
            lines.append(f"    Chronik {text(finding.chronik, finding.path)[:600]}")
    reasons: dict[str, int] = {}
    for finding in findings:
        if finding.intended is not None:
            reasons[finding.intended.reason] = reasons.get(finding.intended.reason, 0) + 1
    lines.append(f"\n{sum(f.intended is None for f in findings)} unintended differences")
    lines.extend(f"{count} intended: {reason}" for reason, count in reasons.items())
    return "\n".join(lines) + "\n"


def _differences(path: str, left: Any, right: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(left, dict) and isinstance(right, dict):
        for name in [*left, *(name for name in right if name not in left)]:
            yield from _differences(
                f"{path}.{name}" if path else name, left.get(name, _ABSENT), right.get(name, _ABSENT)
            )
    elif isinstance(left, list) and isinstance(right, list):
        ours, theirs = _keyed(right), _keyed(left)
        for key in [*theirs, *(key for key in ours if key not in theirs)]:
            yield from _differences(f"{path}[{key}]", theirs.get(key, _ABSENT), ours.get(key, _ABSENT))
    elif left != right or type(left) is not type(right):
        yield path, left, right


def _keyed(items: list[Any]) -> dict[str, Any]:
    """A list's items by what identifies them, so that one that is missing does not shift all behind it."""
    keyed: dict[str, Any] = {}
    for position, item in enumerate(items):
        identity = str(position)
        if isinstance(item, dict):
            identity = "/".join(str(item[name]) for name in _IDENTITY if item.get(name) is not None) or identity
        while identity in keyed:
            identity += "'"
        keyed[identity] = item
    return keyed
