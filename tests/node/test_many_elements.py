"""A node that is asked about many things does it in many steps, whatever the API: no piece of its work grows with the request.

Nothing is timed: every step is made a slice of its own, and the slices are counted. Few requests are answered the same.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import ErrorCode
from chronik.listeners import slices
from chronik.listeners.parts import PART
from chronik.model import uuid_to_text
from chronik.steps import Steps
from chronik.testing import Chronik
from chronik.wire.apis import ApiKey, message_classes
from chronik.wire.codec import Request
from chronik.wire.frames import encode_request, response_body
from chronik.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from chronik.wire.messages.find_coordinator import FindCoordinatorRequest
from chronik.wire.messages.initialize_share_group_state import (
    InitializeShareGroupStateRequest,
    InitializeStateData,
)
from chronik.wire.messages.initialize_share_group_state import PartitionData as InitializePartitionData
from chronik.wire.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from chronik.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from chronik.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from chronik.wire.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics
from chronik.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from chronik.wire.messages.share_acknowledge import (
    AcknowledgementBatch,
    AcknowledgePartition,
    AcknowledgeTopic,
    ShareAcknowledgeRequest,
)
from chronik.wire.messages.share_fetch import FetchPartition as FetchSharePartition
from chronik.wire.messages.share_fetch import FetchTopic as FetchShareTopic
from chronik.wire.messages.share_fetch import ShareFetchRequest
from chronik.wire.records import Record, encode_batch
from chronik.wire.schema import Field, Struct

MANY = 1200
IN_STEPS = {
    ApiKey.LIST_OFFSETS: ("topics", "topics.partitions"),
    ApiKey.FETCH: ("topics", "topics.partitions", "forgotten_topics_data", "forgotten_topics_data.partitions"),
    ApiKey.METADATA: ("topics",),
    ApiKey.OFFSET_FETCH: ("groups", "groups.topics", "groups.topics.partition_indexes"),
    ApiKey.DESCRIBE_GROUPS: ("groups",),
    ApiKey.CREATE_TOPICS: ("topics",),
    ApiKey.DELETE_TOPICS: ("topics",),
    ApiKey.DELETE_RECORDS: ("topics", "topics.partitions"),
    ApiKey.OFFSET_FOR_LEADER_EPOCH: ("topics", "topics.partitions"),
    ApiKey.ADD_PARTITIONS_TO_TXN: ("transactions", "transactions.topics", "transactions.topics.partitions"),
    ApiKey.WRITE_TXN_MARKERS: ("markers", "markers.topics", "markers.topics.partition_indexes"),
    ApiKey.DESCRIBE_CONFIGS: ("resources",),
    ApiKey.ALTER_CONFIGS: ("resources",),
    ApiKey.ALTER_REPLICA_LOG_DIRS: ("dirs", "dirs.topics", "dirs.topics.partitions"),
    ApiKey.DESCRIBE_LOG_DIRS: ("topics", "topics.partitions"),
    ApiKey.CREATE_PARTITIONS: ("topics",),
    ApiKey.ELECT_LEADERS: ("topic_partitions", "topic_partitions.partitions"),
    ApiKey.INCREMENTAL_ALTER_CONFIGS: ("resources",),
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: ("topics", "topics.partitions"),
    ApiKey.ALTER_CLIENT_QUOTAS: ("entries",),
    ApiKey.DESCRIBE_QUORUM: ("topics", "topics.partitions"),
    ApiKey.DESCRIBE_PRODUCERS: ("topics", "topics.partition_indexes"),
    ApiKey.DESCRIBE_TRANSACTIONS: ("transactional_ids",),
    ApiKey.CONSUMER_GROUP_DESCRIBE: ("group_ids",),
    ApiKey.DESCRIBE_TOPIC_PARTITIONS: ("topics",),
    ApiKey.SHARE_GROUP_DESCRIBE: ("group_ids",),
    ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS: ("groups", "groups.topics", "groups.topics.partitions"),
    ApiKey.ALTER_SHARE_GROUP_OFFSETS: ("topics", "topics.partitions"),
    ApiKey.DELETE_SHARE_GROUP_OFFSETS: ("topics",),
}
"""The arrays of requests whose elements are each a step, or more."""
IN_PARTS = {
    ApiKey.PRODUCE: ("topic_data", "topic_data.partition_data"),
    ApiKey.OFFSET_COMMIT: ("topics", "topics.partitions"),
    ApiKey.TXN_OFFSET_COMMIT: ("topics", "topics.partitions"),
    ApiKey.OFFSET_DELETE: ("topics", "topics.partitions"),
    ApiKey.FIND_COORDINATOR: ("coordinator_keys",),
    ApiKey.LEAVE_GROUP: ("members",),
    ApiKey.DELETE_GROUPS: ("groups_names",),
    ApiKey.INITIALIZE_SHARE_GROUP_STATE: ("topics", "topics.partitions"),
    ApiKey.READ_SHARE_GROUP_STATE: ("topics", "topics.partitions"),
    ApiKey.WRITE_SHARE_GROUP_STATE: ("topics", "topics.partitions"),
    ApiKey.DELETE_SHARE_GROUP_STATE: ("topics", "topics.partitions"),
    ApiKey.READ_SHARE_GROUP_STATE_SUMMARY: ("topics", "topics.partitions"),
}
"""Those of requests that are served as several."""
IN_SESSIONS = {ApiKey.SHARE_FETCH, ApiKey.SHARE_ACKNOWLEDGE}
"""APIs of which only a member of a session can ask much."""
OF_FEW = {
    ApiKey.JOIN_GROUP,  # a member's protocols
    ApiKey.LIST_GROUPS,  # states and types
    ApiKey.LIST_TRANSACTIONS,
    ApiKey.DESCRIBE_CLIENT_QUOTAS,  # the kinds of an entity
    ApiKey.LIST_CONFIG_RESOURCES,  # the kinds of resources
    ApiKey.SYNC_GROUP,  # a group's members
    ApiKey.CONSUMER_GROUP_HEARTBEAT,  # what one member subscribes to and owns
    ApiKey.LIST_PARTITION_REASSIGNMENTS,  # there is none
    ApiKey.UPDATE_FEATURES,
    ApiKey.SHARE_GROUP_HEARTBEAT,  # what one member subscribes to
}
"""APIs whose requests have arrays that are short by nature."""

_TEXTS = {"timeout_ms": 30_000, "acks": -1, "num_partitions": -1, "replication_factor": -1, "count": 2}


def _value(field: Field, version: int, number: int) -> Any:
    if field.kind == "array":
        return [_element(field, version, number)]
    if field.kind == "struct":
        return _struct(field.element, version, number)
    if field.kind == "string":
        return f"name-{number}"
    if field.kind == "uuid":
        return struct.pack(">QQ", 7, number)
    return _TEXTS.get(field.name, field.default)


def _element(field: Field, version: int, number: int) -> Any:
    if not isinstance(field.element, Field):
        return _struct(field.element, version, number)
    return number if field.element.kind == "int32" else _value(field.element, version, number)


def _struct(cls: type[Struct], version: int, number: int) -> Any:
    """A struct with one element in each of its arrays; `number` makes it differ from others."""
    made = cls()
    for field in cls.FIELDS:
        if (
            field.versions.has(version)
            and field.tag is None
            and (field.kind == "array" or not field.nullable.has(version))
        ):
            setattr(made, field.name, _value(field, version, number))
    for name in ("partition_index", "partition", "index"):
        if hasattr(made, name):
            setattr(made, name, number)
    return made


def request_of(key: ApiKey, version: int, path: str, count: int) -> Request:
    """A request with `count` elements in the array at `path`."""
    request = where = _struct(message_classes(key)[0], version, 0)
    *outer, last = path.split(".")
    for name in outer:
        where = getattr(where, name)[0]
    (field,) = (field for field in where.FIELDS if field.name == last)
    setattr(where, last, [_element(field, version, number) for number in range(count)])
    return request


def arrays(cls: type[Struct], version: int) -> Iterator[Field]:
    return (f for f in cls.FIELDS if f.kind == "array" and f.versions.has(version) and f.tag is None)


class ManyElementTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = Chronik(group_share_enable=True).start()
        self.addCleanup(self.node.stop)
        self.versions = {key: highest for key, _, highest in self.node._node.table.ranges()}
        self.steps = 0
        self.patch(slices, "SLICE_SECONDS", -1.0)
        sliced = slices.Slices._sliced

        def counted(taking: slices.Slices, steps: Steps[Any], result: list[Any]) -> Iterator[None]:
            self.steps += 1
            for each in sliced(taking, steps, result):
                self.steps += 1
                yield each

        self.patch(slices.Slices, "_sliced", counted)

    def ask(self, request: Request, version: int) -> Any:
        """The decoded answer."""
        with socket.create_connection(("127.0.0.1", self.node.port), 60) as connection:
            return self.ask_on(connection, request, version)

    def ask_on(self, connection: socket.socket, request: Request, version: int) -> Any:
        """The same, on a connection."""
        connection.sendall(b"".join(encode_request(request, version, 7, "many")))
        stream = connection.makefile("rb")
        frame = stream.read(struct.unpack(">i", stream.read(4))[0])
        response = message_classes(ApiKey(request.API_KEY))[1]
        return response.decode(frame, version, response_body(frame, response, version)[1])[0]

    def test_every_api_with_arrays_is_here(self) -> None:
        with_arrays = {key for key, version in self.versions.items() if any(arrays(message_classes(key)[0], version))}
        self.assertEqual(with_arrays, {*IN_STEPS, *IN_PARTS, *IN_SESSIONS, *OF_FEW})

    def test_elements_are_steps(self) -> None:
        too_few = {}
        for key, paths in IN_STEPS.items():
            for path in paths:
                self.steps = 0
                self.ask(request_of(key, self.versions[key], path, MANY), self.versions[key])
                if self.steps < MANY:
                    too_few[key.name, path] = self.steps
        self.assertEqual(too_few, {})

    def test_parts_are_handled_one_by_one(self) -> None:
        """Their answers are those to the parts, put together."""
        self.coordinate_shares()
        for key, paths in IN_PARTS.items():
            handler = self.node._node.table.handlers[key]
            handle, sizes = handler.handle, []

            def counted(part: Request, context: Any, handle: Any = handle, sizes: list[int] = sizes) -> Any:
                sizes.append(len(part.encode(context.api_version)))
                return handle(part, context)

            self.patch(handler, "handle", counted)
            for path in paths:
                version = self.versions[key]
                request = request_of(key, version, path, MANY)
                sizes.clear()
                ours = self.ask(request, version)
                self.assertGreaterEqual(len(sizes), MANY / PART, path)
                self.assertLess(max(sizes), 1.2 * len(request.encode(version)) / (MANY / PART))
                theirs = self.ask(request_of(key, version, path, 20), version)
                for _ in path.split("."):
                    name = next(arrays(type(ours), version)).name
                    ours, theirs = getattr(ours, name), getattr(theirs, name)
                    if len(theirs) == 1:
                        ours, theirs = ours[0], theirs[0]
                    if not theirs:
                        break
                self.assertEqual((len(ours), ours[:20]), (MANY if theirs else 0, theirs), path)

    def coordinate_shares(self) -> None:
        """Wait until the log of share groups' state is there, and loaded."""
        topic = InitializeStateData(topic_id=b"x" * 16, partitions=[])
        for partition in range(200):
            topic.partitions.append(InitializePartitionData(partition=partition, state_epoch=1))
        request = InitializeShareGroupStateRequest(group_id="g", topics=[topic])
        codes = {ErrorCode.NOT_COORDINATOR}
        while codes != {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}:
            codes = {each.error_code for each in self.ask(request, 0).results[0].partitions}

    def test_a_share_session_of_many_partitions(self) -> None:
        self.coordinate_shares()
        self.node.create_topic("t", MANY)
        batch = encode_batch([Record(0, 1_700_000_000_000, None, b"x")])
        data = [PartitionProduceData(index=index, records=batch) for index in range(MANY)]
        self.ask(
            ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[TopicProduceData(name="t", partition_data=data)]), 12
        )
        (topic,) = self.ask(MetadataRequest(topics=[MetadataRequestTopic(name="t")]), 12).topics
        member = uuid_to_text(b"m" * 16)
        state = InitializeStateData(topic_id=topic.topic_id)
        state.partitions = [
            InitializePartitionData(partition=index, state_epoch=1, start_offset=0) for index in range(MANY)
        ]
        self.ask(InitializeShareGroupStateRequest(group_id="g", topics=[state]), 0)
        with socket.create_connection(("127.0.0.1", self.node.port), 60) as connection:
            fetch = ShareFetchRequest(
                group_id="g",
                member_id=member,
                max_wait_ms=30_000,
                min_bytes=1,
                max_bytes=1 << 24,
                max_records=2 * MANY,
                batch_size=100,
                topics=[
                    FetchShareTopic(
                        topic_id=topic.topic_id,
                        partitions=[FetchSharePartition(partition_index=index) for index in range(MANY)],
                    )
                ],
            )
            given: set[int] = set()
            while len(given) < MANY:
                self.steps = 0
                answer = self.ask_on(connection, fetch, 1)
                self.assertEqual(answer.error_code, ErrorCode.NONE)
                if fetch.share_session_epoch == 0:
                    self.assertGreaterEqual(self.steps, MANY)
                for each in answer.responses[0].partitions:
                    self.assertEqual(each.error_code, ErrorCode.NONE)
                    given |= {each.partition_index} if each.acquired_records else set()
                fetch.topics, fetch.share_session_epoch = [], fetch.share_session_epoch + 1
            said = AcknowledgeTopic(topic_id=topic.topic_id)
            for index in range(MANY):
                batches = [AcknowledgementBatch(first_offset=0, last_offset=0, acknowledge_types=[1])]
                said.partitions.append(AcknowledgePartition(partition_index=index, acknowledgement_batches=batches))
            request = ShareAcknowledgeRequest(
                group_id="g", member_id=member, share_session_epoch=fetch.share_session_epoch, topics=[said]
            )
            self.steps = 0
            answer = self.ask_on(connection, request, 1)
            self.assertGreaterEqual(self.steps, MANY)
            self.assertEqual(
                [(each.partition_index, each.error_code) for each in answer.responses[0].partitions],
                [(index, 0) for index in range(MANY)],
            )

    def test_what_many_partitions_are_asked_is_done_in_all(self) -> None:
        self.node.create_topic("t", MANY)
        indexes = range(MANY)
        batch = encode_batch([Record(0, 1_700_000_000_000, None, b"x")])
        data = [PartitionProduceData(index=index, records=batch) for index in indexes]
        for offset in range(2):
            produce = ProduceRequest(
                acks=-1, timeout_ms=30_000, topic_data=[TopicProduceData(name="t", partition_data=data)]
            )
            (produced,) = self.ask(produce, 12).responses
            answers = [(each.index, each.error_code, each.base_offset) for each in produced.partition_responses]
            self.assertEqual(answers, [(index, 0, offset) for index in indexes])
        commit = [OffsetCommitRequestPartition(partition_index=index, committed_offset=index) for index in indexes]
        request = OffsetCommitRequest(
            group_id="g",
            topics=[OffsetCommitRequestTopic(name="t", partitions=commit)],
            generation_id_or_member_epoch=-1,
        )
        self.ask(FindCoordinatorRequest(coordinator_keys=["g"]), 4)
        code = None
        while code in (None, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NOT_COORDINATOR):
            (committed,) = self.ask(request, 9).topics
            code = committed.partitions[0].error_code
        self.assertEqual(
            [(each.partition_index, each.error_code) for each in committed.partitions], [(i, 0) for i in indexes]
        )
        wanted = OffsetFetchRequestTopics(name="t", partition_indexes=list(indexes))
        fetch = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id="g", topics=[wanted])])
        (found,) = self.ask(fetch, 9).groups[0].topics
        self.assertEqual([each.committed_offset for each in found.partitions], list(indexes))
        partitions = [FetchPartition(partition=index, partition_max_bytes=1 << 20) for index in indexes]
        fetched = self.ask(
            FetchRequest(max_bytes=1 << 24, session_epoch=-1, topics=[FetchTopic(topic="t", partitions=partitions)]), 12
        )
        self.assertEqual([len(each.records) for each in fetched.responses[0].partitions], [2 * len(batch)] * MANY)
        asked = [ListOffsetsPartition(partition_index=index, timestamp=-1) for index in indexes]
        listed = self.ask(ListOffsetsRequest(topics=[ListOffsetsTopic(name="t", partitions=asked)]), 10)
        self.assertEqual([each.offset for each in listed.topics[0].partitions], [2] * MANY)
