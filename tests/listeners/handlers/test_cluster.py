"""DescribeCluster, DescribeTopicPartitions, DescribeLogDirs, AlterReplicaLogDirs and InitProducerId, as clients see them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from chronik.controller.commands import CreateTopics, NewTopic
from chronik.controller.producer_ids import ProducerIds
from chronik.controller.service import Controller
from chronik.errors import ErrorCode
from chronik.interfaces import ILogDirectory, IRequestHandler
from chronik.listeners.handlers.alter_replica_log_dirs import AlterReplicaLogDirsHandler
from chronik.listeners.handlers.describe_cluster import DescribeClusterHandler
from chronik.listeners.handlers.describe_log_dirs import DescribeLogDirsHandler
from chronik.listeners.handlers.describe_topic_partitions import DescribeTopicPartitionsHandler
from chronik.listeners.handlers.init_producer_id import InitProducerIdHandler
from chronik.model import TopicPartition
from chronik.wire.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from chronik.wire.messages.describe_cluster import DescribeClusterRequest
from chronik.wire.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from chronik.wire.messages.describe_topic_partitions import Cursor, DescribeTopicPartitionsRequest, TopicRequest
from chronik.wire.messages.init_producer_id import InitProducerIdRequest
from tests.controller.cluster import register
from tests.controller.test_service import HeldLog
from tests.coordinator.transactions import TransactionWorld
from tests.listeners.handlers.serving import Serving


class DescribeClusterTests(SynchronousTestCase):
    """DescribeCluster."""

    def setUp(self) -> None:
        self.serving = Serving(brokers=2)
        self.handler = DescribeClusterHandler(self.serving.image)

    def test_the_brokers_and_the_controller(self) -> None:
        self.assertTrue(verifyObject(IRequestHandler, self.handler, tentative=True))
        for version in range(3):
            answer = self.serving.ask(self.handler, DescribeClusterRequest(), version)
            self.assertEqual((answer.error_code, answer.cluster_id, answer.controller_id), (0, "cluster", 0))
            self.assertEqual(
                [(each.broker_id, each.host, each.port) for each in answer.brokers],
                [(0, "host0", 9092), (1, "host1", 9093)],
            )
            self.assertEqual(answer.cluster_authorized_operations, -(2**31))
        asked = self.serving.ask(self.handler, DescribeClusterRequest(include_cluster_authorized_operations=True))
        self.assertEqual(asked.cluster_authorized_operations, 8096)
        self.assertEqual(self.serving.ask(self.handler, DescribeClusterRequest(), 2, "OTHER").brokers, [])

    def test_only_brokers_can_be_asked_for(self) -> None:
        for kind, code in ((2, ErrorCode.MISMATCHED_ENDPOINT_TYPE), (7, ErrorCode.UNSUPPORTED_ENDPOINT_TYPE)):
            answer = self.serving.ask(self.handler, DescribeClusterRequest(endpoint_type=kind))
            self.assertEqual((answer.error_code, answer.cluster_id, answer.brokers), (code, "", []))
            self.assertTrue(answer.error_message)


class DescribeTopicPartitionsTests(SynchronousTestCase):
    """DescribeTopicPartitions."""

    def setUp(self) -> None:
        self.serving = Serving()
        self.serving.cluster.do(CreateTopics((NewTopic("c", 3, 1), NewTopic("a", 2, 1), NewTopic("b", 1, 1))))
        self.handler = DescribeTopicPartitionsHandler(self.serving.image)

    def page(
        self, *wanted: str, limit: int = 2000, cursor: tuple[str, int] | None = None
    ) -> tuple[list[tuple[str, int, list[int]]], tuple[str, int] | None]:
        request = DescribeTopicPartitionsRequest(
            topics=[TopicRequest(name=name) for name in wanted],
            response_partition_limit=limit,
            cursor=None if cursor is None else Cursor(topic_name=cursor[0], partition_index=cursor[1]),
        )
        answer = self.serving.ask(self.handler, request)
        following = answer.next_cursor
        topics = [(each.name, each.error_code, [p.partition_index for p in each.partitions]) for each in answer.topics]
        return topics, None if following is None else (following.topic_name, following.partition_index)

    def test_everything(self) -> None:
        self.assertTrue(verifyObject(IRequestHandler, self.handler, tentative=True))
        self.assertEqual(self.page(), ([("a", 0, [0, 1]), ("b", 0, [0]), ("c", 0, [0, 1, 2])], None))
        topic = self.serving.ask(self.handler, DescribeTopicPartitionsRequest()).topics[0]
        self.assertEqual((topic.topic_authorized_operations, topic.is_internal), (3576, False))
        partition = topic.partitions[0]
        self.assertEqual((partition.leader_id, partition.leader_epoch, partition.isr_nodes), (0, 0, [0]))
        self.assertEqual((partition.eligible_leader_replicas, partition.last_known_elr), ([], []))

    def test_some_sorted_each_once(self) -> None:
        self.assertEqual(
            self.page("x", "b", "a", "b", "a b"),
            ([("a", 0, [0, 1]), ("a b", 17, []), ("b", 0, [0]), ("x", 3, [])], None),
        )

    def test_pages_add_up(self) -> None:
        for limit in (1, 2, 3, 4, 5, 6):
            pages, cursor, seen = 0, None, []
            while True:
                topics, cursor = self.page(limit=limit, cursor=cursor)
                self.assertLessEqual(sum(len(each[2]) for each in topics), limit)
                seen += [(name, partition) for name, _, partitions in topics for partition in partitions]
                pages += 1
                if cursor is None:
                    break
            self.assertEqual(seen, [("a", 0), ("a", 1), ("b", 0), ("c", 0), ("c", 1), ("c", 2)])
            self.assertEqual(pages, -(-6 // limit))

    def test_cursors(self) -> None:
        self.assertEqual(self.page("a", cursor=("a", 1)), ([("a", 0, [1])], None))
        self.assertEqual(self.page("a", cursor=("a", 9)), ([("a", 0, [])], None))
        self.assertEqual(self.page(cursor=("bb", 1)), ([("c", 0, [0, 1, 2])], None))
        bad = ErrorCode.INVALID_REQUEST
        self.assertEqual(self.page("a", cursor=("zz", 1)), ([("a", bad, [])], None))
        self.assertEqual(self.page("a", cursor=("a", -1)), ([("a", bad, [])], None))

    def test_a_limit_below_one_is_one(self) -> None:
        self.assertEqual(self.page("a", limit=0), ([("a", 0, [0])], ("a", 1)))
        self.assertEqual(self.page("a", limit=-5), ([("a", 0, [0])], ("a", 1)))


@implementer(ILogDirectory)
class Directory:
    """A data directory with three partitions."""

    path = "/data"

    def volume(self) -> tuple[int, int]:
        return 1000, 400

    def partition_sizes(self) -> Iterable[tuple[TopicPartition, int]]:
        return [(TopicPartition("a", 0), 10), (TopicPartition("b", 0), 20), (TopicPartition("a", 1), 30)]


class DescribeLogDirsTests(SynchronousTestCase):
    """DescribeLogDirs."""

    def sizes(self, topics: list[DescribableLogDirTopic] | None, version: int = 4) -> Any:
        directory = Directory()
        self.assertTrue(verifyObject(ILogDirectory, directory))
        handler = DescribeLogDirsHandler(directory)
        self.assertTrue(verifyObject(IRequestHandler, handler, tentative=True))
        (result,) = Serving().ask(handler, DescribeLogDirsRequest(topics=topics), version).results
        self.assertEqual((result.log_dir, result.error_code), ("/data", 0))
        self.assertEqual((result.total_bytes, result.usable_bytes), (1000, 400) if version >= 4 else (-1, -1))
        return {(t.name, p.partition_index): p.partition_size for t in result.topics for p in t.partitions}

    def test_all_some_and_none(self) -> None:
        for version in range(1, 5):
            self.assertEqual(self.sizes(None, version), {("a", 0): 10, ("a", 1): 30, ("b", 0): 20})
        wanted = [
            DescribableLogDirTopic(topic="a", partitions=[1, 7]),
            DescribableLogDirTopic(topic="x", partitions=[0]),
        ]
        self.assertEqual(self.sizes(wanted), {("a", 1): 30})
        self.assertEqual(self.sizes([]), {})


class AlterReplicaLogDirsTests(SynchronousTestCase):
    """AlterReplicaLogDirs."""

    def setUp(self) -> None:
        self.serving = Serving()
        self.serving.cluster.do(CreateTopics((NewTopic("a", 2, 1),)))
        self.handler = AlterReplicaLogDirsHandler(Directory(), self.serving.image)
        self.assertTrue(verifyObject(IRequestHandler, self.handler, tentative=True))

    def ask(self, *places: tuple[str, str, list[int]], version: int = 2) -> dict[tuple[str, int], int]:
        dirs = [
            AlterReplicaLogDir(path=path, topics=[AlterReplicaLogDirTopic(name=name, partitions=partitions)])
            for path, name, partitions in places
        ]
        answer = self.serving.ask(self.handler, AlterReplicaLogDirsRequest(dirs=dirs), version)
        return {(t.topic_name, p.partition_index): p.error_code for t in answer.results for p in t.partitions}

    def test_a_replica_stays_where_it_is(self) -> None:
        for version in (1, 2):
            self.assertEqual(self.ask(("/data", "a", [0, 1]), version=version), {("a", 0): 0, ("a", 1): 0})
        self.assertEqual(self.ask(), {})

    def test_refusals(self) -> None:
        self.assertEqual(self.ask(("/other", "a", [0])), {("a", 0): ErrorCode.LOG_DIR_NOT_FOUND})
        unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        self.assertEqual(self.ask(("/data", "a", [2, -1])), {("a", 2): unknown, ("a", -1): unknown})
        self.assertEqual(self.ask(("/data", "x", [0])), {("x", 0): unknown})

    def test_of_a_partition_named_twice_the_last_place_counts(self) -> None:
        missing = ErrorCode.LOG_DIR_NOT_FOUND
        self.assertEqual(self.ask(("/other", "a", [0]), ("/data", "a", [0, 0])), {("a", 0): 0})
        self.assertEqual(self.ask(("/data", "a", [0]), ("/other", "a", [0])), {("a", 0): missing})


class InitProducerIdTests(SynchronousTestCase):
    """InitProducerId."""

    def setUp(self) -> None:
        self.serving = Serving()
        self.handler = self.make()

    def make(self, controller: Controller | None = None) -> InitProducerIdHandler:
        serving = self.serving
        ids = ProducerIds(controller or serving.controller, serving.image, 0, serving.clock)
        return InitProducerIdHandler(ids, TransactionWorld().coordinator)

    def ask(self, version: int = 5, **fields: Any) -> tuple[int, int, int]:
        request = InitProducerIdRequest(**{"transactional_id": None, **fields})
        answer = self.serving.ask(self.handler, request, version)
        return answer.error_code, answer.producer_id, answer.producer_epoch

    def test_every_id_is_new(self) -> None:
        self.assertTrue(verifyObject(IRequestHandler, self.handler, tentative=True))
        self.assertEqual([self.ask(version) for version in range(6)], [(0, number, 0) for number in range(6)])

    def test_a_block_lasts_for_a_thousand(self) -> None:
        version = self.serving.image.version
        self.assertEqual([self.ask()[1] for _ in range(2001)], list(range(2001)))
        self.assertEqual(self.serving.image.version, version + 3)

    def test_a_restarted_broker_goes_on_with_a_new_block(self) -> None:
        self.ask()
        self.serving.cluster.do(register(0, b"again"))
        self.handler = self.make()
        self.assertEqual(self.ask(), (0, 1000, 0))

    def test_a_producer_that_asks_again_gets_a_new_id(self) -> None:
        self.assertEqual(self.ask(producer_id=7, producer_epoch=3), (0, 0, 0))

    def test_what_cannot_be_asked(self) -> None:
        bad = ErrorCode.INVALID_REQUEST
        self.assertEqual(self.ask(producer_id=7), (bad, -1, -1))
        self.assertEqual(self.ask(producer_epoch=7), (bad, -1, -1))
        self.assertEqual(self.ask(transactional_id=""), (bad, -1, -1))

    def test_many_who_wait_share_one_allocation(self) -> None:
        log = HeldLog()
        controller = Controller(self.serving.image, log, self.serving.cluster.rules)
        controller.start()
        handler = self.make(controller)
        request = InitProducerIdRequest(transactional_id=None)
        waiting = [self.serving.begin(handler, request) for _ in range(1500)]
        waiting[3].addErrback(lambda _: None)
        waiting[3].cancel()
        self.assertEqual(len(log.held), 1)
        log.commit()
        self.assertEqual(len(log.held), 1)
        log.commit()
        del waiting[3]
        ids = [self.successResultOf(each).producer_id for each in waiting]
        self.assertEqual(len(set(ids)), 1499)

    def test_without_a_controller_clients_are_told_to_ask_again(self) -> None:
        log = HeldLog()
        controller = Controller(self.serving.image, log, self.serving.cluster.rules)
        controller.start()
        handler = self.make(controller)
        waiting = self.serving.begin(handler, InitProducerIdRequest(transactional_id=None))
        log.refuse()
        self.assertEqual(self.successResultOf(waiting).error_code, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        again = self.serving.begin(handler, InitProducerIdRequest(transactional_id=None))
        log.commit()
        self.assertEqual(self.successResultOf(again).producer_id, 0)
