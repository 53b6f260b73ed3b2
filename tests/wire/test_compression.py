"""Compression: round trips, the forms other writers use, damage, and bombs."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import cramjam
import lz4.frame
from twisted.trial.unittest import SynchronousTestCase

import chronik
from chronik.errors import ErrorCode, KafkaError
from chronik.wire.compression import Codec, codec_of, compress, decompress

TEXT = b"".join(b'{"id": %d, "name": "name %d"}' % (i, i * 7) for i in range(8000))
SAMPLES = {
    "empty": b"",
    "one byte": b"a",
    "text": TEXT,
    "noise": os.urandom(200_000),
    "zeros": bytes(1_000_000),
    "a block": TEXT[: 32 * 1024],
    "a block and a byte": TEXT[: 32 * 1024 + 1],
    "128 KiB": TEXT[: 128 * 1024],
}
COMPRESSING = [codec for codec in Codec if codec is not Codec.NONE]


class CompressionTestCase(SynchronousTestCase):
    def refused(self, code: ErrorCode, codec: Codec, data: bytes | memoryview, max_bytes: int) -> None:
        error = self.assertRaises(KafkaError, decompress, codec, data, max_bytes)
        self.assertEqual(error.code, code, str(error))


class RoundTripTests(CompressionTestCase):
    def test_all_codecs(self) -> None:
        for codec in Codec:
            for name, data in SAMPLES.items():
                for source in (data, bytearray(data), memoryview(data)):
                    packed = compress(codec, source)
                    self.assertEqual(bytes(decompress(codec, packed, len(data))), data, f"{codec.name} {name}")
                    self.assertEqual(bytes(decompress(codec, memoryview(packed), 1 << 30)), data)

    def test_one_byte_too_many(self) -> None:
        for codec in Codec:
            for data in SAMPLES.values():
                if data:
                    self.refused(ErrorCode.MESSAGE_TOO_LARGE, codec, bytes(compress(codec, data)), len(data) - 1)

    def test_levels(self) -> None:
        """compression.gzip.level and its like reach the compressor."""
        for codec, low, high in ((Codec.GZIP, 1, 9), (Codec.LZ4, 1, 12), (Codec.ZSTD, -5, 15)):
            quick, small = compress(codec, TEXT, low), compress(codec, TEXT, high)
            self.assertLess(len(small), len(quick))
            self.assertEqual(bytes(decompress(codec, small, len(TEXT))), TEXT)

    def test_numbers(self) -> None:
        self.assertEqual([codec_of(number) for number in range(5)], list(Codec))
        for number in (-1, 5, 7):
            error = self.assertRaises(KafkaError, codec_of, number)
            self.assertEqual(error.code, ErrorCode.UNSUPPORTED_COMPRESSION_TYPE)


class FormTests(CompressionTestCase):
    """The containers, as Kafka's clients write and expect them."""

    def test_lz4_blocks_are_independent(self) -> None:
        frame = lz4.frame.get_frame_info(bytes(compress(Codec.LZ4, TEXT)))
        self.assertEqual((frame["block_linked"], frame["block_size"]), (False, 64 * 1024))
        self.assertEqual(frame["content_size"], 0)

    def test_lz4_as_others_write_it(self) -> None:
        for options in (
            {"block_linked": True},
            {"content_checksum": True, "block_checksum": True},
            {"store_size": True},
        ):
            packed = lz4.frame.compress(TEXT, **options)
            self.assertEqual(decompress(Codec.LZ4, packed, len(TEXT)), TEXT)

    def test_snappy_is_xerial_framed(self) -> None:
        packed = bytes(compress(Codec.SNAPPY, SAMPLES["a block and a byte"]))
        self.assertEqual(packed[:16], b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1))
        (first,) = struct.unpack_from(">i", packed, 16)
        (second,) = struct.unpack_from(">i", packed, 20 + first)
        self.assertEqual(len(packed), 24 + first + second)
        self.assertEqual(bytes(cramjam.snappy.decompress_raw(packed[20 : 20 + first])), SAMPLES["a block"])

    def test_snappy_without_a_frame(self) -> None:
        """Some clients (sarama in its day) send one raw block."""
        packed = bytes(cramjam.snappy.compress_raw(TEXT))
        self.assertEqual(bytes(decompress(Codec.SNAPPY, packed, len(TEXT))), TEXT)
        self.refused(ErrorCode.MESSAGE_TOO_LARGE, Codec.SNAPPY, packed, len(TEXT) - 1)

    def test_gzip_members(self) -> None:
        packed = gzip.compress(TEXT[:1000]) + gzip.compress(b"") + gzip.compress(TEXT[1000:])
        self.assertEqual(decompress(Codec.GZIP, packed, len(TEXT)), TEXT)
        self.refused(ErrorCode.MESSAGE_TOO_LARGE, Codec.GZIP, packed, len(TEXT) - 1)

    def test_zstd_as_others_write_it(self) -> None:
        """With and without a declared size, in one segment or several blocks, in one frame or two."""
        stream = cramjam.zstd.Compressor(3)
        undeclared = b""
        for start in range(0, len(TEXT), 50_000):
            stream.compress(TEXT[start : start + 50_000])
            undeclared += bytes(stream.flush())
        undeclared += bytes(stream.finish())
        declared = bytes(cramjam.zstd.compress(TEXT))
        self.assertNotEqual(undeclared[4], declared[4])
        for packed, plain in ((undeclared, TEXT), (declared, TEXT), (declared + undeclared, TEXT + TEXT)):
            self.assertEqual(decompress(Codec.ZSTD, packed, len(plain)), plain)
            self.assertEqual(decompress(Codec.ZSTD, packed, 10 * len(plain)), plain)
            self.refused(ErrorCode.MESSAGE_TOO_LARGE, Codec.ZSTD, packed, len(plain) - 1)


class DamageTests(CompressionTestCase):
    def test_cut_short(self) -> None:
        """Snappy's frame has no end mark: cut between blocks it is shorter, not wrong, and the record count tells."""
        for codec in COMPRESSING:
            packed = bytes(compress(codec, TEXT))
            for size in {0, 1, 4, 7, 9, 15, 18, len(packed) // 2, len(packed) - 1}:
                if codec is Codec.SNAPPY and size == 16:
                    continue
                self.refused(ErrorCode.CORRUPT_MESSAGE, codec, packed[:size], len(TEXT))

    def test_followed_by_junk(self) -> None:
        for codec in COMPRESSING:
            for junk in (b"\x00", b"junk", bytes(100)):
                packed = bytes(compress(codec, TEXT))
                self.refused(ErrorCode.CORRUPT_MESSAGE, codec, packed + junk, len(TEXT) + 1000)

    def test_snappy_blocks_that_lie(self) -> None:
        header = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
        for size in (-1, 2**31 - 1, 5):
            self.refused(ErrorCode.CORRUPT_MESSAGE, Codec.SNAPPY, header + struct.pack(">i", size) + b"ab", 1 << 30)
        claim = b"\xff\xff\xff\xff\x07"  # 2 GiB in one byte of data
        self.refused(ErrorCode.CORRUPT_MESSAGE, Codec.SNAPPY, claim + b"\x00", 2**31 - 1)


class BombTests(CompressionTestCase):
    """100 MB of zeros, where 2 MB are allowed."""

    PLAIN = 100_000_000
    ALLOWED = 2_000_000

    def test_python_allocations(self) -> None:
        plain = bytes(self.PLAIN)
        for codec in COMPRESSING:
            packed = bytes(compress(codec, plain))
            tracemalloc.start()
            self.refused(ErrorCode.MESSAGE_TOO_LARGE, codec, packed, self.ALLOWED)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            # What zlib did not consume is kept by its object: a copy of the input, so far.
            self.assertLess(peak, 3 * self.ALLOWED + len(packed), codec.name)

    def test_a_high_limit_costs_nothing(self) -> None:
        """What is allocated follows the data, where the limit is far away."""
        for codec in COMPRESSING:
            packed = bytes(compress(codec, TEXT))
            tracemalloc.start()
            decompress(codec, packed, 1 << 30)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            self.assertLess(peak, 4 * len(TEXT), codec.name)

    def test_resident_memory(self) -> None:
        """In a process of its own, where native allocations show as well."""
        for codec in COMPRESSING:
            packed = bytes(compress(codec, bytes(self.PLAIN)))
            self.assertLess(self.growth(codec, packed, self.ALLOWED), 6 * self.ALLOWED, codec.name)
        self.assertGreater(self.growth(codec, packed, self.PLAIN), self.PLAIN)  # the measurement does see memory

    def growth(self, codec: Codec, packed: bytes, max_bytes: int) -> int:
        """By how many bytes a process grows that decompresses `packed`. (ru_maxrss would begin with the parent's.)"""
        program = (
            "import re, sys\n"
            "from chronik.errors import KafkaError\n"
            "from chronik.wire.compression import Codec, decompress\n"
            "packed = sys.stdin.buffer.read()\n"
            "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
            "before = peak()\n"
            "try: decompress(Codec[sys.argv[1]], packed, int(sys.argv[2]))\n"
            "except KafkaError: pass\n"
            "print(peak() - before)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, codec.name, str(max_bytes)],
            input=packed,
            capture_output=True,
            check=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(Path(chronik.__file__).parents[1])},
        )
        return int(done.stdout) * 1024
