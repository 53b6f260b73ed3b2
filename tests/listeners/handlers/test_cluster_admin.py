"""ElectLeaders, reassignments, ListConfigResources and DescribeQuorum: true answers of a cluster of one node."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chronik.controller.commands import CreateTopics, NewTopic
from chronik.errors import ErrorCode
from chronik.listeners.handlers.alter_partition_reassignments import AlterPartitionReassignmentsHandler
from chronik.listeners.handlers.describe_quorum import DescribeQuorumHandler
from chronik.listeners.handlers.elect_leaders import ElectLeadersHandler
from chronik.listeners.handlers.list_config_resources import ListConfigResourcesHandler
from chronik.listeners.handlers.list_partition_reassignments import ListPartitionReassignmentsHandler
from chronik.wire.messages import alter_partition_reassignments as moves
from chronik.wire.messages import describe_quorum as quorum
from chronik.wire.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from chronik.wire.messages.list_config_resources import ListConfigResourcesRequest
from chronik.wire.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)
from tests.listeners.handlers.serving import Serving

UNKNOWN = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


class ClusterAdminTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.serving = Serving()
        self.serving.cluster.do(CreateTopics((NewTopic("t", 2, 1),)))

    def test_no_election_is_needed(self) -> None:
        handler = ElectLeadersHandler(self.serving.image)
        for version in range(3):
            for kind in (0, 1) if version else (0,):
                named = [TopicPartitions(topic="t", partitions=[0, 2, -1]), TopicPartitions(topic="x", partitions=[0])]
                request = ElectLeadersRequest(election_type=kind, topic_partitions=named)
                answer = self.serving.ask(handler, request, version)
                codes = [
                    each.error_code for topic in answer.replica_election_results for each in topic.partition_result
                ]
                self.assertEqual(codes, [ErrorCode.ELECTION_NOT_NEEDED, UNKNOWN, UNKNOWN, UNKNOWN])
            answer = self.serving.ask(handler, ElectLeadersRequest(topic_partitions=None), version)
            self.assertEqual(
                [(topic.topic, topic.partition_result) for topic in answer.replica_election_results], [("t", [])]
            )
        answer = self.serving.ask(handler, ElectLeadersRequest(election_type=2, topic_partitions=None))
        self.assertEqual(answer.error_code, ErrorCode.INVALID_REQUEST)

    def move(self, replicas: list[int] | None, topic: str = "t", partition: int = 0, may_change: bool = True) -> Any:
        asked = moves.ReassignablePartition(partition_index=partition, replicas=replicas)
        request = moves.AlterPartitionReassignmentsRequest(
            allow_replication_factor_change=may_change,
            topics=[moves.ReassignableTopic(name=topic, partitions=[asked])],
        )
        answer = self.serving.ask(AlterPartitionReassignmentsHandler(self.serving.image), request)
        self.assertEqual((answer.error_code, answer.allow_replication_factor_change), (0, may_change))
        (only,) = answer.responses[0].partitions
        return only.error_code

    def test_partitions_stay_where_they_are(self) -> None:
        before = self.serving.image.version
        self.assertEqual(self.move([0]), ErrorCode.NONE)
        self.assertEqual(self.move(None), ErrorCode.NO_REASSIGNMENT_IN_PROGRESS)
        self.assertEqual(self.move([0], "x"), UNKNOWN)
        self.assertEqual(self.move([0], partition=2), UNKNOWN)
        for wrong in ([], [7], [0, 0], [-1]):
            self.assertEqual(self.move(wrong), ErrorCode.INVALID_REPLICA_ASSIGNMENT, wrong)
        self.assertEqual(self.serving.image.version, before)

    def test_to_other_nodes_nothing_is_moved(self) -> None:
        self.serving = Serving(brokers=2)
        self.serving.cluster.do(CreateTopics((NewTopic("t", 1, 1),)))
        self.assertEqual(self.move([1]), ErrorCode.INVALID_REPLICA_ASSIGNMENT)
        self.assertEqual(self.move([0, 1]), ErrorCode.INVALID_REPLICA_ASSIGNMENT)
        self.assertEqual(self.move([0, 1], may_change=False), ErrorCode.INVALID_REPLICATION_FACTOR)

    def test_nothing_is_on_the_move(self) -> None:
        handler = ListPartitionReassignmentsHandler()
        for topics in (None, [], [ListPartitionReassignmentsTopics(name="x", partition_indexes=[3])]):
            answer = self.serving.ask(handler, ListPartitionReassignmentsRequest(topics=topics))
            self.assertEqual((answer.error_code, answer.topics), (0, []))

    def test_what_has_configs(self) -> None:
        handler = ListConfigResourcesHandler(self.serving.image)

        def listed(*kinds: int, version: int = 1) -> list[tuple[int, str]]:
            answer = self.serving.ask(handler, ListConfigResourcesRequest(resource_types=list(kinds)), version)
            self.assertEqual(answer.error_code, 0)
            return [(each.resource_type, each.resource_name) for each in answer.config_resources]

        self.assertEqual(listed(), [(2, "t"), (4, "0")])
        self.assertEqual(listed(4), [(4, "0")])
        self.assertEqual(listed(8, 16, 32), [])
        self.assertEqual(listed(version=0), [])
        answer = self.serving.ask(handler, ListConfigResourcesRequest(resource_types=[2, 3]))
        self.assertEqual((answer.error_code, answer.config_resources), (ErrorCode.UNSUPPORTED_VERSION, []))

    def test_the_quorum_is_this_node(self) -> None:
        handler = DescribeQuorumHandler(self.serving.image)

        def ask(topic: str = "__cluster_metadata", *partitions: int, version: int = 2) -> Any:
            data = [quorum.PartitionData(partition_index=index) for index in partitions or (0,)]
            request = quorum.DescribeQuorumRequest(topics=[quorum.TopicData(topic_name=topic, partitions=data)])
            answer = self.serving.ask(handler, request, version)
            return answer, answer.topics[0].partitions[0]

        for version in range(3):
            answer, first = ask(version=version)
            self.assertEqual((answer.error_code, first.error_code, first.leader_id), (0, 0, 0))
            self.assertEqual([each.replica_id for each in first.current_voters], [0])
            self.assertEqual(first.observers, [])
            self.assertEqual([node.node_id for node in answer.nodes], [0] if version == 2 else [])
        self.serving.cluster.do(CreateTopics((NewTopic("u", 1, 1),)))
        (_, later) = ask()
        self.assertEqual(later.high_watermark, first.high_watermark + 1)
        self.assertEqual(later.current_voters[0].log_end_offset, later.high_watermark)
        for wrong in (("t", 0), ("__cluster_metadata", 1), ("__cluster_metadata", 0, 0)):
            self.assertEqual(ask(*wrong)[1].error_code, UNKNOWN)
