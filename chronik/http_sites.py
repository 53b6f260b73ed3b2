"""The HTTP listeners of a node, put together: which parts each of them asks.

Importing this module imports Klein, which takes a third of a second and installs the reactor: import it late.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.web.server import Site

from chronik.analytics.messages import Limits
from chronik.assembly import Parts, wall_clock_ms
from chronik.config import Config
from chronik.controller.image import MetadataImage
from chronik.controller.service import Controller
from chronik.listeners.admin import AdminServices, make_site
from chronik.listeners.search import SearchServices, make_search_site
from chronik.listeners.search_calls import SearchParts
from chronik.listeners.tail import TailServices, tail_resource
from chronik.search.service import SearchService
from chronik.search.tails import Tails
from chronik.telemetry.metrics import NodeMetrics


def admin_site(
    config: Config,
    reactor: Any,
    parts: Parts,
    metadata: MetadataImage,
    controller: Controller,
    metrics: NodeMetrics,
    *,
    listeners: Callable[[], Sequence[tuple[str, str, int]]],
    ready: Callable[[], bool],
) -> Site:
    """The admin listener's."""
    assert config.admin_listener is not None
    services = AdminServices(
        metadata=metadata,
        controller=controller,
        groups=parts.coordinator,
        bounds=parts.saved.bounds,
        sizes=parts.replicas.sizes_of,
        metrics=metrics,
        clock=reactor,
        node_id=config.node_id,
        role=config.role,
        listeners=listeners,
        ready=ready,
        loopback=config.admin_listener.loopback,
        alerting=parts.alerts,
        search=parts.search,
    )
    return make_site(services)


def search_site(
    config: Config,
    reactor: Any,
    parts: Parts,
    search: SearchService,
    tails: Tails,
    metadata: MetadataImage,
    controller: Controller,
) -> Site:
    """The search listener's."""
    assert config.search_listener is not None
    searching = SearchParts(
        search=search,
        metadata=metadata,
        clock=reactor,
        wall_clock_ms=wall_clock_ms,
        compacted=lambda topic: parts.settings_for(topic).compacted,
        longest_ms=config.search_timeout_ms,
    )
    services = SearchServices(
        parts=searching,
        metadata=metadata,
        controller=controller,
        reader=parts.replicas,
        sizes=parts.replicas.partition_sizes,
        clock=reactor,
        node_id=config.node_id,
        loopback=config.search_listener.loopback,
        tail=tail_resource(
            TailServices(
                tails=tails, clock=reactor, wall_clock_ms=wall_clock_ms, loopback=config.search_listener.loopback
            )
        ),
        sql=parts.sql,
        sql_limits=Limits(
            rows=config.sql_max_rows,
            seconds=config.sql_timeout_ms / 1000,
            memory_bytes=config.sql_memory_bytes,
            threads=config.sql_threads,
        ),
        queries=parts.queries,
    )
    return make_search_site(services)
