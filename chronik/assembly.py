"""The parts of a node, and whom each of them asks: the half of the wiring in which nothing starts.

What is configured reaches most parts as settings of their own. `chronik.services` starts and stops them in their order.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.task import Cooperator
from twisted.python.failure import Failure

from chronik.alerting import alerting
from chronik.analytics.runner import QueryRunner
from chronik.analytics.service import SqlService
from chronik.broker.compression_threads import CompressionThreads
from chronik.broker.replicas import Replicas
from chronik.broker.saved_topics import SavedTopics
from chronik.broker.share_partitions import ShareLimits, SharePartitions
from chronik.compacting import compacting
from chronik.config import Config
from chronik.continuous import continuous
from chronik.controller.commands import CreateTopics
from chronik.controller.image import MetadataImage
from chronik.controller.producer_ids import ProducerIds
from chronik.controller.service import Controller
from chronik.coordinator.runtime import Coordinator
from chronik.coordinator.settings import GroupSettings, ShareSettings, TransactionSettings
from chronik.coordinator.share_coordinator import ShareCoordinator
from chronik.coordinator.transactions import TransactionCoordinator
from chronik.data_directory import DataDirectory
from chronik.group_config import Bounded, GroupTimes
from chronik.interfaces import IDisk
from chronik.janitor.retention import Retention
from chronik.janitor.trash import Trash
from chronik.listeners.dispatch import ApiTable
from chronik.listeners.handlers.internal_topics import new_topic
from chronik.listeners.many import ManyElementRequests
from chronik.listeners.receiver import BufferPool
from chronik.listeners.served import served_apis
from chronik.listeners.served_shares import SHARE_APIS, share_gate
from chronik.listeners.slices import Slices
from chronik.listeners.throttling import Throttles
from chronik.log.flusher import Flusher
from chronik.model import OFFSETS_TOPIC, SHARE_STATE_TOPIC, TRANSACTIONS_TOPIC, Topic
from chronik.node_config import NodeConfig
from chronik.querying import declared_types, querying
from chronik.search.alerting import Alerting
from chronik.search.service import SearchService
from chronik.search.tails import Tails
from chronik.searching import searching
from chronik.telemetry.lag import ReactorLagProbe
from chronik.telemetry.metrics import NodeMetrics
from chronik.topic_config import TopicSettings


@dataclass(frozen=True, slots=True)
class Parts:
    """What is started, stopped and listened with; all else is known to these."""

    flusher: Flusher
    pool: BufferPool
    threads: CompressionThreads
    replicas: Replicas
    saved: SavedTopics
    coordinator: Coordinator
    transactions: TransactionCoordinator
    shares: ShareCoordinator
    shared: SharePartitions
    throttles: Throttles
    many_elements: ManyElementRequests
    table: ApiTable
    search: SearchService | None
    tails: Tails | None
    sql: SqlService | None
    queries: QueryRunner | None
    settings_for: Callable[[Topic], TopicSettings]
    alerts: Alerting | None
    background: tuple[IService, ...]


def assemble(
    config: Config,
    reactor: Any,
    metrics: NodeMetrics,
    *,
    disk: IDisk,
    directory: DataDirectory,
    metadata: MetadataImage,
    controller: Controller,
    on_fatal: Callable[[Failure], None],
) -> Parts:
    """Make the parts of a node whose metadata is replayed, and hand them to each other."""
    configs = NodeConfig(_static_configs(config, directory), metadata, config.node_id)
    # One step of one task a turn of the reactor: the tasks bound their steps, and requests come in between.
    cooperator = Cooperator(lambda: lambda: True, scheduler=lambda turn: reactor.callLater(0, turn))
    flusher = Flusher(reactor, on_fatal, config.flush_interval_ms)
    trash = Trash(disk, reactor)
    pool = BufferPool(config.queued_max_request_bytes)
    threads = CompressionThreads(reactor, _compression_threads(), pool.answers.change)
    replicas = Replicas(
        metadata=metadata,
        node_id=config.node_id,
        path=directory.topics,
        disk=disk,
        flusher=flusher,
        settings_for=configs.topic_settings,
        metrics_for=metrics.topic,
        discard=trash.discard,
        producer_expiration_ms=config.producer_id_expiration_ms,
        flush_bytes=config.flush_interval_bytes,
        wall_clock_ms=wall_clock_ms,
        cooperator=cooperator,
        on_fatal=on_fatal,
        clock=reactor,
        random=random.random,
        threads=threads,
    )

    def create_topic(name: str) -> Deferred[Any]:
        """Create one of the node's own topics."""
        return controller.propose(CreateTopics((new_topic(name, configs),)))

    producer_ids = ProducerIds(controller, metadata, config.node_id, reactor)
    transactions = TransactionCoordinator(
        _transaction_settings(config),
        metadata,
        replicas,
        replicas,
        replicas,
        reactor,
        wall_clock_ms=wall_clock_ms,
        fresh_producer_id=producer_ids.take,
        ensure_topic=partial(create_topic, TRANSACTIONS_TOPIC),
    )
    shares = ShareCoordinator(
        _share_settings(config),
        metadata,
        replicas,
        replicas,
        replicas,
        reactor,
        wall_clock_ms=wall_clock_ms,
        ensure_topic=partial(create_topic, SHARE_STATE_TOPIC),
    )
    coordinator = Coordinator(
        _group_settings(config),
        metadata,
        replicas,
        replicas,
        reactor,
        wall_clock_ms=wall_clock_ms,
        fresh_id=lambda: str(uuid.uuid4()),
        ensure_offsets_topic=partial(create_topic, OFFSETS_TOPIC),
        transactions=transactions,
        share_states=shares,
    )
    searches = searching(
        config,
        reactor,
        metrics,
        disk=disk,
        replicas=replicas,
        metadata=metadata,
        path=directory.search,
        clean=directory.was_clean,
    )
    search, tails = (None, None) if searches is None else searches
    saved = SavedTopics(replicas, metadata, None if search is None else search.selecting, metrics.topic, reactor)
    shared = SharePartitions(saved, shares, metadata, _share_limits(config), reactor, wall_clock_ms)
    replicas.add_host(shares)
    replicas.add_host(shared)
    replicas.add_host(coordinator)
    replicas.add_host(transactions)
    replicas.add_marker_listener(coordinator)
    throttles = Throttles(
        metadata.quotas,
        time.monotonic,
        config.quota_window_num,
        config.quota_window_size_seconds * 1000,
        config.controller_quota_window_num * config.controller_quota_window_size_seconds,
    )
    throttles.refresh()
    slices = Slices(time.monotonic, cooperator)
    sql, sql_services = querying(config, reactor, metrics, disk=disk, replicas=replicas)
    alerts = None
    if search is not None:
        alerts = alerting(search, metadata, replicas, coordinator, wall_clock_ms, reactor)
    table: ApiTable = ApiTable(
        served_apis(
            config,
            reactor,
            metrics,
            slices,
            table=lambda: table,
            replicas=replicas,
            readable=saved,
            controller=controller,
            metadata=metadata,
            configs=configs,
            groups=coordinator,
            transactions=transactions,
            states=shares,
            shares=shared,
            producer_ids=producer_ids,
            answers=pool.answers,
            throttles=throttles,
        ),
        dict.fromkeys(SHARE_APIS, share_gate(config, metadata)),
    )
    queries, query_services = continuous(
        config,
        reactor,
        metrics,
        disk=disk,
        metadata=metadata,
        replicas=replicas,
        groups=coordinator,
        transactions=transactions,
        create_topic=create_topic,
        declared=declared_types,
        wall_clock_ms=wall_clock_ms,
    )
    retention = Retention(replicas, trash, config.log_retention_check_interval_ms, wall_clock_ms, reactor, cooperator)
    metrics.storage_usage = replicas.topic_sizes
    return Parts(
        flusher=flusher,
        pool=pool,
        threads=threads,
        replicas=replicas,
        saved=saved,
        coordinator=coordinator,
        transactions=transactions,
        shares=shares,
        shared=shared,
        throttles=throttles,
        many_elements=ManyElementRequests(slices, time.monotonic),
        table=table,
        search=search,
        tails=tails,
        sql=sql,
        queries=queries,
        settings_for=configs.topic_settings,
        alerts=alerts,
        background=(
            trash,
            retention,
            ReactorLagProbe(reactor, metrics.reactor_lag),
            *compacting(config, reactor, metrics, disk=disk, replicas=replicas, trash=trash, cooperator=cooperator),
            *((search,) if search is not None else ()),
            *((tails,) if tails is not None else ()),
            *sql_services,
            *query_services,
            *((alerts,) if alerts is not None else ()),
        ),
    )


def _static_configs(config: Config, directory: DataDirectory) -> dict[str, str]:
    """What the node was configured with, by Kafka's names: only what was really set, and what follows from where it runs."""
    return config.kafka_configs() | {"log.dirs": directory.topics}


def _group_settings(config: Config) -> GroupSettings:
    return GroupSettings(
        group_initial_rebalance_delay_ms=config.group_initial_rebalance_delay_ms,
        group_min_session_timeout_ms=config.group_min_session_timeout_ms,
        group_max_session_timeout_ms=config.group_max_session_timeout_ms,
        group_max_size=config.group_max_size,
        group_consumer=group_times(config),
        group_consumer_max_size=config.group_consumer_max_size,
        group_consumer_assignors=config.group_consumer_assignors,
        group_consumer_migration_policy=config.group_consumer_migration_policy,
        group_share_max_size=config.group_share_max_size,
        offset_metadata_max_bytes=config.offset_metadata_max_bytes,
        offsets_retention_minutes=config.offsets_retention_minutes,
        offsets_retention_check_interval_ms=config.offsets_retention_check_interval_ms,
        offsets_topic_num_partitions=config.offsets_topic_num_partitions,
    )


def _share_limits(config: Config) -> ShareLimits:
    return ShareLimits(
        max_sessions=config.group_share_max_share_sessions,
        max_record_locks=config.group_share_partition_max_record_locks,
        max_deliveries=config.group_share_delivery_count_limit,
        lock=group_times(config).share_lock,
    )


def _share_settings(config: Config) -> ShareSettings:
    updates = config.share_coordinator_snapshot_update_records_per_snapshot
    return ShareSettings(
        share_coordinator_state_topic_num_partitions=config.share_coordinator_state_topic_num_partitions,
        share_coordinator_snapshot_update_records_per_snapshot=updates,
    )


def _transaction_settings(config: Config) -> TransactionSettings:
    abort_interval_ms = config.transaction_abort_timed_out_transaction_cleanup_interval_ms
    remove_interval_ms = config.transaction_remove_expired_transaction_cleanup_interval_ms
    return TransactionSettings(
        transaction_max_timeout_ms=config.transaction_max_timeout_ms,
        transactional_id_expiration_ms=config.transactional_id_expiration_ms,
        transaction_state_log_num_partitions=config.transaction_state_log_num_partitions,
        transaction_abort_timed_out_transaction_cleanup_interval_ms=abort_interval_ms,
        transaction_remove_expired_transaction_cleanup_interval_ms=remove_interval_ms,
    )


def _compression_threads() -> int:
    """One core stays for the reactor."""
    return max(1, min(4, len(os.sched_getaffinity(0)) - 1))


def group_times(config: Config) -> GroupTimes:
    """The times of the consumer protocol and of share groups, each between its bounds."""
    return GroupTimes(
        session=Bounded(
            config.group_consumer_session_timeout_ms,
            config.group_consumer_min_session_timeout_ms,
            config.group_consumer_max_session_timeout_ms,
        ),
        heartbeat=Bounded(
            config.group_consumer_heartbeat_interval_ms,
            config.group_consumer_min_heartbeat_interval_ms,
            config.group_consumer_max_heartbeat_interval_ms,
        ),
        share_session=Bounded(
            config.group_share_session_timeout_ms,
            config.group_share_min_session_timeout_ms,
            config.group_share_max_session_timeout_ms,
        ),
        share_heartbeat=Bounded(
            config.group_share_heartbeat_interval_ms,
            config.group_share_min_heartbeat_interval_ms,
            config.group_share_max_heartbeat_interval_ms,
        ),
        share_lock=Bounded(
            config.group_share_record_lock_duration_ms,
            config.group_share_min_record_lock_duration_ms,
            config.group_share_max_record_lock_duration_ms,
        ),
    )


def wall_clock_ms() -> int:
    """The time since 1970."""
    return time.time_ns() // 1_000_000
