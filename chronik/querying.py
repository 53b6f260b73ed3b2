"""What runs SQL over a node's topics: the pool of processes, and the service that asks them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.application.service import IService
from twisted.internet.defer import Deferred

from chronik.analytics.messages import Told
from chronik.analytics.schema import SECONDS
from chronik.analytics.service import SqlService
from chronik.broker.followed import FollowedLogs
from chronik.broker.replicas import Replicas
from chronik.config import Config
from chronik.interfaces import IDisk
from chronik.log.disk import RealDisk
from chronik.model import Topic
from chronik.search.mapping import Mapping, Property, parse_mapping
from chronik.sql_jobs import KINDS
from chronik.telemetry.metrics import NodeMetrics
from chronik.topic_config import SEARCH_MAPPING
from chronik.workers.failures import WorkerLostError
from chronik.workers.pool import WorkerPool
from chronik.workers.process import main_of

_TYPES = {"long": "BIGINT", "integer": "BIGINT", "double": "DOUBLE", "float": "DOUBLE", "boolean": "BOOLEAN"}


def querying(
    config: Config, reactor: Any, metrics: NodeMetrics, *, disk: IDisk, replicas: Replicas
) -> tuple[SqlService | None, list[IService]]:
    """The service of SQL, and what is to be started for it.

    None with sql_workers=0, and where data is in memory: a process that can be killed needs files to read.
    """
    if not config.sql_workers or not isinstance(disk, RealDisk):
        return None, []
    pool = WorkerPool(reactor, config.sql_workers, metrics.workers, main_of("sql"))

    def ask(request: msgspec.Struct, silence_seconds: float, progress: Callable[[Told], object]) -> Deferred[Any]:
        return pool.submit(KINDS[type(request)], request, silence_seconds=silence_seconds, progress=progress)

    service = SqlService(ask, WorkerLostError, FollowedLogs(replicas.partition_by_id), declared_types, reactor)
    return service, [pool]


def declared_types(topic: Topic) -> dict[str, str]:
    """The types of a topic's fields that its mapping for searches declares, as DuckDB names them."""
    text = topic.configs.get(SEARCH_MAPPING, "").strip()
    mapping = parse_mapping(msgspec.json.decode(text)) if text else Mapping()
    return {
        name: _type(field)
        for name, field in mapping.fields.items()
        if name != "key" and not name.startswith("headers.")
    }


def _type(field: Property) -> str:
    if field.kind == "date":
        return SECONDS if field.seconds else "TIMESTAMP"
    return _TYPES.get(field.type, "VARCHAR")
