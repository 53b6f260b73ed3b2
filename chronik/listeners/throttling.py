"""Quotas at the door: what requests are measured by, and how long their connections are left alone.

A client above its quota gets its answer at once, with the pause that it has to make in `throttle_time_ms`; whether it heeds
that or not, its connection takes no further request for so long (KIP-219). A fetch above its quota of bytes gets no records,
and asks again after the pause.

While no quota is set, nothing is measured: `active` is all that is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from chronik.broker.mutation_quota import MutationQuota, NoMutationQuota
from chronik.broker.quota import OF_REQUESTS, Quotas
from chronik.listeners.context import RequestContext
from chronik.model import (
    CONNECTION_CREATION_RATE,
    CONSUMER_BYTE_RATE,
    PRODUCER_BYTE_RATE,
    REQUEST_PERCENTAGE,
    QuotaEntity,
)

_LONGEST_MS = 2.0**31 - 1
_LONGEST_REFUSAL_MS = 10_000.0
_MEASURED_UP_TO = 2.0**31 - 1  # bytes


class RefusedLater(Protocol):
    """A connection beyond its address's rate: nothing is read from it, and it is cut after a pause, as in Kafka.

    To cut it at once would only have its client dial again. `counted(1)` and `counted(-1)` tell of its life.
    """

    transport: Any

    def __init__(self, reactor: Any, pause_ms: int, counted: Callable[[int], None]) -> None:
        self._reactor = reactor
        self._pause_ms = pause_ms
        self._counted = counted
        self._end: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Leave it alone, for a while."""
        self._counted(1)
        self.transport.pauseProducing()
        self._end = self._reactor.callLater(self._pause_ms / 1000, self.transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        self._counted(-1)
        if self._end is not None and self._end.active():
            self._end.cancel()


class Throttles:
    """Enforces the quotas that `source` returns. `clock` is monotonic, in seconds; the windows have `window_ms`.

    A quota of mutations saves up what it gives in `burst_seconds`.
    """

    def __init__(
        self,
        source: Callable[[], Mapping[QuotaEntity, Mapping[str, float]]],
        clock: Callable[[], float],
        samples: int = 11,
        window_ms: int = 1000,
        burst_seconds: float = 11,
    ) -> None:
        self.active = False
        self.limits_connections = False
        self.clock = clock
        self._source = source
        self._window_ms = window_ms
        self._burst_seconds = burst_seconds
        self._quotas = Quotas(samples, window_ms)

    def refresh(self) -> bool:
        """Read the quotas anew; whether there are any of requests."""
        kinds = self._quotas.configure(self._source())
        self.active = not kinds.isdisjoint(OF_REQUESTS)
        self.limits_connections = CONNECTION_CREATION_RATE in kinds
        return self.active

    def connected(self, address: str) -> int:
        """An address opened a connection; returns in how many ms it is to be closed, 0 to keep it."""
        return self._quotas.connect(address, self.clock() * 1000, _LONGEST_REFUSAL_MS)

    def produced(self, context: RequestContext, size: int) -> int:
        """A client sent a Produce request of `size` bytes; returns the pause in ms."""
        return self._record(PRODUCER_BYTE_RATE, context, size, _LONGEST_MS)

    def worked(self, context: RequestContext, seconds: float) -> int:
        """The reactor worked so long for a request; returns the pause in ms, at most a window."""
        return self._record(REQUEST_PERCENTAGE, context, 100 * seconds, self._window_ms)

    def fetched(self, context: RequestContext, size: int) -> tuple[bool, int]:
        """Whether a client may have `size` bytes of records, and its pause in ms.

        What it may not have isn't counted. One batch that is more than its quota ever allows it may have, and pays for it.
        """
        user, client = _who(context)
        now_ms = self.clock() * 1000
        pause = self._quotas.record(CONSUMER_BYTE_RATE, user, client, size, now_ms, _LONGEST_MS)
        if pause and size <= self._quotas.most(CONSUMER_BYTE_RATE, user, client):
            self._quotas.take_back(CONSUMER_BYTE_RATE, user, client, size, now_ms)
            return False, pause
        return True, pause

    def gave(self, context: RequestContext, size: int) -> int:
        """A client was given `size` bytes of records that it cannot be asked to fetch again; returns the pause in ms."""
        return self._record(CONSUMER_BYTE_RATE, context, size, _LONGEST_MS)

    def most_to_fetch(self, context: RequestContext) -> int:
        """The most bytes of records that a client can have at once."""
        return int(min(self._quotas.most(CONSUMER_BYTE_RATE, *_who(context)), _MEASURED_UP_TO))

    def mutations(self, context: RequestContext, strict: bool) -> MutationQuota | NoMutationQuota:
        """What a request may have created and deleted. `strict`: its client is refused what is too much (KIP-599)."""
        return self._quotas.mutations(*_who(context), strict, self._burst_seconds, self._now_ms)

    def _now_ms(self) -> float:
        return self.clock() * 1000

    def _record(self, kind: str, context: RequestContext, value: float, longest_ms: float) -> int:
        return self._quotas.record(kind, *_who(context), value, self.clock() * 1000, longest_ms)


def _who(context: RequestContext) -> tuple[str, str]:
    """User and client id."""
    return context.principal.partition(":")[2], context.client_id or ""
