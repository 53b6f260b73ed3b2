"""How handlers ask the controller: with a deadline, as each admin request carries one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IController


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
