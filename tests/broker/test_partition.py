"""What one partition accepts, beside what the handlers' tests ask of it."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from chronik.broker.partition import max_decompressed_bytes
from chronik.errors import ErrorCode, KafkaError
from chronik.wire.compression import Codec
from chronik.wire.records import Record, encode_batch, read_header
from tests.listeners.handlers.hosting import NOW, Hosting

MEBIBYTE = 1 << 20


def batch(size: int, codec: Codec) -> bytearray:
    """One record of `size` zeros."""
    return encode_batch([Record(0, NOW, None, bytes(size))], codec=codec)


class RecompressionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.hosting = Hosting()

    def test_the_bound(self) -> None:
        bounds = [max_decompressed_bytes(size * MEBIBYTE) for size in (1, 3, 4, 5, 100)]
        self.assertEqual([bound / MEBIBYTE for bound in bounds], [4, 12, 16, 16, 100])

    def test_a_bomb_is_refused_at_once(self) -> None:
        for target in ("gzip", "lz4", "snappy", "zstd"):
            self.hosting.create(target, compression_type=target)
            partition = self.hosting.partition(target)
            bomb = batch(100 * MEBIBYTE, Codec.ZSTD if target != "zstd" else Codec.GZIP)
            self.assertLess(len(bomb), 200_000)
            before = time.process_time()
            error = self.assertRaises(KafkaError, partition.append, bomb, NOW)
            self.assertLess(time.process_time() - before, 0.05)
            self.assertEqual(error.code, ErrorCode.MESSAGE_TOO_LARGE)
            self.assertIn(f"{target}-0: cannot be compressed anew", str(error))
            partition.append(batch(3 * MEBIBYTE, Codec.LZ4 if target != "lz4" else Codec.GZIP), NOW)
            stored = bytes(partition.read(0, MEBIBYTE, True, True).records)
            self.assertEqual(read_header(stored).codec, Codec[target.upper()])

    def test_what_grows_beyond_a_message_is_refused(self) -> None:
        self.hosting.create("plain", compression_type="uncompressed")
        partition = self.hosting.partition("plain")
        error = self.assertRaises(KafkaError, partition.append, batch(2 * MEBIBYTE, Codec.GZIP), NOW)
        self.assertEqual(error.code, ErrorCode.MESSAGE_TOO_LARGE)
        self.assertEqual(partition.log.end_offset, 0)
        partition.append(batch(MEBIBYTE // 2, Codec.GZIP), NOW)
        self.assertEqual(len(partition.read(0, 1, True, True).records), partition.log.size_bytes)
