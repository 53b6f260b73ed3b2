"""Batches compressed anew: their bounds, their order, and what becomes of them when something comes in between."""

from __future__ import annotations

import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chronik.broker.outcomes import Appended
from chronik.broker.preparation import SMALL_BYTES, Turn, max_decompressed_bytes
from chronik.controller.commands import AlterConfigs, ConfigOperation, ConfigResource, Operation, ResourceType
from chronik.errors import ErrorCode, KafkaError
from chronik.wire.batches import assemble
from chronik.wire.compression import Codec
from chronik.wire.records import Record, decode_records, encode_batch, read_header
from tests.listeners.handlers.hosting import NOW, Hosting

MEBIBYTE = 1 << 20
LARGE = 2 * SMALL_BYTES


def batch(size: int, codec: Codec = Codec.NONE, fill: int = 0, **options: Any) -> bytearray:
    """One record of `size` times the same byte."""
    return encode_batch([Record(0, NOW, None, bytes([fill]) * size)], codec=codec, **options)


class RecompressionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.hosting = Hosting()
        self.outcomes: list[Any] = []

    def append(self, topic: str, data: bytearray, name: Any = None) -> Appended | Turn:
        """Append as producers do; what is answered later goes to `outcomes`, as its offset or error code after `name`."""
        preparation = self.hosting.partition(topic).preparation
        assert preparation is not None

        def done(result: Any) -> None:
            self.outcomes.append((name, result.code if isinstance(result, KafkaError) else result.base_offset))

        return preparation.append(data, NOW, 1, done)

    def stored(self, topic: str) -> list[tuple[int, Codec, int]]:
        """(offset, codec, first byte) of the batches of a topic."""
        partition = self.hosting.partition(topic)
        found, offset = [], 0
        while offset < partition.high_watermark:
            records = bytes(partition.read(offset, 1, False, True).records)
            (record,) = decode_records(records, 1 << 26)
            assert record.value is not None
            found.append((record.offset, read_header(records).codec, record.value[0]))
            offset += 1
        return found

    def test_the_bound(self) -> None:
        bounds = [max_decompressed_bytes(size * MEBIBYTE) for size in (1, 3, 4, 5, 100)]
        self.assertEqual([bound / MEBIBYTE for bound in bounds], [4, 12, 16, 16, 100])

    def test_a_bomb_is_refused_at_once(self) -> None:
        for target in ("gzip", "lz4", "snappy", "zstd"):
            self.hosting.create(target, compression_type=target)
            bomb = batch(100 * MEBIBYTE, Codec.ZSTD if target != "zstd" else Codec.GZIP)
            self.assertLess(len(bomb), 200_000)
            before = time.process_time()
            self.append(target, bomb, target)
            self.assertLess(time.process_time() - before, 0.05)
            self.assertEqual(self.outcomes.pop(), (target, ErrorCode.MESSAGE_TOO_LARGE))
            self.append(target, batch(3 * MEBIBYTE, Codec.LZ4 if target != "lz4" else Codec.GZIP), target)
            self.assertEqual(self.outcomes.pop(), (target, 0))
            self.assertEqual(self.stored(target), [(0, Codec[target.upper()], 0)])

    def test_what_grows_beyond_a_message_is_refused(self) -> None:
        self.hosting.create("plain", compression_type="uncompressed")
        partition = self.hosting.partition("plain")
        self.append("plain", batch(2 * MEBIBYTE, Codec.GZIP))
        self.assertEqual(self.outcomes.pop(), (None, ErrorCode.MESSAGE_TOO_LARGE))
        self.assertEqual(partition.log.end_offset, 0)
        received = partition.metrics.bytes_received
        sent = batch(MEBIBYTE // 2, Codec.GZIP)
        self.append("plain", sent)
        self.assertEqual(self.outcomes.pop(), (None, 0))
        self.assertEqual(len(partition.read(0, 1, True, True).records), partition.log.size_bytes)
        self.assertEqual(partition.metrics.bytes_received - received, len(sent))

    def test_small_ones_are_stored_at_once_and_large_ones_hold_nobody_up(self) -> None:
        self.hosting.create("t", compression_type="gzip")
        self.hosting.threads.held = []
        for data, at_once in ((batch(1000), True), (batch(MEBIBYTE // 2), False), (batch(LARGE, Codec.LZ4, 2), False)):
            before = time.process_time()
            turn = self.append("t", data)
            self.assertLess(time.process_time() - before, 0.01)
            self.assertEqual(isinstance(turn, Appended), at_once)
        self.assertEqual(len(self.hosting.threads.held), 2)

    def test_the_order_is_that_of_the_requests(self) -> None:
        """Whichever is compressed first; what needs no compression, or little, queues too."""
        self.hosting.create("t", compression_type="lz4")
        threads = self.hosting.threads
        threads.held = []
        sent = [batch(LARGE, fill=1), batch(10, fill=2), batch(LARGE, fill=3), batch(10, Codec.LZ4, 4)]
        for number, data in enumerate(sent):
            self.assertIsInstance(self.append("t", data, number), Turn)
        self.assertEqual(threads.bytes, sum(map(len, sent)))
        self.assertTrue(self.hosting.partition("t").is_awaited)
        self.assertEqual(len(threads.held), 2)
        threads.do(1)
        self.assertEqual(self.outcomes, [])
        threads.do(0)
        self.assertEqual(self.outcomes, [(n, n) for n in range(4)])
        self.assertEqual(self.stored("t"), [(n, Codec.LZ4, n + 1) for n in range(4)])
        self.assertEqual((threads.bytes, self.hosting.partition("t").is_awaited), (0, False))
        self.assertIsInstance(self.append("t", batch(10)), Appended)

    def test_a_long_queue_is_appended_in_slices(self) -> None:
        self.hosting.create("t", compression_type="lz4")
        self.hosting.threads.held = []
        for number in range(20):
            self.append("t", batch(10 if number else LARGE), number)
        self.hosting.threads.do()
        seen = [len(self.outcomes)]
        while len(self.outcomes) < 20:
            self.hosting.clock.advance(0)
            seen.append(len(self.outcomes))
        self.assertEqual(seen, [8, 20])  # the clock goes on to the end of what is due
        self.assertEqual([name for name, _ in self.outcomes], list(range(20)))

    def test_a_damaged_batch_fails_alone(self) -> None:
        self.hosting.create("t", compression_type="zstd")
        self.hosting.threads.held = []
        damaged = batch(LARGE, Codec.GZIP)
        broken = encode_batch([Record(0, NOW, None, b"x" * LARGE)])
        broken[21:23] = (Codec.GZIP).to_bytes(2, "big")
        self.append("t", damaged, "good")
        self.append("t", assemble(read_header(broken), bytes(broken[61:])), "bad")  # only its CRC is right
        self.append("t", batch(10, fill=7), "next")
        while self.hosting.threads.held:
            self.hosting.threads.do()
        self.assertEqual(self.outcomes, [("good", 0), ("bad", ErrorCode.CORRUPT_MESSAGE), ("next", 1)])

    def test_who_gives_up_is_not_appended_and_lets_the_next_go_on(self) -> None:
        self.hosting.create("t", compression_type="lz4")
        self.hosting.threads.held = []
        turn = self.append("t", batch(LARGE), "first")
        assert isinstance(turn, Turn)
        self.append("t", batch(10, fill=2), "second")
        preparation = self.hosting.partition("t").preparation
        assert preparation is not None
        self.assertTrue(preparation.give_up(turn))
        self.assertFalse(preparation.give_up(turn))
        self.assertEqual(self.outcomes, [("second", 0)])
        self.hosting.threads.do()
        self.assertEqual(self.stored("t"), [(0, Codec.LZ4, 2)])
        self.assertEqual(self.hosting.threads.bytes, 0)

    def test_a_deleted_topic(self) -> None:
        self.hosting.create("t", compression_type="lz4")
        self.hosting.threads.held = []
        self.append("t", batch(LARGE), 1)
        self.append("t", batch(10), 2)
        self.hosting.delete("t")
        self.assertEqual(self.outcomes, [(n, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION) for n in (1, 2)])
        self.hosting.threads.do()  # and nothing happens
        self.assertEqual((len(self.outcomes), self.hosting.threads.bytes), (2, 0))

    def test_the_codec_changes_meanwhile(self) -> None:
        for after, expected in (("snappy", Codec.SNAPPY), ("producer", Codec.LZ4)):
            self.hosting.create(after, compression_type="lz4")
            self.hosting.threads.held = []
            self.append(after, batch(LARGE, fill=1), 1)
            self.append(after, batch(10, Codec.LZ4, 2), 2)
            change = ConfigOperation("compression.type", Operation.SET, after)
            self.hosting.cluster.do(AlterConfigs(((ConfigResource(ResourceType.TOPIC, after), (change,)),)))
            self.assertIsNotNone(self.hosting.partition(after).preparation)  # it queues behind the others
            self.append(after, batch(10, Codec.SNAPPY, 3), 3)
            while self.hosting.threads.held:
                self.hosting.threads.do()
            self.assertEqual([name for name, _ in self.outcomes[-3:]], [1, 2, 3])
            self.assertEqual(
                self.stored(after),
                [(0, expected, 1), (1, expected, 2), (2, Codec.SNAPPY, 3)],
            )
            self.assertEqual(self.hosting.partition(after).preparation is None, after == "producer")
