"""Raw results on disk: one JSON file a cell in results/, written when the cell is complete: a run can be taken up again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "results"


class Results:
    """The cells of one directory, by part ("throughput") and name. A `quick` run keeps its cells in memory only."""

    def __init__(self, directory: Path | None = DIRECTORY) -> None:
        self._directory = directory
        self._cells: dict[tuple[str, str], dict[str, Any]] = {}
        if directory is not None:
            for path in sorted(directory.glob("*.json")):
                cell = json.loads(path.read_text())
                self._cells[cell["part"], cell["name"]] = cell

    def has(self, part: str, name: str) -> bool:
        """Whether the cell is complete."""
        return (part, name) in self._cells

    def put(self, part: str, name: str, content: dict[str, Any]) -> None:
        """Keep a complete cell, replacing an older one."""
        cell = {"part": part, "name": name, "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), **content}
        self._cells[part, name] = cell
        if self._directory is not None:
            self._directory.mkdir(exist_ok=True)
            path = self._directory / f"{part}-{name}.json"
            path.write_text(json.dumps(cell, separators=(",", ":")) + "\n")

    def part(self, part: str) -> list[dict[str, Any]]:
        """All cells of a part, in the order in which they were put or are named."""
        return [cell for (of, _), cell in self._cells.items() if of == part]
