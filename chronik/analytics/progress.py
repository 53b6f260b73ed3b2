"""How far a continuous query has come: what it goes on from, beside its states. Pure."""

from __future__ import annotations

import msgspec

from chronik.analytics.window import NEVER


class Progress(msgspec.Struct):
    """How far a query has come. Offsets are those of the next record to read; counts are of all records since it began."""

    offsets: dict[int, int] = msgspec.field(default_factory=dict)
    reached: dict[int, int] = msgspec.field(default_factory=dict)
    watermark: int = NEVER
    closed_to: int = NEVER
    records: int = 0
    passed: int = 0
    late: int = 0
    not_json: int = 0
    untimed: int = 0
    outside: int = 0
    missed: int = 0

    def counts(self) -> dict[str, int]:
        """What it has counted, by name."""
        return {
            name: getattr(self, name)
            for name in ("records", "passed", "late", "not_json", "untimed", "outside", "missed")
        }
