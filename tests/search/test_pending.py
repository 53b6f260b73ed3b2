"""Pieces of runs, and the tail that is made of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from twisted.trial.unittest import SynchronousTestCase

from chronik.log.committed import Run
from chronik.native.batches import look_over
from chronik.search import pending
from chronik.search.pending import Pending, Piece, Tail, take
from chronik.wire.batches import HEADER_BYTES, assemble, assign_offsets, check_produced, read_header
from chronik.wire.records import Codec, Record, encode_batch


def run_of(*batches):
    """A run of these batches, given by their values and codecs, one record each."""
    log = bytearray()
    for offset, (value, codec) in enumerate(batches):
        batch = encode_batch([Record(0, offset, None, value)], codec=codec)
        assign_offsets(batch, offset, 0)
        log += batch
    return Run(0, 0, bytes(log), look_over(log, len(batches)), len(batches))


def values(batches):
    """What is in these batches of one record without key and headers, by offset."""
    return {batch.header.base_offset: bytes(batch.section.records)[-4:-1] for batch in batches}


class TakeTests(SynchronousTestCase):
    def all_of(self, run, room):
        """Its pieces, one after the other."""
        row, found = 0, []
        while row < len(run.rows):
            taken = take(run, row, room)
            self.assertGreater(taken.following, row)
            self.assertEqual(sum(len(piece.rows) for piece in taken.pieces) + taken.undecodable, taken.following - row)
            row = taken.following
            found.append(taken)
        return found

    def test_what_is_not_compressed_is_not_copied(self):
        run = run_of(*[(b"v%02d" % n, Codec.NONE) for n in range(50)])
        pieces = [piece for taken in self.all_of(run, 35) for piece in taken.pieces]
        self.assertTrue(all(piece.buffer is run.buffer for piece in pieces))
        self.assertEqual([len(piece.rows) for piece in pieces], [4] * 12 + [2])  # of 10 bytes
        self.assertEqual(values(Tail(pieces)), {n: b"v%02d" % n for n in range(50)})

    def test_compressed_and_not(self):
        """What stands together uncompressed is a piece by itself only where it is much."""
        codecs = [Codec.NONE, Codec.LZ4, Codec.NONE, Codec.GZIP, *[Codec.NONE] * 600, Codec.ZSTD]
        run = run_of(*[(b"v%02d" % (n % 100), codec) for n, codec in enumerate(codecs)])
        pieces = [piece for taken in self.all_of(run, 1 << 20) for piece in taken.pieces]
        self.assertEqual([piece.buffer is run.buffer for piece in pieces], [False, True, False])
        self.assertEqual(values(Tail(pieces)), {n: b"v%02d" % (n % 100) for n in range(605)})
        pieces = [piece for taken in self.all_of(run, 20) for piece in taken.pieces]
        self.assertEqual({len(piece.rows) for piece in pieces}, {1, 2})
        self.assertEqual(values(Tail(pieces)), {n: b"v%02d" % (n % 100) for n in range(605)})

    def test_large_ones_are_not_copied(self):
        """What decompression gives is kept as it is; what stands between becomes a piece."""
        sizes = [3, 5, 70_000, 80_000, 3, 64 << 10, 8]
        run = run_of(*[(b"%d" % (n % 10) * size, Codec.LZ4) for n, size in enumerate(sizes)])
        (taken,) = self.all_of(run, 1 << 20)
        self.assertEqual([len(piece.rows) for piece in taken.pieces], [2, 1, 1, 1, 1, 1])
        self.assertEqual(
            [batch.section.records[-2] for batch in Tail(taken.pieces)], [ord(b"%d" % n) for n in range(7)]
        )
        self.assertEqual(
            [batch.header for batch in Tail(taken.pieces)],
            [read_header(run.buffer, at) for at in run.rows["position"].tolist()],
        )
        self.assertEqual(len(self.all_of(run, 70_000)), 3)

    def test_what_does_not_decompress(self):
        batches = []
        for offset, attributes in enumerate((Codec.LZ4, Codec.NONE, 7, Codec.ZSTD)):
            batch = encode_batch([Record(0, 0, None, b"v%02d" % offset)])
            bad = assemble(check_produced(batch)._replace(attributes=attributes), batch[HEADER_BYTES:])
            assign_offsets(bad, offset, 0)
            batches.append(bytes(bad))
        log = b"".join(batches)
        run = Run(0, 0, log, look_over(log, 4), 4)
        (taken,) = self.all_of(run, 1 << 20)
        self.assertEqual(taken.undecodable, 3)
        self.assertEqual(values(Tail(taken.pieces)), {1: b"v01"})

    def test_what_is_too_large(self):
        self.patch(pending, "MAX_DECODED_BYTES", 100)
        for codecs in ([Codec.NONE] * 3, [Codec.LZ4] * 3):
            run = run_of(*zip((b"v00", b"v" * 200, b"v02"), codecs, strict=True))
            (taken,) = self.all_of(run, 1 << 20)
            self.assertEqual(taken.undecodable, 1)
            self.assertEqual(values(Tail(taken.pieces)), {0: b"v00", 2: b"v02"})


class TailTests(SynchronousTestCase):
    def test_a_sequence(self):
        run = run_of(*[(b"v%02d" % n, Codec.NONE) for n in range(10)])
        for cuts in ([0, 10], [0, 3, 10], [0, 1, 2, 9, 10], [0, 0, 5, 5, 10]):
            tail = Tail([Piece(run.buffer, run.buffer, run.rows[a:b]) for a, b in pairwise(cuts)])
            self.assertEqual(len(tail), 10)
            self.assertEqual([batch.header.base_offset for batch in tail], list(range(10)))
            self.assertEqual([batch.header.base_offset for batch in tail[3:8:2]], [3, 5, 7])
            self.assertEqual((tail[-1].header.base_offset, tail[-10].header.base_offset), (9, 0))
            self.assertRaises(IndexError, tail.__getitem__, 10)
            self.assertRaises(IndexError, tail.__getitem__, -11)
        self.assertEqual((len(Tail([])), list(Tail([]))), (0, []))

    def test_it_is_what_was_there_when_it_was_asked_for(self):
        run, kept = run_of((b"v00", Codec.NONE), (b"v01", Codec.NONE)), Pending(2048)
        kept.keep(Piece(run.buffer, run.buffer, run.rows[:1]))
        before = kept.tail
        kept.keep(Piece(run.buffer, run.buffer, run.rows[1:]))
        kept.drop()
        self.assertEqual((len(before), len(kept.tail)), (1, 0))


class KeptTests(SynchronousTestCase):
    def test_bytes_are_those_that_are_kept(self):
        run = run_of(*[(b"v%02d" % n, Codec.NONE) for n in range(100)])
        row = run.rows.itemsize
        each = len(run.buffer) // 100
        kept = Pending(2048)
        kept.keep(Piece(run.buffer, run.buffer, run.rows[40:45]))  # the most of the buffer is not kept for these
        self.assertEqual(kept.kept_bytes, 5 * (each + row))
        kept.keep(Piece(run.buffer, run.buffer, run.rows[45:96]))
        self.assertEqual(kept.kept_bytes, 5 * (each + row) + len(run.buffer) + 51 * row)
        kept.keep(Piece(run.buffer, run.buffer, run.rows[96:]))  # which is kept anyway
        self.assertEqual(kept.kept_bytes, 5 * (each + row) + len(run.buffer) + 55 * row)
        self.assertEqual(values(kept.tail), {n: b"v%02d" % n for n in range(40, 100)})
        kept.drop()
        kept.keep(Piece(run.buffer, run.buffer, run.rows))
        self.assertEqual((kept.kept_bytes, kept.dropped, len(kept.tail)), (0, True, 0))

    def test_bytes_of_what_was_decompressed(self):
        run = run_of(*[(b"v%02d" % n, Codec.LZ4) for n in range(10)], (b"v" * 70_000, Codec.LZ4))
        kept, plain = (
            Pending(2048),
            run_of(*[(b"v%02d" % n, Codec.NONE) for n in range(10)], (b"v" * 70_000, Codec.NONE)),
        )
        for piece in take(run, 0, 1 << 20).pieces:
            kept.keep(piece)
        self.assertEqual(kept.kept_bytes, len(plain.buffer) + 11 * run.rows.itemsize)

    def test_a_table_is_not_kept_with_all_that_was_read(self):
        run, kept = run_of(*[(b"v%02d" % n, Codec.NONE) for n in range(100)]), Pending(2048)
        kept.keep(Piece(run.buffer, run.buffer, run.rows[20:90]))
        run.rows["position"] = np.arange(100)
        self.assertEqual(values(kept.tail), {n: b"v%02d" % n for n in range(20, 90)})
