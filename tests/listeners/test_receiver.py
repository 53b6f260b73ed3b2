"""The frame receiver: any cut of the stream gives the same frames, and nothing is allocated for what was only announced."""

import random
import struct

from twisted.trial.unittest import SynchronousTestCase

from chronik.listeners.receiver import STAGING_BYTES, BufferPool, FrameReceiver
from chronik.wire.codec import MalformedMessage

MAX = 8 * 1024 * 1024


def frame(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


class Stream:
    """Feeds a receiver from bytes, at most `step` at a time, as a socket would."""

    def __init__(self, budget: int = 64 * 1024 * 1024, pool: BufferPool | None = None) -> None:
        self.pool = pool or BufferPool(budget)
        self.frames: list[bytes] = []
        self.accept = True
        self.receiver = FrameReceiver(self.pool, MAX, self._take)

    def _take(self, view: memoryview) -> bool:
        assert not view.readonly
        self.frames.append(bytes(view))
        return self.accept

    def feed(self, data: bytes, step: int = 1 << 30) -> int:
        """Returns how much could be fed before the receiver had no place for more."""
        position = 0
        while position < len(data):
            target = self.receiver.target()
            if target is None:
                break
            count = min(len(target), step, len(data) - position)
            target[:count] = data[position : position + count]
            position += count
            self.receiver.received(count)
        return position


class ReceivingTests(SynchronousTestCase):
    def test_any_cut_gives_the_same_frames(self) -> None:
        rng = random.Random(7)
        for _ in range(30):
            bodies = [rng.randbytes(rng.choice((8, 9, 100, 5000, 300_000, 1_500_000))) for _ in range(6)]
            stream = Stream()
            data = b"".join(map(frame, bodies))
            position = 0
            while position < len(data):
                piece = data[position : position + rng.choice((1, 3, 4, 5, 1000, 70_000, 400_000))]
                stream.feed(piece)
                position += len(piece)
            self.assertEqual(stream.frames, bodies)
            self.assertFalse(stream.receiver.mid_frame)
            self.assertEqual(stream.pool.lent, 0)

    def test_single_bytes(self) -> None:
        stream = Stream()
        stream.feed(frame(b"12345678") + frame(b"abcdefghi"), step=1)
        self.assertEqual(stream.frames, [b"12345678", b"abcdefghi"])

    def test_sizes_out_of_range_are_refused(self) -> None:
        for size in (-1, -(2**31), 0, 7, MAX + 1, 2**31 - 1):
            with self.subTest(size=size), self.assertRaises(MalformedMessage):
                Stream().feed(struct.pack(">i", size) + b"12345678")

    def test_a_declared_size_allocates_nothing(self) -> None:
        stream = Stream()
        stream.feed(struct.pack(">i", MAX) + b"x" * 1000)
        self.assertEqual(stream.pool.lent, 0)

    def test_what_is_held_is_in_proportion_to_what_came(self) -> None:
        stream = Stream()
        sent = 0
        stream.feed(struct.pack(">i", MAX))
        while sent < MAX - 1000:
            sent += stream.feed(bytes(1000))
            self.assertLessEqual(stream.pool.lent, max(4 * STAGING_BYTES, 16 * sent))
        self.assertEqual(stream.frames, [])

    def test_a_spent_budget_stops_reading_until_a_release(self) -> None:
        stream = Stream(budget=2 * 1024 * 1024)
        self.assertTrue(stream.pool.reserve(2 * 1024 * 1024))
        body = bytes(1_000_000)
        fed = stream.feed(frame(body))
        self.assertLess(fed, len(body))
        woken: list[int] = []
        stream.pool.when_free(lambda: woken.append(1))
        stream.pool.give_up(2 * 1024 * 1024)
        self.assertEqual(woken, [1])
        stream.feed(frame(body)[fed:])
        self.assertEqual(stream.frames, [body])

    def test_many_large_frames_at_a_time_all_come_through_a_small_budget(self) -> None:
        for size, budget in ((2_000_000, MAX), (3_000_000, MAX), (MAX - 4, MAX), (MAX - 4, 1024 * 1024)):
            pool = BufferPool(budget)
            streams = [Stream(pool=pool) for _ in range(20)]
            left = {stream: frame(bytes([n]) * size) for n, stream in enumerate(streams)}
            while left:
                fed = 0
                for stream, data in list(left.items()):
                    count = stream.feed(data[:100_000])
                    left[stream] = data[count:]
                    fed += count
                    if not left[stream]:
                        del left[stream]
                self.assertGreater(fed, 0, "every one of them waits for another")
                self.assertLessEqual(pool.lent, max(budget, MAX))
            for n, stream in enumerate(streams):
                self.assertEqual(
                    (len(stream.frames), stream.frames[0][:1], len(stream.frames[0])), (1, bytes([n]), size)
                )
            self.assertEqual((pool.lent, pool.reserved), (0, 0))

    def test_a_pause_keeps_the_rest(self) -> None:
        stream = Stream()
        stream.accept = False
        stream.feed(frame(b"first---") + frame(b"second--") + b"\0\0")
        self.assertEqual(stream.frames, [b"first---"])
        stream.receiver.resume()
        self.assertEqual(stream.frames, [b"first---", b"second--"])
        stream.accept = True
        stream.feed(frame(b"third---")[2:])
        self.assertEqual(stream.frames[2:], [b"third---"])

    def test_a_read_of_very_many_frames_lets_others_have_their_turn(self) -> None:
        stream = Stream()
        stream.feed(frame(b"request-") * 300)
        self.assertEqual((len(stream.frames), stream.receiver.interrupted), (128, True))
        stream.receiver.resume()
        self.assertEqual((len(stream.frames), stream.receiver.interrupted), (256, True))
        stream.receiver.resume()
        self.assertEqual((len(stream.frames), stream.receiver.interrupted), (300, False))

    def test_discarding_gives_the_buffer_back(self) -> None:
        stream = Stream()
        stream.feed(frame(bytes(2_000_000))[:500_000])
        self.assertGreater(stream.pool.lent, 0)
        self.assertEqual(stream.pool.reserved, 2_000_004)
        stream.receiver.discard()
        self.assertEqual((stream.pool.lent, stream.pool.reserved), (0, 0))
