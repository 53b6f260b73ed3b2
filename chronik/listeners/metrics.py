"""The page `/metrics`: Prometheus' text of the node's counters, made in slices between which the reactor serves others."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from chronik.telemetry.exposition import CONTENT_TYPE, render
from chronik.telemetry.metrics import NodeMetrics

__all__ = ["CONTENT_TYPE", "metrics_page"]


async def metrics_page(metrics: NodeMetrics, clock: IReactorTime) -> bytes:
    """The whole text."""
    pieces = []
    for piece in render(metrics):
        pieces.append(piece)
        await deferLater(clock, 0)
    return b"".join(pieces)
