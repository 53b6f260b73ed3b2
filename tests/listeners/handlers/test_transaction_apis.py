"""The transaction APIs at every version they advertise: requests and responses go through the bytes of that version."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from chronik.controller.producer_ids import ProducerIds
from chronik.coordinator.transaction import Identity
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import Peer, RequestContext
from chronik.listeners.handlers.add_offsets_to_txn import AddOffsetsToTxnHandler
from chronik.listeners.handlers.add_partitions_to_txn import AddPartitionsToTxnHandler
from chronik.listeners.handlers.describe_transactions import DescribeTransactionsHandler
from chronik.listeners.handlers.end_txn import EndTxnHandler
from chronik.listeners.handlers.find_coordinator import FindCoordinatorHandler
from chronik.listeners.handlers.init_producer_id import InitProducerIdHandler
from chronik.listeners.handlers.list_transactions import ListTransactionsHandler
from chronik.listeners.handlers.write_txn_markers import WriteTxnMarkersHandler
from chronik.model import OFFSETS_TOPIC, Broker, Endpoint, TopicPartition, TransactionMarker
from chronik.wire.apis import message_classes
from chronik.wire.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from chronik.wire.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from chronik.wire.messages.describe_transactions import DescribeTransactionsRequest
from chronik.wire.messages.end_txn import EndTxnRequest
from chronik.wire.messages.find_coordinator import FindCoordinatorRequest
from chronik.wire.messages.init_producer_id import InitProducerIdRequest
from chronik.wire.messages.list_transactions import ListTransactionsRequest
from chronik.wire.messages.write_txn_markers import WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest
from tests.coordinator.share_states import ShareWorld
from tests.coordinator.transactions import EVENTS, TransactionWorld
from tests.coordinator.world import World
from tests.listeners.handlers.serving import Serving, check_refusals, check_versions, slices, whole

E = ErrorCode
HANDLERS = {
    InitProducerIdHandler: (0, 5),
    AddPartitionsToTxnHandler: (0, 5),
    AddOffsetsToTxnHandler: (0, 4),
    EndTxnHandler: (0, 5),
    WriteTxnMarkersHandler: (1, 1),
    DescribeTransactionsHandler: (0, 0),
    ListTransactionsHandler: (0, 2),
}


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = TransactionWorld()
        self.groups = World()
        serving = Serving()
        transactions, some = self.world.coordinator, slices(self.world.clock)
        self.handlers: dict[Any, Any] = {
            InitProducerIdHandler: InitProducerIdHandler(
                ProducerIds(serving.controller, serving.image, 0, serving.clock), transactions
            ),
            AddPartitionsToTxnHandler: AddPartitionsToTxnHandler(transactions, self.world.metadata, some),
            AddOffsetsToTxnHandler: AddOffsetsToTxnHandler(transactions, self.groups.coordinator),
            EndTxnHandler: EndTxnHandler(transactions),
            WriteTxnMarkersHandler: WriteTxnMarkersHandler(self.world.markers, some),
            DescribeTransactionsHandler: DescribeTransactionsHandler(transactions),
            ListTransactionsHandler: ListTransactionsHandler(transactions, some),
            FindCoordinatorHandler: FindCoordinatorHandler(
                self.groups.coordinator, transactions, ShareWorld().coordinator, lambda: None
            ),
        }

    def send(self, cls: Any, version: int, request: Any) -> Any:
        """Send `request` as the bytes of `version`; the decoded answer."""
        handler = self.handlers[cls]
        request_class, response_class = message_classes(handler.api_key)
        request, _ = request_class.decode(request.encode(version), version)
        context = RequestContext(Peer("PLAINTEXT", "10.0.0.7", ("localhost", 9092)), version, "client")

        async def handle() -> Any:
            try:
                answer = whole(handler.handle(request, context))
                return await answer if hasattr(answer, "__await__") else answer
            except KafkaError as error:
                return whole(handler.refuse(request, version, error))

        results: list[Any] = []
        Deferred.fromCoroutine(handle()).addBoth(results.append)
        self.world.settle()
        return response_class.decode(results[0].encode(version), version)[0]

    def initialise(self, version: int = 5, transactional_id: str = "t", **fields: Any) -> Any:
        fields = {"transaction_timeout_ms": 60_000, "transactional_id": transactional_id, **fields}
        return self.send(InitProducerIdHandler, version, InitProducerIdRequest(**fields))

    def producer(self, **fields: Any) -> Identity:
        answer = self.initialise(**fields)
        self.assertEqual(answer.error_code, 0)
        return Identity(answer.producer_id, answer.producer_epoch)

    def add(self, version: int, producer: Identity, *places: tuple[str, int], verify_only: bool = False) -> Any:
        """The codes by partition."""
        topics: dict[str, list[int]] = {}
        for name, number in places or [EVENTS]:
            topics.setdefault(name, []).append(number)
        wanted = [AddPartitionsToTxnTopic(name=name, partitions=numbers) for name, numbers in topics.items()]
        if version < 4:
            request = AddPartitionsToTxnRequest(
                v3_and_below_transactional_id="t",
                v3_and_below_producer_id=producer.producer_id,
                v3_and_below_producer_epoch=producer.epoch,
                v3_and_below_topics=wanted,
            )
            results = self.send(AddPartitionsToTxnHandler, version, request).results_by_topic_v3_and_below
        else:
            one = AddPartitionsToTxnTransaction(
                transactional_id="t",
                producer_id=producer.producer_id,
                producer_epoch=producer.epoch,
                verify_only=verify_only,
                topics=wanted,
            )
            answer = self.send(AddPartitionsToTxnHandler, version, AddPartitionsToTxnRequest(transactions=[one]))
            self.assertEqual([each.transactional_id for each in answer.results_by_transaction], ["t"])
            results = answer.results_by_transaction[0].topic_results
        return {
            (topic.name, each.partition_index): each.partition_error_code
            for topic in results
            for each in topic.results_by_partition
        }

    def end(self, version: int, producer: Identity, commit: bool = True) -> Any:
        request = EndTxnRequest(
            transactional_id="t", producer_id=producer.producer_id, producer_epoch=producer.epoch, committed=commit
        )
        return self.send(EndTxnHandler, version, request)


class RangeTests(Case):
    def test_versions_are_kafkas(self) -> None:
        check_versions(self, HANDLERS)

    def test_refusals_are_encodable_in_every_version(self) -> None:
        marker = WritableTxnMarker(topics=[WritableTxnMarkerTopic(name="events", partition_indexes=[0])])
        check_refusals(self.handlers.values(), {WriteTxnMarkersHandler: WriteTxnMarkersRequest(markers=[marker])})


class ProducerTests(Case):
    def test_a_transaction_in_every_version(self) -> None:
        for version in range(6):
            producer = self.producer(version=version)
            self.assertEqual(self.add(version, producer, EVENTS, ("logs", 3)), {EVENTS: 0, ("logs", 3): 0})
            answer = self.end(version, producer)
            self.assertEqual(answer.error_code, 0)
            following = (producer.producer_id, producer.epoch + 1) if version == 5 else (-1, -1)
            self.assertEqual((answer.producer_id, answer.producer_epoch), following)
            self.assertEqual(self.world.state().client_version, 2 if version == 5 else 0)
        self.assertEqual(len(self.world.markers.written[EVENTS]), 6)

    def test_the_version_says_which_transactions_are_used(self) -> None:
        for version, expected in ((0, 0), (3, 0), (4, 2), (5, 2)):
            self.add(version, self.producer())
            self.assertEqual(self.world.state().client_version, expected)
            self.initialise()

    def test_a_fenced_producer_is_told_so_in_its_own_words(self) -> None:
        zombie = Identity(self.producer().producer_id, 0)
        self.producer()
        old, new = E.INVALID_PRODUCER_EPOCH, E.PRODUCER_FENCED
        for version in range(6):
            self.assertEqual(self.add(version, zombie), {EVENTS: old if version < 2 else new})
            self.assertEqual(self.end(version, zombie).error_code, old if version < 2 else new)
            if version <= 4:
                request = AddOffsetsToTxnRequest(
                    transactional_id="t", producer_id=zombie.producer_id, producer_epoch=0, group_id="g"
                )
                answer = self.send(AddOffsetsToTxnHandler, version, request)
                self.assertEqual(answer.error_code, old if version < 2 else new)
            if version >= 3:
                answer = self.initialise(version, producer_id=zombie.producer_id, producer_epoch=0)
                self.assertEqual(answer.error_code, old if version < 4 else new)

    def test_init_producer_id(self) -> None:
        self.assertEqual(self.initialise(transactional_id="").error_code, E.INVALID_REQUEST)
        self.assertEqual(self.initialise(producer_id=1).error_code, E.INVALID_REQUEST)
        self.assertEqual(self.initialise(producer_epoch=1).error_code, E.INVALID_REQUEST)
        self.assertEqual(self.initialise(transaction_timeout_ms=900_001).error_code, E.INVALID_TRANSACTION_TIMEOUT)
        producer = self.producer()
        went_on = self.producer(producer_id=producer.producer_id, producer_epoch=producer.epoch)
        self.assertEqual(went_on, (producer.producer_id, producer.epoch + 1))

    def test_all_partitions_or_none(self) -> None:
        producer = self.producer()
        for version in range(6):
            found = self.add(version, producer, EVENTS, ("events", 10), ("nowhere", 0), ("events", -1))
            unknown = E.UNKNOWN_TOPIC_OR_PARTITION
            expected = {EVENTS: E.OPERATION_NOT_ATTEMPTED, ("events", 10): unknown, ("nowhere", 0): unknown}
            self.assertEqual(found, {**expected, ("events", -1): unknown})
        self.assertEqual(self.world.state().partitions, frozenset())

    def test_the_nodes_own_topics_are_for_brokers_to_add(self) -> None:
        own = (OFFSETS_TOPIC, 0)
        producer = self.producer()
        for version in range(4):
            codes = {EVENTS: E.OPERATION_NOT_ATTEMPTED, own: E.TOPIC_AUTHORIZATION_FAILED}
            self.assertEqual(self.add(version, producer, EVENTS, own), codes)
        self.assertEqual(self.add(4, producer, own), {own: E.UNKNOWN_TOPIC_OR_PARTITION})  # there is none in this world

    def test_it_is_answered_as_it_was_asked(self) -> None:
        producer = self.producer()
        asked = [("events", [1, 1]), ("logs", []), ("events", [2])]
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id="t",
            v3_and_below_producer_id=producer.producer_id,
            v3_and_below_topics=[AddPartitionsToTxnTopic(name=name, partitions=some) for name, some in asked],
        )
        results = self.send(AddPartitionsToTxnHandler, 3, request).results_by_topic_v3_and_below
        answered = [(topic.name, [each.partition_index for each in topic.results_by_partition]) for topic in results]
        self.assertEqual(answered, asked)

    def test_verifying(self) -> None:
        producer = self.producer()
        self.add(3, producer)
        self.assertEqual(
            self.add(5, producer, EVENTS, ("logs", 0), verify_only=True),
            {EVENTS: 0, ("logs", 0): E.TRANSACTION_ABORTABLE},
        )
        self.assertEqual(self.world.state().partitions, {EVENTS})

    def test_several_transactions_in_one_request(self) -> None:
        wanted = [
            AddPartitionsToTxnTransaction(
                transactional_id=name,
                producer_id=self.producer(transactional_id=name).producer_id,
                producer_epoch=epoch,
                topics=[AddPartitionsToTxnTopic(name="events", partitions=[1])],
            )
            for name, epoch in (("t", 0), ("u", 7))
        ]
        answer = self.send(AddPartitionsToTxnHandler, 5, AddPartitionsToTxnRequest(transactions=wanted))
        codes = [
            each.topic_results[0].results_by_partition[0].partition_error_code for each in answer.results_by_transaction
        ]
        self.assertEqual(codes, [0, E.PRODUCER_FENCED])

    def test_a_groups_offsets(self) -> None:
        for version in range(5):
            producer = self.producer()
            request = AddOffsetsToTxnRequest(
                transactional_id="t", producer_id=producer.producer_id, producer_epoch=producer.epoch, group_id="g"
            )
            self.assertEqual(self.send(AddOffsetsToTxnHandler, version, request).error_code, 0)
            self.assertEqual(self.world.state().partitions, {TopicPartition(OFFSETS_TOPIC, 0)})
            self.initialise()


class MarkerTests(Case):
    def test_a_code_for_each_partition(self) -> None:
        self.world.markers.refuse(TopicPartition("logs", 1), E.NOT_LEADER_OR_FOLLOWER)
        self.world.markers.failing[TopicPartition("logs", 2)] = OSError("a wire was cut")

        def marker(producer_id: int, committed: bool, **topics: list[int]) -> WritableTxnMarker:
            return WritableTxnMarker(
                producer_id=producer_id,
                producer_epoch=3,
                transaction_result=committed,
                coordinator_epoch=9,
                topics=[WritableTxnMarkerTopic(name=name, partition_indexes=some) for name, some in topics.items()],
            )

        request = WriteTxnMarkersRequest(
            markers=[marker(1, True, events=[0, 1], logs=[1, 2]), marker(2, False, events=[0])]
        )
        answer = self.send(WriteTxnMarkersHandler, 1, request)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        codes = {
            (each.producer_id, topic.name, partition.partition_index): partition.error_code
            for each in answer.markers
            for topic in each.topics
            for partition in topic.partitions
        }
        refused, failed = E.NOT_LEADER_OR_FOLLOWER, E.UNKNOWN_SERVER_ERROR
        first = {(1, "events", 0): 0, (1, "events", 1): 0, (1, "logs", 1): refused, (1, "logs", 2): failed}
        self.assertEqual(codes, {**first, (2, "events", 0): 0})
        written = self.world.markers.written[EVENTS]
        self.assertEqual(written, [TransactionMarker(1, 3, True, 9), TransactionMarker(2, 3, False, 9)])

    def test_nothing_to_write(self) -> None:
        self.assertEqual(self.send(WriteTxnMarkersHandler, 1, WriteTxnMarkersRequest()).markers, [])
        empty = [WritableTxnMarker(producer_id=1, topics=[WritableTxnMarkerTopic(name="events")])]
        self.assertEqual(self.send(WriteTxnMarkersHandler, 1, WriteTxnMarkersRequest(markers=empty)).markers, [])

    def test_markers_of_no_producer(self) -> None:
        for producer_id, epoch, code in ((-1, 0, E.INVALID_PRODUCER_ID_MAPPING), (1, -1, E.INVALID_PRODUCER_EPOCH)):
            topics = [WritableTxnMarkerTopic(name="events", partition_indexes=[0])]
            marker = WritableTxnMarker(producer_id=producer_id, producer_epoch=epoch, topics=topics)
            answer = self.send(WriteTxnMarkersHandler, 1, WriteTxnMarkersRequest(markers=[marker]))
            self.assertEqual(answer.markers[0].topics[0].partitions[0].error_code, code)
        self.assertEqual(self.world.markers.written, {})


class LookingTests(Case):
    def test_describe(self) -> None:
        producer = self.producer()
        self.add(5, producer, EVENTS, ("logs", 3), ("events", 1))
        request = DescribeTransactionsRequest(transactional_ids=["t", "nobody", "", "t"])
        known, unknown, empty = self.send(DescribeTransactionsHandler, 0, request).transaction_states
        self.assertEqual((known.error_code, known.transactional_id, known.transaction_state), (0, "t", "Ongoing"))
        self.assertEqual((known.producer_id, known.producer_epoch, known.transaction_timeout_ms), (*producer, 60_000))
        self.assertEqual(known.transaction_start_time_ms, self.world.state().start_ms)
        self.assertEqual([(each.topic, each.partitions) for each in known.topics], [("events", [0, 1]), ("logs", [3])])
        self.assertEqual((unknown.transactional_id, unknown.error_code), ("nobody", E.TRANSACTIONAL_ID_NOT_FOUND))
        self.assertEqual(empty.error_code, E.INVALID_REQUEST)

    def test_list_in_every_version(self) -> None:
        self.add(5, self.producer())
        self.producer(transactional_id="u")
        self.world.advance(2)
        for version in range(3):
            request = ListTransactionsRequest(state_filters=["Ongoing", "Nonsense"])
            if version >= 1:
                request.duration_filter = 1_000
            if version >= 2:
                request.transactional_id_pattern = "[a-t]"
            answer = self.send(ListTransactionsHandler, version, request)
            self.assertEqual(answer.unknown_state_filters, ["Nonsense"])
            found = [(each.transactional_id, each.transaction_state) for each in answer.transaction_states]
            self.assertEqual(found, [("t", "Ongoing")])
        everything = self.send(ListTransactionsHandler, 2, ListTransactionsRequest()).transaction_states
        self.assertEqual([each.transactional_id for each in everything], ["t", "u"])
        bad = self.send(ListTransactionsHandler, 2, ListTransactionsRequest(transactional_id_pattern="("))
        self.assertEqual(bad.error_code, E.INVALID_REGULAR_EXPRESSION)

    def test_find_coordinator(self) -> None:
        for version in range(1, 7):
            batched = version >= 4
            request = FindCoordinatorRequest(key_type=1, **({"coordinator_keys": ["t"]} if batched else {"key": "t"}))
            answer = self.send(FindCoordinatorHandler, version, request)
            found = answer.coordinators[0] if batched else answer
            self.assertEqual((found.error_code, found.node_id, found.host, found.port), (0, 1, "localhost", 9092))

    def test_an_address_that_each_client_has_dialled(self) -> None:
        """A listener on every interface has no host of its own: the client is sent where it is."""
        self.patch(self.world.metadata, "brokers", lambda: [Broker(1, 1, (Endpoint("PLAINTEXT", "", 9092),))])
        request = FindCoordinatorRequest(key_type=1, coordinator_keys=["t"])
        self.assertEqual(self.send(FindCoordinatorHandler, 6, request).coordinators[0].host, "localhost")
