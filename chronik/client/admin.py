"""Administration: topics, configs, groups and the cluster itself, each as one call with plain values.

What a broker refuses comes out as KafkaError with the broker's own message where it sent one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chronik.client.assignors import PROTOCOL_TYPE, decode_assignment
from chronik.client.cluster import ClusterClient
from chronik.client.errors import UnsupportedApi, check, error_code
from chronik.client.metadata import BrokerAddress
from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition
from chronik.wire.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from chronik.wire.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from chronik.wire.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from chronik.wire.messages.delete_groups import DeleteGroupsRequest
from chronik.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from chronik.wire.messages.describe_cluster import DescribeClusterRequest
from chronik.wire.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from chronik.wire.messages.describe_groups import DescribeGroupsRequest
from chronik.wire.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from chronik.wire.messages.list_groups import ListGroupsRequest

TOPIC_RESOURCE, BROKER_RESOURCE = 2, 4
_SET, _DELETE = 0, 1
_COORDINATOR_WAIT = frozenset({ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS})

CONFIG_SOURCES = {
    1: "topic",
    2: "broker (dynamic)",
    3: "cluster (dynamic)",
    4: "broker (static)",
    5: "default",
    6: "broker logger (dynamic)",
    7: "client metrics",
    8: "group",
}


@dataclass(frozen=True, slots=True)
class ConfigEntry:
    """One config as it is in force. `value` is None for a sensitive one; `source` says where it comes from."""

    name: str
    value: str | None
    source: str
    overridden: bool
    read_only: bool = False
    sensitive: bool = False


@dataclass(frozen=True, slots=True)
class GroupListing:
    """A group as the cluster lists it. `state` and `type` are empty from brokers that don't tell."""

    group: str
    protocol_type: str
    state: str
    type: str


@dataclass(frozen=True, slots=True)
class GroupMemberView:
    """A member and the partitions assigned to it."""

    member_id: str
    instance_id: str | None
    client_id: str
    host: str
    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group with its members. `protocol` is the assignor in use."""

    group: str
    state: str
    type: str
    protocol: str
    coordinator: int
    members: tuple[GroupMemberView, ...]


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The cluster as one of its brokers describes it."""

    cluster_id: str
    controller_id: int
    brokers: tuple[BrokerAddress, ...]


class Admin:
    """Administration of the cluster behind `cluster`. Changes wait on the broker for up to `timeout` seconds."""

    def __init__(self, cluster: ClusterClient, timeout: float = 30.0) -> None:
        self._cluster = cluster
        self._timeout_ms = int(timeout * 1000)

    # --- topics

    async def create_topic(
        self, name: str, partitions: int = -1, replication: int = -1, configs: Mapping[str, str] | None = None
    ) -> None:
        """Create a topic; -1 leaves a count to the cluster's default. Raises KafkaError(TOPIC_ALREADY_EXISTS, ...)."""
        topic = CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=replication,
            configs=[CreatableTopicConfig(name=key, value=value) for key, value in (configs or {}).items()],
        )
        response = await self._cluster.send_to_controller(
            CreateTopicsRequest(topics=[topic], timeout_ms=self._timeout_ms)
        )
        for result in response.topics:
            check(result.error_code, result.error_message or f"topic {name!r}")

    async def delete_topic(self, name: str) -> None:
        """Delete a topic with all its records. Raises KafkaError(UNKNOWN_TOPIC_OR_PARTITION, ...)."""
        request = DeleteTopicsRequest(timeout_ms=self._timeout_ms)
        connection = await self._cluster.any_connection()
        version = connection.version_of(DeleteTopicsRequest)
        if version >= 6:
            request.topics = [DeleteTopicState(name=name)]
        else:
            request.topic_names = [name]
        response = await connection.request(request, version=version, timeout=self._cluster.request_timeout)
        for result in response.responses:
            check(result.error_code, result.error_message or f"topic {name!r}")

    async def add_partitions(self, name: str, count: int) -> None:
        """Grow a topic to `count` partitions. Raises KafkaError(INVALID_PARTITIONS) when it has as many already."""
        topic = CreatePartitionsTopic(name=name, count=count, assignments=None)
        response = await self._cluster.send_to_controller(
            CreatePartitionsRequest(topics=[topic], timeout_ms=self._timeout_ms)
        )
        for result in response.results:
            check(result.error_code, result.error_message or f"topic {name!r}")

    async def topic_configs(self, name: str) -> list[ConfigEntry]:
        """All configs of a topic, sorted by name."""
        request = DescribeConfigsRequest(
            resources=[
                DescribeConfigsResource(resource_type=TOPIC_RESOURCE, resource_name=name, configuration_keys=None)
            ]
        )
        response = await self._cluster.send_to_any(request)
        entries: list[ConfigEntry] = []
        for result in response.results:
            check(result.error_code, result.error_message or f"topic {name!r}")
            entries += [
                ConfigEntry(
                    config.name,
                    config.value,
                    CONFIG_SOURCES.get(config.config_source, "unknown"),
                    config.config_source == 1,
                    config.read_only,
                    config.is_sensitive,
                )
                for config in result.configs
            ]
        return sorted(entries, key=lambda entry: entry.name)

    async def alter_topic_configs(self, name: str, values: Mapping[str, str], delete: Sequence[str] = ()) -> None:
        """Set and remove config overrides of a topic, leaving the others. Raises KafkaError(INVALID_CONFIG, ...)."""
        operations = [AlterableConfig(name=key, config_operation=_SET, value=value) for key, value in values.items()]
        operations += [AlterableConfig(name=key, config_operation=_DELETE, value=None) for key in delete]
        resource = AlterConfigsResource(resource_type=TOPIC_RESOURCE, resource_name=name, configs=operations)
        response = await self._cluster.send_to_controller(IncrementalAlterConfigsRequest(resources=[resource]))
        for result in response.responses:
            check(result.error_code, result.error_message or f"topic {name!r}")

    # --- groups

    async def list_groups(self) -> list[GroupListing]:
        """All groups of all brokers, sorted by name."""
        metadata = await self._cluster.refresh(())
        groups: dict[str, GroupListing] = {}
        for node_id in metadata.brokers:
            response = await self._cluster.send(node_id, ListGroupsRequest())
            check(response.error_code, f"the groups of broker {node_id}")
            for group in response.groups:
                groups[group.group_id] = GroupListing(
                    group.group_id, group.protocol_type, group.group_state, group.group_type
                )
        return [groups[name] for name in sorted(groups)]

    async def describe_group(self, group: str) -> GroupView:
        """A group with its members, of the classic or the new (KIP-848) protocol. An unknown one comes back as "Dead"."""
        view = await self._describe_consumer_group(group)
        if view is not None:
            return view
        coordinator = await self._coordinator(group)
        response = await self._cluster.send_to_coordinator(
            group, DescribeGroupsRequest(groups=[group]), lambda r: int(r.groups[0].error_code)
        )
        described = response.groups[0]
        if described.error_code == ErrorCode.GROUP_ID_NOT_FOUND:
            return GroupView(group, "Dead", "", "", coordinator, ())
        check(described.error_code, described.error_message or f"group {group!r}")
        consumer = described.protocol_type == PROTOCOL_TYPE
        members = tuple(
            GroupMemberView(
                m.member_id,
                m.group_instance_id,
                m.client_id,
                m.client_host,
                tuple(sorted(decode_assignment(bytes(m.member_assignment)))) if consumer else (),
            )
            for m in sorted(described.members, key=lambda m: str(m.member_id))
        )
        kind = "Classic" if described.protocol_type else ""
        return GroupView(group, described.group_state, kind, described.protocol_data, coordinator, members)

    async def _describe_consumer_group(self, group: str) -> GroupView | None:
        """The group as the new protocol describes it; None when it isn't of that protocol, or the broker lacks it."""
        try:
            response = await self._cluster.send_to_coordinator(
                group, ConsumerGroupDescribeRequest(group_ids=[group]), lambda r: int(r.groups[0].error_code)
            )
        except UnsupportedApi:
            return None
        described = response.groups[0]
        if error_code(described.error_code) in (ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.UNSUPPORTED_VERSION):
            return None
        check(described.error_code, described.error_message or f"group {group!r}")
        members = tuple(
            GroupMemberView(
                m.member_id,
                m.instance_id,
                m.client_id,
                m.client_host,
                tuple(
                    sorted(TopicPartition(t.topic_name, p) for t in m.assignment.topic_partitions for p in t.partitions)
                ),
            )
            for m in sorted(described.members, key=lambda m: str(m.member_id))
        )
        coordinator = await self._coordinator(group)
        state = described.group_state
        return GroupView(group, state, "Consumer", described.assignor_name, coordinator, members)

    async def delete_group(self, group: str) -> None:
        """Delete an empty group with its offsets. Raises KafkaError(NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND)."""
        response = await self._cluster.send_to_coordinator(
            group, DeleteGroupsRequest(groups_names=[group]), lambda r: int(r.results[0].error_code)
        )
        check(response.results[0].error_code, f"group {group!r}")

    async def _coordinator(self, group: str) -> int:
        return await self._cluster.retrying(lambda: self._cluster.coordinator(group), _COORDINATOR_WAIT)

    # --- the cluster

    async def describe_cluster(self) -> ClusterView:
        """Brokers and controller, by DescribeCluster, or by Metadata where a broker lacks it."""
        try:
            response = await self._cluster.send_to_any(DescribeClusterRequest())
        except UnsupportedApi:
            metadata = await self._cluster.refresh(())
            brokers = tuple(metadata.brokers[node_id] for node_id in sorted(metadata.brokers))
            return ClusterView(metadata.cluster_id or "", metadata.controller_id, brokers)
        if response.error_code:
            raise KafkaError(error_code(response.error_code), response.error_message or "DescribeCluster")
        brokers = tuple(BrokerAddress(b.broker_id, b.host, b.port, b.rack) for b in response.brokers)
        by_id = sorted(brokers, key=lambda b: b.node_id)
        return ClusterView(response.cluster_id, response.controller_id, tuple(by_id))
