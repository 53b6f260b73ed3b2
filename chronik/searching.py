"""What makes a node's messages searchable: the processes that index and search, and what they are told and asked.

A process of its own needs files to read. A node whose data is in memory has none: there the same engine runs in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import msgspec
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chronik.broker.followed import FollowedLogs
from chronik.broker.replicas import Replicas
from chronik.config import Config
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata, IDisk
from chronik.log.disk import RealDisk
from chronik.model import PartitionId, Topic, uuid_to_text
from chronik.search.aggregations.base import TooManyBuckets
from chronik.search.following import Following
from chronik.search.mapping import NO_MAPPING, parse_mapping
from chronik.search.mapping import Mapping as FieldMapping
from chronik.search.messages import AskState, AskStatistics, Finish, Follow, Forget, Read, Rebuild, Save, Search
from chronik.search.query import QueryError
from chronik.search.saved_messages import CountMatches, Select
from chronik.search.saved_service import Selecting
from chronik.search.service import SearchService
from chronik.search.splits.messages import AskDue, BuildSplit, Built, SplitBuilt
from chronik.search.splitting import Splitting
from chronik.search.tail_messages import Choke, Replay, Tail, Taken, Unwatch, Watch
from chronik.search.tail_processes import News
from chronik.search.tails import Limits, Tails
from chronik.search_jobs import (
    BUILD_SPLIT,
    CHOKE,
    COUNT,
    DUE,
    FINISH,
    FOLLOW,
    FORGET,
    READ,
    REBUILD,
    REPLAY,
    SAVE,
    SEARCH,
    SELECT,
    SPLIT_BUILT,
    STATE,
    STATISTICS,
    TAIL,
    TAKEN,
    UNWATCH,
    WATCH,
    furnish,
)
from chronik.telemetry.metrics import NodeMetrics
from chronik.topic_config import SEARCH_MAPPING, check_topic_configs
from chronik.workers.failures import JobFailedError
from chronik.workers.messages import FromWorker
from chronik.workers.pool import WorkerPool
from chronik.workers.process import main_of
from chronik.workers.resident_thread import ResidentThread
from chronik.workers.residents import ResidentWorkers
from chronik.workers.residing import Residence

_NEWS = {
    Follow: FOLLOW,
    Forget: FORGET,
    SplitBuilt: SPLIT_BUILT,
    Watch: WATCH,
    Unwatch: UNWATCH,
    Choke: CHOKE,
    Taken: TAKEN,
}
_JOBS = {
    Search: SEARCH,
    Read: READ,
    Finish: FINISH,
    Save: SAVE,
    AskState: STATE,
    AskDue: DUE,
    AskStatistics: STATISTICS,
    Rebuild: REBUILD,
    Select: SELECT,
    CountMatches: COUNT,
    Tail: TAIL,
    Replay: REPLAY,
}
MAX_MAPPING_BYTES = 32_000
"""Of a topic's config: a text of Kafka's protocol has at most 32,767."""
_CLIENT_S_FAULTS = (QueryError.__name__, TooManyBuckets.__name__)
_BUILD_SILENCE_SECONDS = 300.0
"""tantivy may write for some seconds between two signs of life, and a busy machine makes minutes of it."""
_log = Logger(namespace="chronik.search")


class Searching(NamedTuple):
    """The two services, to be started in this order."""

    search: SearchService
    tails: Tails


def searching(
    config: Config,
    reactor: Any,
    metrics: NodeMetrics,
    *,
    disk: IDisk,
    replicas: Replicas,
    metadata: IClusterMetadata,
    path: str,
    clean: bool,
) -> Searching | None:
    """The services, not started, with indexes under `path`. None with search_workers=0.

    `clean`: the node went down in order.
    """
    if not config.search_workers:
        return None

    def began_anew(place: int) -> tuple[()]:
        following.began_anew(place)
        tails.began_anew(place)
        return ()

    def tell(place: int, news: Follow | Forget | SplitBuilt | News) -> None:
        processes.tell(place, _NEWS[type(news)], news)

    def ask(
        place: int, request: msgspec.Struct, silence_seconds: float, progress: Callable[[Any], object] = lambda _: None
    ) -> Deferred[Any]:
        asked = processes.ask(place, _JOBS[type(request)], request, silence_seconds=silence_seconds, progress=progress)
        return asked.addErrback(_query_error)

    def offset_at(partition: PartitionId, timestamp_ms: int) -> int | None:
        found = replicas.partition_by_id(*partition).offset_for_timestamp(timestamp_ms)
        return None if found is None else found[1]

    def source_of(name: str) -> str | None:
        topic = metadata.topic(name)
        source = None if topic is None or topic.search is None else metadata.topic_by_id(topic.search.source_id)
        return None if source is None else source.name

    def index_of(partition: PartitionId) -> str:
        return f"{path}/{uuid_to_text(partition.topic_id)}-{partition.partition}"

    processes: ResidentWorkers | ResidentThread
    if isinstance(disk, RealDisk):
        processes = ResidentWorkers(reactor, config.search_workers, metrics.workers, main_of("search"), began_anew)
    else:
        processes = ResidentThread(reactor, partial(_furnish_here, disk), began_anew)
    split_messages = config.search_split_messages if isinstance(disk, RealDisk) else 0
    logs = FollowedLogs(replicas.partition_by_id)
    following = Following(logs, processes.size, tell, index_of, reactor, split_messages, clean)
    tails = Tails(
        following,
        ask,
        tell,
        reactor,
        Limits(config.tail_max_clients, config.tail_max_queries),
        mapping_of=lambda name: _mapping_of(metadata.topic(name)),
        offset_at=offset_at,
        source_of=source_of,
    )
    replicas.add_host(following)
    replicas.add_host(tails)
    metrics.tails = lambda: tails.counts
    companions: list[IService] = []
    if split_messages:
        pool = WorkerPool(reactor, 1, metrics.workers, main_of("jobs"))

        def build(request: BuildSplit) -> Deferred[Built]:
            return pool.submit(BUILD_SPLIT, request, silence_seconds=_BUILD_SILENCE_SECONDS)

        splitting = Splitting(following.splitting_places, ask, tell, build, metrics.splits, reactor)
        companions += pool, splitting
    selecting = Selecting(following, ask, reactor)
    return Searching(SearchService(processes, following, ask, selecting, reactor, companions), tails)


def _mapping_of(topic: Topic | None) -> FieldMapping:
    return NO_MAPPING if topic is None else _parsed(topic.configs.get(SEARCH_MAPPING, ""))


@lru_cache(256)
def _parsed(text: str) -> FieldMapping:
    return parse_mapping(msgspec.json.decode(text)) if text.strip() else NO_MAPPING


def _furnish_here(disk: IDisk, send: Callable[[FromWorker], object]) -> Residence:
    return furnish(disk, send, lambda line: _log.warn("{line}", line=line))


def _query_error(failure: Failure) -> Failure:
    """A query that the process refused is the client's fault, as one that is refused here."""
    error = failure.value
    if isinstance(error, JobFailedError) and error.error in _CLIENT_S_FAULTS:
        raise QueryError(str(error))
    return failure


def check_topic(configs: Mapping[str, str]) -> None:
    """Refuse with INVALID_CONFIG what a topic can't have: see `check_topic_configs`; and a mapping that isn't one."""
    check_topic_configs(configs)
    text = configs.get(SEARCH_MAPPING, "").strip()
    if not text:
        return
    if len(text.encode("utf-8", "replace")) > MAX_MAPPING_BYTES:
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"config {SEARCH_MAPPING} has at most {MAX_MAPPING_BYTES} bytes")
    try:
        parse_mapping(msgspec.json.decode(text))
    except (QueryError, msgspec.MsgspecError, ValueError, RecursionError) as fault:
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"config {SEARCH_MAPPING} is no mapping: {fault}") from None
