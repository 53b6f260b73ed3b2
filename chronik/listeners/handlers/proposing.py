"""How handlers ask the controller: with a deadline, as each admin request carries one, and for much in parts.

What is decided, logged and replayed is done in one piece, some 60 us a topic. So a request about many things becomes several
commands, each proposed when the one before it has its answer. Their answers are the same as those of one command would be: it
answers every thing by itself, and what bounds it as a whole is looked at before (`check_size`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IController
from chronik.listeners.slices import Slices

PART = 32
"""Topics or other things of one command, or so many times ten partitions: about two milliseconds."""

_Item = TypeVar("_Item")


async def propose(
    controller: IController,
    command: object,
    timeout_ms: int,
    clock: IReactorTime,
    use_quota: Callable[[int], None] | None = None,
) -> Any:
    """The result of `command`. Raises KafkaError: the controller's refusal, or REQUEST_TIMED_OUT after `timeout_ms`.

    What timed out may still be carried out, as in Kafka.
    """
    answer: Deferred[Any] = controller.propose(command, use_quota)
    if not answer.called:
        answer.addTimeout(max(timeout_ms, 0) / 1000, clock)
    try:
        return await answer
    except TimeoutError:
        raise KafkaError(
            ErrorCode.REQUEST_TIMED_OUT, f"not decided within {timeout_ms} ms; it may still be done"
        ) from None


class Proposing:
    """Proposes commands to `controller`, large ones in parts. `clock` is the reactor."""

    def __init__(self, controller: IController, clock: IReactorTime, slices: Slices) -> None:
        self.slices = slices
        self._controller = controller
        self._clock = clock

    async def each(
        self,
        commands: Iterable[object],
        timeout_ms: int,
        results: list[Any],
        use_quota: Callable[[int], None] | None = None,
    ) -> list[Any]:
        """`results`, with those of all commands behind each other. Raises KafkaError as `propose` does."""
        until = self._clock.seconds() + timeout_ms / 1000
        left_ms = timeout_ms
        pace = self.slices.pace()
        for command in commands:
            results += await propose(self._controller, command, left_ms, self._clock, use_quota)
            left_ms = int((until - self._clock.seconds()) * 1000)
            await pace.turn()
        return results


def in_parts(items: Iterable[_Item], weight: Callable[[_Item], int] = lambda _: 1) -> Iterator[tuple[_Item, ...]]:
    """`items` in order, so many together that they weigh `PART` or a little more; one part of none where there are none."""
    some: list[_Item] = []
    total = 0
    parts = 0
    for item in items:
        some.append(item)
        total += weight(item)
        if total >= PART:
            yield tuple(some)
            some, total, parts = [], 0, parts + 1
    if some or not parts:
        yield tuple(some)
