"""The reactor's lag: how late a timer fires is how long something else held the reactor."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chronik.telemetry.metrics import Histogram

INTERVAL = 0.1
"""Seconds between two probes; ten a second cost nothing and see any pause that a client would notice."""


class ReactorLagProbe(Service):
    """Observes in `histogram`, every `INTERVAL` seconds of `clock`, how many seconds late it was called."""

    def __init__(self, clock: IReactorTime, histogram: Histogram) -> None:
        self._clock = clock
        self._histogram = histogram
        self._call: IDelayedCall | None = None
        self._due = 0.0

    def startService(self) -> None:
        """Begin probing."""
        super().startService()  # type: ignore[no-untyped-call]
        self._schedule()

    def stopService(self) -> None:
        """Stop probing."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        super().stopService()  # type: ignore[no-untyped-call]

    def _schedule(self) -> None:
        self._due = self._clock.seconds() + INTERVAL
        self._call = self._clock.callLater(INTERVAL, self._probe)

    def _probe(self) -> None:
        self._histogram.observe(max(0.0, self._clock.seconds() - self._due))
        self._schedule()
