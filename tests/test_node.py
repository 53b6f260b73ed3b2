"""A whole node, through real clients: what it keeps over restarts and kills, what it refuses, what it advertises."""

import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import OFFSET_END, Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka import KafkaError as RdError
from confluent_kafka.admin import AdminClient, NewTopic
from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import DataDirectoryError, ErrorCode
from chronik.testing import Chronik
from chronik.wire.apis import ApiKey, message_classes
from chronik.wire.frames import encode_request, response_body
from chronik.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from chronik.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from chronik.wire.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)

QUIET = {"log_level": 0}


def produce(broker: Chronik, topic: str, values: list[str], **config: object) -> None:
    """Write `values` with acks=all, all acknowledged or an error."""
    refused: list[object] = []
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "acks": "all", **QUIET, **config})
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: refused.append(error) if error else None)
    assert producer.flush(20) == 0
    assert not refused, refused


def consume(broker: Chronik, topic: str, count: int, partition: int = 0) -> list[str]:
    """The first `count` values of a partition, or fewer after ten seconds."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "unused", **QUIET})
    consumer.assign([TopicPartition(topic, partition, 0)])
    values: list[str] = []
    until = time.monotonic() + 10
    while len(values) < count and time.monotonic() < until:
        for message in consumer.consume(count, 0.2):
            assert not message.error(), message.error()
            values.append(message.value().decode())
    consumer.close()
    return values


def committed(broker: Chronik, group: str, topic: str) -> int:
    """The offset that `group` committed for partition 0."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": group, **QUIET})
    try:
        return int(consumer.committed([TopicPartition(topic, 0)], 10)[0].offset)
    finally:
        consumer.close()


def commit(broker: Chronik, group: str, topic: str, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": group, **QUIET})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


class KeepingTests(SynchronousTestCase):
    def setUp(self) -> None:
        scratch = TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = Path(scratch.name) / "data"

    def test_a_restart_keeps_messages_offsets_and_configs(self) -> None:
        values = [f"value {n}" for n in range(500)]
        with Chronik(directory=self.directory) as broker:
            broker.create_topic("kept", 1, {"retention.ms": "123456789"})
            produce(broker, "kept", values)
            commit(broker, "readers", "kept", 321)
        self.assertTrue((self.directory / "clean-shutdown").exists())
        with Chronik(directory=self.directory) as broker:
            self.assertEqual(consume(broker, "kept", 500), values)
            self.assertEqual(committed(broker, "readers", "kept"), 321)
            admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, **QUIET})
            self.assertEqual(admin.list_topics("kept").topics["kept"].error, None)
            produce(broker, "kept", ["one more"])
            self.assertEqual(consume(broker, "kept", 501)[500:], ["one more"])

    def test_a_killed_node_keeps_what_it_acknowledged(self) -> None:
        for durability in ("interval", "fsync"):
            directory = self.directory / durability
            values = [f"{durability} {n}" for n in range(300)]
            broker = Chronik(directory=directory, process=True, durability=durability).start()
            produce(broker, "kept", values, **{"enable.idempotence": True})
            commit(broker, "readers", "kept", 7)
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGKILL)
            broker.stop()
            self.assertFalse((directory / "clean-shutdown").exists())
            with Chronik(directory=directory) as broker:
                self.assertEqual(consume(broker, "kept", 300), values)
                self.assertEqual(committed(broker, "readers", "kept"), 7)

    def test_a_deleted_topic_comes_back_empty(self) -> None:
        with Chronik(directory=self.directory) as broker:
            admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, **QUIET})
            for round_number in range(3):
                broker.create_topic("again", 2)
                produce(broker, "again", [f"round {round_number}"], partitioner="consistent")
                self.assertEqual(len(consume(broker, "again", 1, 0) or consume(broker, "again", 1, 1)), 1)
                admin.delete_topics(["again"])["again"].result(10)
            names = os.listdir(self.directory / "topics")
            self.assertEqual(len([name for name in names if name.endswith(".deleted")]), 3)  # those written to
        with Chronik(directory=self.directory) as broker:  # a start removes what the stop left to be removed
            deadline = time.monotonic() + 5
            while any(name.endswith(".deleted") for name in os.listdir(self.directory / "topics")):
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.05)

    def test_positions_outlive_restarts_without_writes(self) -> None:
        """Each start is a new leader epoch; one that wrote nothing must still be known to clients that were told of it."""
        told: list[tuple[int, int]] = []
        for start in range(4):
            with (
                Chronik(directory=self.directory) as broker,
                socket.create_connection(("127.0.0.1", broker.port)) as connection,
            ):
                if not start:
                    broker.create_topic("quiet", 2)  # one of the two stays empty
                    produce(broker, "quiet", ["a", "b"], partitioner="consistent")
                for partition in range(2):
                    end, epoch = _end(connection, "quiet", partition)
                    told.append((partition, epoch))
                    for place, earlier in told:
                        if place == partition:
                            known, epoch_end = _epoch_end(connection, "quiet", partition, earlier)
                            self.assertGreaterEqual(known, 0, (start, place, earlier))
                            self.assertEqual(epoch_end, end, (start, place, earlier))
        self.assertEqual(len(set(told)), 8)  # every start was an epoch of its own

    def test_a_consumer_at_the_end_is_not_reset_by_restarts(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        broker = Chronik(directory=self.directory, listeners=address).start()
        try:
            broker.create_topic("quiet")
            produce(broker, "quiet", ["a", "b"])
            broker.stop()
            broker = Chronik(directory=self.directory, listeners=address).start()
            problems: list[str] = []
            consumer = Consumer(
                {
                    "bootstrap.servers": address,
                    "group.id": "unused",
                    "auto.offset.reset": "error",
                    "enable.partition.eof": True,
                    "reconnect.backoff.max.ms": 100,
                    "topic.metadata.refresh.interval.ms": 200,
                    **QUIET,
                }
            )

            def poll(until: Callable[[Message], bool], seconds: float) -> Message | None:
                deadline = time.monotonic() + seconds
                while time.monotonic() < deadline:
                    message = consumer.poll(0.1)
                    if message is None:
                        continue
                    error = message.error()
                    if error and error.code() in (RdError._AUTO_OFFSET_RESET, RdError._LOG_TRUNCATION):
                        problems.append(error.str())
                    if until(message):
                        return message
                return None

            consumer.assign([TopicPartition("quiet", 0, OFFSET_END)])
            at_end = poll(lambda message: message.error() and message.error().code() == RdError._PARTITION_EOF, 10)
            self.assertIsNotNone(at_end)
            for _ in range(2):
                broker.stop()
                broker = Chronik(directory=self.directory, listeners=address).start()
                poll(lambda _: False, 1.5)  # it connects again, learns of the new epoch, and validates its position
            produce(broker, "quiet", ["c"])
            message = poll(lambda message: not message.error(), 10)
            self.assertEqual(problems, [])
            assert message is not None
            self.assertEqual((message.offset(), message.value()), (2, b"c"))
            consumer.close()
        finally:
            broker.stop()

    def test_two_nodes_cannot_share_a_directory(self) -> None:
        with Chronik(directory=self.directory):
            with self.assertRaises(DataDirectoryError) as caught:
                Chronik(directory=self.directory).start()
            self.assertIn(f"held by process {os.getpid()}", str(caught.exception))

    def test_a_failed_start_leaves_nothing_behind(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with self.assertRaises(Exception) as caught:
                Chronik(directory=self.directory, listeners=f"PLAINTEXT://127.0.0.1:{port}").start()
            self.assertIn(f"127.0.0.1:{port}", str(caught.exception))
        with Chronik(directory=self.directory) as broker:
            produce(broker, "works", ["now"])


class ServingTests(SynchronousTestCase):
    def test_many_brokers_live_side_by_side(self) -> None:
        brokers = [Chronik().start() for _ in range(5)]
        try:
            for number, broker in enumerate(brokers):
                produce(broker, "mine", [f"of {number}"])
            for number, broker in enumerate(brokers):
                self.assertEqual(consume(broker, "mine", 1), [f"of {number}"])
        finally:
            for broker in brokers:
                broker.stop()

    def test_replication_beyond_one_node_is_refused_with_the_reason(self) -> None:
        with Chronik() as broker:
            admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, **QUIET})
            with self.assertRaises(KafkaException) as caught:
                admin.create_topics([NewTopic("three", 1, 3)])["three"].result(10)
            error = caught.exception.args[0]
            self.assertEqual(error.code(), ErrorCode.INVALID_REPLICATION_FACTOR)
            self.assertIn("3", error.str())
            self.assertIn("1 broker", error.str())

    def test_everything_advertised_answers_what_its_schema_parses(self) -> None:
        """Conformance line 1: each API and version, with a request of nothing but defaults."""
        with Chronik() as broker, socket.create_connection(("127.0.0.1", broker.port)) as connection:
            connection.settimeout(10)
            asked = ApiVersionsRequest(client_software_name="test", client_software_version="1")
            frame = _ask(connection, b"".join(encode_request(asked, 4, 0, None)))
            table, _ = ApiVersionsResponse.decode(frame, 4, response_body(frame, ApiVersionsResponse, 4)[1])
            answered = 0
            for entry in table.api_keys:
                key = ApiKey(entry.api_key)
                request_class, response_class = message_classes(key)
                for version in range(entry.min_version, entry.max_version + 1):
                    frame = _ask(connection, b"".join(encode_request(_plain(request_class), version, 7, "test")))
                    correlation, body = response_body(frame, response_class, version)
                    _, end = response_class.decode(frame, version, body)
                    self.assertEqual((correlation, end), (7, len(frame)), f"{key.name} version {version}")
                    answered += 1
            self.assertGreater(answered, 150)


def _end(connection: socket.socket, topic: str, partition: int) -> tuple[int, int]:
    """The end of a partition as ListOffsets has it: (offset, leader epoch)."""
    asked = ListOffsetsPartition(partition_index=partition, timestamp=-1)
    request = ListOffsetsRequest(topics=[ListOffsetsTopic(name=topic, partitions=[asked])])
    frame = _ask(connection, b"".join(encode_request(request, 10, 0, None)))
    answer, _ = ListOffsetsResponse.decode(frame, 10, response_body(frame, ListOffsetsResponse, 10)[1])
    (result,) = answer.topics[0].partitions
    assert not result.error_code, result
    return result.offset, result.leader_epoch


def _epoch_end(connection: socket.socket, topic: str, partition: int, epoch: int) -> tuple[int, int]:
    """What OffsetForLeaderEpoch says of `epoch`: (epoch, end offset)."""
    asked = OffsetForLeaderPartition(partition=partition, leader_epoch=epoch)
    request = OffsetForLeaderEpochRequest(topics=[OffsetForLeaderTopic(topic=topic, partitions=[asked])])
    frame = _ask(connection, b"".join(encode_request(request, 4, 0, None)))
    kind = OffsetForLeaderEpochResponse
    answer, _ = kind.decode(frame, 4, response_body(frame, kind, 4)[1])
    (result,) = answer.topics[0].partitions
    assert not result.error_code, result
    return result.leader_epoch, result.end_offset


def _plain(request_class: type) -> object:
    """A request of defaults, which asks produce for an answer."""
    request = request_class()
    if hasattr(request, "acks"):
        request.acks = 1
    return request


def _ask(connection: socket.socket, request: bytes) -> bytes:
    connection.sendall(request)
    (size,) = struct.unpack(">i", _exactly(connection, 4))
    return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        assert more, "the node closed the connection"
        data += more
    return data
