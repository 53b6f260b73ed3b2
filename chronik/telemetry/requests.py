"""Counters of the Kafka listener: connections, requests and time by API, refusals by API and error code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from chronik.errors import ErrorCode
from chronik.wire.apis import ApiKey

_APIS = max(ApiKey) + 1


class RequestMetrics:
    """What the connections of all Kafka listeners count. Only the reactor thread writes."""

    __slots__ = (
        "_clock",
        "answers",
        "connections",
        "connections_refused",
        "defects",
        "malformed",
        "refusals",
        "seconds",
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.connections = 0
        """Connections open now."""
        self.connections_refused = 0
        """Connections closed at once, above a limit."""
        self.malformed = 0
        """Connections closed because their bytes did not parse."""
        self.defects = 0
        """Requests answered with UNKNOWN_SERVER_ERROR: a defect of the node, see its log."""
        self.answers = [0] * _APIS
        self.seconds = [0.0] * _APIS
        self.refusals: Counter[tuple[ApiKey, ErrorCode]] = Counter()

    def answered(self, api_key: ApiKey, received: float) -> None:
        """Count a request that was received at `received` (the clock's seconds) and is answered now."""
        self.answers[api_key] += 1
        self.seconds[api_key] += self._clock() - received

    def refused(self, api_key: ApiKey, code: ErrorCode) -> None:
        """Count a request that was refused as a whole."""
        self.refusals[api_key, code] += 1
