"""What Metadata and the Describe APIs tell about brokers and partitions, as seen from the listener that the client dialled."""

from __future__ import annotations

from typing import NamedTuple

from chronik.errors import ErrorCode
from chronik.interfaces import IClusterMetadata
from chronik.model import Broker, Endpoint, PartitionState

NOT_ASKED = -(2**31)
"""Authorised operations when the client didn't ask for them."""

TOPIC_OPERATIONS = 0b1101_1111_1000
"""All operations on a topic, a bit for each of Kafka's numbers: read, write, create, delete, alter, describe and configs."""

CLUSTER_OPERATIONS = 0b1_1111_1010_0000
"""All operations on a cluster, likewise: create, alter, describe, cluster action, configs and idempotent write."""


class Topology(NamedTuple):
    """The living brokers, and those of them that have an address on one listener."""

    alive: frozenset[int]
    reachable: tuple[tuple[Broker, Endpoint], ...]

    def partition_error(self, partition: PartitionState, version: int) -> ErrorCode:
        """What is wrong with a partition for a client of Metadata `version` on this listener."""
        if partition.leader not in self.alive:
            return ErrorCode.LEADER_NOT_AVAILABLE
        if not any(broker.node_id == partition.leader for broker, _ in self.reachable):
            return ErrorCode.LISTENER_NOT_FOUND if version >= 6 else ErrorCode.LEADER_NOT_AVAILABLE
        if version == 0 and not self.alive.issuperset(partition.replicas):
            return ErrorCode.REPLICA_NOT_AVAILABLE
        return ErrorCode.NONE

    def offline(self, partition: PartitionState) -> list[int]:
        """The replicas of a partition whose broker isn't alive."""
        return [node_id for node_id in partition.replicas if node_id not in self.alive]


def topology(metadata: IClusterMetadata, listener: str) -> Topology:
    """The brokers as seen from `listener`."""
    alive = [broker for broker in metadata.brokers() if not broker.fenced]
    return Topology(
        frozenset(broker.node_id for broker in alive),
        tuple((broker, each) for broker in alive for each in broker.endpoints if each.listener == listener),
    )
