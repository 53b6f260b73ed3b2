"""Whose turn it is: a group's requests are decided one after the other, each on what the log has.

While records of one decision are on their way to the log, the group's next requests wait; the next is decided when the log has
them and they are replayed. So every decision stands on what is in the log, and one whose append fails has changed nothing.
Other groups don't wait.

Pure: what is to be done outside is returned as effects, and `written` tells the end of an `Append`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from chronik.coordinator.effects import Answer, Append, Effects, Refuse
from chronik.coordinator.records import Entry
from chronik.errors import KafkaError

Ended = Callable[[KafkaError | None, int], Effects]
"""Hears how the append of a decision ended, and when; what is to be done then."""


class _Step(NamedTuple):
    """A request whose turn has not come. `token` is who waits for its answer, None for a timer."""

    token: Any
    decide: Callable[[int], Effects]


class _Writing(NamedTuple):
    """What becomes of an `Append`: who is answered what; what is decided next; who else hears of it."""

    token: Any
    response: Any
    again: Callable[[int], Effects] | None
    ended: Ended | None


class Turns:
    """The turns of all groups of one partition, whatever their protocol."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[_Step]] = {}
        self._writing: dict[str, _Writing] = {}
        self._storing: dict[str, int] = {}

    def is_busy(self, group_id: str) -> bool:
        """Whether records of the group are on their way to the log."""
        return group_id in self._writing or group_id in self._storing

    def is_changing(self, group_id: str) -> bool:
        """Whether a decision of this kind is on its way: of a classic group it means that it is to become another one."""
        return group_id in self._writing

    def take(self, group_id: str, token: Any, decide: Callable[[int], Effects], now: int) -> Effects:
        """Decide now, or when what is on its way is in the log. A KafkaError that is raised then is the answer."""
        if self.is_busy(group_id):
            self._waiting.setdefault(group_id, deque()).append(_Step(token, decide))
            return []
        return _decide(token, decide, now)

    def finish(
        self,
        group_id: str,
        entries: Sequence[Entry],
        token: Any,
        response: Any,
        again: Callable[[int], Effects] | None = None,
        ended: Ended | None = None,
    ) -> Effects:
        """Write what was decided and answer then, or decide `again`; at once where nothing is to be written."""
        if not entries:
            return [] if token is None else [Answer(token, response)]
        self._writing[group_id] = _Writing(token, response, again, ended)
        return [Append(group_id, list(entries))]

    def hold(self, group_id: str) -> None:
        """Let the group's requests wait until `written`: records are appended without an `Append`. To be asked in its turn."""
        self._writing[group_id] = _Writing(None, None, None, None)

    def written(self, group_id: str, error: KafkaError | None, now: int) -> Effects:
        """The group's records are in the log, or failed: answer, and decide what waits."""
        writing = self._writing.pop(group_id, None)
        if writing is None:
            return []
        out: Effects = [] if writing.ended is None else writing.ended(error, now)
        if error is None and writing.again is not None:
            out += _decide(writing.token, writing.again, now)
        elif writing.token is not None:
            out.append(Answer(writing.token, writing.response) if error is None else Refuse(writing.token, error))
        return out + self._go_on(group_id, now)

    def storing(self, group_id: str) -> None:
        """A record of the group, as a classic one, is on its way to the log."""
        self._storing[group_id] = self._storing.get(group_id, 0) + 1

    def stored(self, group_id: str, now: int) -> Effects:
        """It came to its end."""
        left = self._storing.pop(group_id, 0) - 1
        if left > 0:
            self._storing[group_id] = left
            return []
        return self._go_on(group_id, now)

    def _go_on(self, group_id: str, now: int) -> Effects:
        out: Effects = []
        waiting = self._waiting.get(group_id)
        while waiting and not self.is_busy(group_id):
            step = waiting.popleft()
            out += _decide(step.token, step.decide, now)
        if not waiting:
            self._waiting.pop(group_id, None)
        return out

    def close(self, error: KafkaError) -> Effects:
        """The groups live elsewhere from now on: whoever waits gets `error`."""
        tokens = [writing.token for writing in self._writing.values()]
        tokens += [step.token for steps in self._waiting.values() for step in steps]
        self._writing, self._waiting, self._storing = {}, {}, {}
        return [Refuse(token, error) for token in tokens if token is not None]


def _decide(token: Any, decide: Callable[[int], Effects], now: int) -> Effects:
    try:
        return decide(now)
    except KafkaError as error:
        return [] if token is None else [Refuse(token, error)]
