"""The node's budget for answers that are made but not taken by their clients yet.

Connections report every change of what they hold back; above the budget `full` is set and no connection takes further
requests, until half of it has drained.
"""

from __future__ import annotations

from collections.abc import Callable


class AnswerBacklog:
    """Bytes of finished answers in this process's memory, over all connections of a node; at most about `budget`.

    Each connection may be over it by the answer that it was making, so this bounds how long memory grows, not to the byte.
    """

    __slots__ = ("_budget", "_waiting", "full", "size")

    def __init__(self, budget: int) -> None:
        self.size = 0
        self.full = False
        self._budget = budget
        self._waiting: dict[Callable[[], None], None] = {}

    def change(self, count: int) -> None:
        """`count` more bytes wait, or fewer if it is negative."""
        self.size += count
        if self.size > self._budget:
            self.full = True
        elif self.full and self.size <= self._budget // 2:
            self.full = False
            waiting, self._waiting = self._waiting, {}
            for go_on in waiting:
                go_on()

    def when_drained(self, go_on: Callable[[], None]) -> None:
        """Call `go_on` once when the backlog is no longer full; registered twice, it is called once."""
        self._waiting[go_on] = None
