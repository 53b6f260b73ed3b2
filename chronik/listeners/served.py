"""Every Kafka API that is served, and whom its handler asks. ApiVersions advertises exactly what stands here."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from chronik.broker.fetch_sessions import FetchSessions
from chronik.broker.interfaces import IReadablePartitions
from chronik.broker.purgatory import Wakeups
from chronik.broker.replicas import Replicas
from chronik.broker.share_partitions import SharePartitions
from chronik.config import Config
from chronik.controller.image import MetadataImage
from chronik.controller.producer_ids import ProducerIds
from chronik.controller.service import Controller
from chronik.coordinator.runtime import Coordinator
from chronik.coordinator.share_coordinator import ShareCoordinator
from chronik.coordinator.transactions import TransactionCoordinator
from chronik.listeners.backlog import AnswerBacklog
from chronik.listeners.dispatch import ApiTable
from chronik.listeners.handlers.add_offsets_to_txn import AddOffsetsToTxnHandler
from chronik.listeners.handlers.add_partitions_to_txn import AddPartitionsToTxnHandler
from chronik.listeners.handlers.alter_client_quotas import AlterClientQuotasHandler
from chronik.listeners.handlers.alter_configs import AlterConfigsHandler
from chronik.listeners.handlers.alter_partition_reassignments import AlterPartitionReassignmentsHandler
from chronik.listeners.handlers.alter_replica_log_dirs import AlterReplicaLogDirsHandler
from chronik.listeners.handlers.api_versions import ApiVersionsHandler
from chronik.listeners.handlers.consumer_group_describe import ConsumerGroupDescribeHandler
from chronik.listeners.handlers.consumer_group_heartbeat import ConsumerGroupHeartbeatHandler
from chronik.listeners.handlers.create_partitions import CreatePartitionsHandler
from chronik.listeners.handlers.create_topics import CreateTopicsHandler
from chronik.listeners.handlers.delete_groups import DeleteGroupsHandler
from chronik.listeners.handlers.delete_records import DeleteRecordsHandler
from chronik.listeners.handlers.delete_topics import DeleteTopicsHandler
from chronik.listeners.handlers.describe_client_quotas import DescribeClientQuotasHandler
from chronik.listeners.handlers.describe_cluster import DescribeClusterHandler
from chronik.listeners.handlers.describe_configs import DescribeConfigsHandler
from chronik.listeners.handlers.describe_groups import DescribeGroupsHandler
from chronik.listeners.handlers.describe_log_dirs import DescribeLogDirsHandler
from chronik.listeners.handlers.describe_producers import DescribeProducersHandler
from chronik.listeners.handlers.describe_quorum import DescribeQuorumHandler
from chronik.listeners.handlers.describe_topic_partitions import DescribeTopicPartitionsHandler
from chronik.listeners.handlers.describe_transactions import DescribeTransactionsHandler
from chronik.listeners.handlers.elect_leaders import ElectLeadersHandler
from chronik.listeners.handlers.end_txn import EndTxnHandler
from chronik.listeners.handlers.fetch import FetchHandler
from chronik.listeners.handlers.find_coordinator import FindCoordinatorHandler
from chronik.listeners.handlers.heartbeat import HeartbeatHandler
from chronik.listeners.handlers.incremental_alter_configs import IncrementalAlterConfigsHandler
from chronik.listeners.handlers.init_producer_id import InitProducerIdHandler
from chronik.listeners.handlers.join_group import JoinGroupHandler
from chronik.listeners.handlers.leave_group import LeaveGroupHandler
from chronik.listeners.handlers.list_config_resources import ListConfigResourcesHandler
from chronik.listeners.handlers.list_groups import ListGroupsHandler
from chronik.listeners.handlers.list_offsets import ListOffsetsHandler
from chronik.listeners.handlers.list_partition_reassignments import ListPartitionReassignmentsHandler
from chronik.listeners.handlers.list_transactions import ListTransactionsHandler
from chronik.listeners.handlers.metadata import MetadataHandler
from chronik.listeners.handlers.offset_commit import OffsetCommitHandler
from chronik.listeners.handlers.offset_delete import OffsetDeleteHandler
from chronik.listeners.handlers.offset_fetch import OffsetFetchHandler
from chronik.listeners.handlers.offset_for_leader_epoch import OffsetForLeaderEpochHandler
from chronik.listeners.handlers.produce import ProduceHandler
from chronik.listeners.handlers.proposing import Proposing
from chronik.listeners.handlers.sync_group import SyncGroupHandler
from chronik.listeners.handlers.txn_offset_commit import TxnOffsetCommitHandler
from chronik.listeners.handlers.update_features import UpdateFeaturesHandler
from chronik.listeners.handlers.write_txn_markers import WriteTxnMarkersHandler
from chronik.listeners.served_shares import share_apis, share_gate
from chronik.listeners.slices import Slices
from chronik.listeners.throttling import Throttles
from chronik.node_config import NodeConfig
from chronik.telemetry.metrics import NodeMetrics

_FETCH_SESSION_EVICTION_MS = 120_000


def served_apis(
    config: Config,
    reactor: Any,
    metrics: NodeMetrics,
    slices: Slices,
    *,
    table: Callable[[], ApiTable],
    replicas: Replicas,
    readable: IReadablePartitions,
    controller: Controller,
    metadata: MetadataImage,
    configs: NodeConfig,
    groups: Coordinator,
    transactions: TransactionCoordinator,
    states: ShareCoordinator,
    shares: SharePartitions,
    producer_ids: ProducerIds,
    answers: AnswerBacklog,
    throttles: Throttles,
) -> list[Any]:
    """One handler for each API. `table` returns the table that is made of them."""
    sessions = FetchSessions(
        config.max_incremental_fetch_session_cache_slots,
        _FETCH_SESSION_EVICTION_MS,
        lambda: random.randrange(1, 2**31),
    )
    wakeups = Wakeups(lambda call: reactor.callLater(0, call))
    clock = time.monotonic
    proposing = Proposing(controller, reactor, slices)
    return [
        ApiVersionsHandler(table, metadata),
        ProduceHandler(replicas, metrics.produce_latency, clock, reactor, transactions),
        FetchHandler(
            readable,
            sessions,
            wakeups,
            metrics.fetch_latency,
            clock,
            reactor,
            config.fetch_max_bytes,
            config.connections_max_idle_ms,
            answers,
            throttles,
            slices,
        ),
        ListOffsetsHandler(readable),
        OffsetForLeaderEpochHandler(readable),
        DeleteRecordsHandler(replicas, clock, reactor),
        DescribeProducersHandler(readable),
        DescribeLogDirsHandler(replicas),
        AlterReplicaLogDirsHandler(replicas, metadata),
        MetadataHandler(metadata, controller, configs, reactor, throttles, slices),
        DescribeClusterHandler(metadata),
        DescribeTopicPartitionsHandler(metadata),
        InitProducerIdHandler(producer_ids, transactions),
        CreateTopicsHandler(proposing, configs, throttles),
        DeleteTopicsHandler(proposing, configs, metadata, throttles),
        CreatePartitionsHandler(proposing, metadata, throttles),
        DescribeConfigsHandler(metadata, configs),
        AlterConfigsHandler(proposing, config.node_id),
        IncrementalAlterConfigsHandler(proposing, config.node_id),
        DescribeClientQuotasHandler(metadata.quotas),
        AlterClientQuotasHandler(proposing),
        ListConfigResourcesHandler(metadata),
        UpdateFeaturesHandler(controller, reactor),
        ElectLeadersHandler(metadata),
        AlterPartitionReassignmentsHandler(metadata),
        ListPartitionReassignmentsHandler(),
        DescribeQuorumHandler(metadata),
        FindCoordinatorHandler(groups, transactions, states, share_gate(config, metadata)),
        JoinGroupHandler(groups),
        SyncGroupHandler(groups),
        HeartbeatHandler(groups),
        LeaveGroupHandler(groups),
        ConsumerGroupHeartbeatHandler(groups, metadata),
        ConsumerGroupDescribeHandler(groups, metadata),
        OffsetCommitHandler(groups, metadata),
        OffsetFetchHandler(groups, slices),
        DescribeGroupsHandler(groups),
        ListGroupsHandler(groups),
        DeleteGroupsHandler(groups),
        OffsetDeleteHandler(groups, metadata),
        TxnOffsetCommitHandler(groups, metadata),
        AddPartitionsToTxnHandler(transactions, metadata, slices),
        AddOffsetsToTxnHandler(transactions, groups),
        EndTxnHandler(transactions),
        WriteTxnMarkersHandler(replicas, slices),
        DescribeTransactionsHandler(transactions),
        ListTransactionsHandler(transactions, slices),
        *share_apis(config, reactor, groups, metadata, states, shares, answers, throttles, slices),
    ]
