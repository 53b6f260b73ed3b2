"""What is done to batches before they are appended, in the order in which they came.

A topic's compression.type may ask for another codec than that of the batch, and a compacted topic takes no record without
a key. What is little work is done at once: compressing up to `SMALL_BYTES` uncompressed, looking at a few thousand keys.
A larger batch would hold up everybody else (compressing 4 MiB takes some 100 ms), so it is left to a thread; what comes for the
same partition meanwhile queues behind it, whatever its size. Several batches may be under way at the same time: they are
appended in their order all the same.

A `Turn` is a batch's place in that queue. Its bytes are counted by `ICompressionThreads.hold` from the first moment to the
last, so that no more requests are taken while too many of them wait.

A transactional batch whose coordinator has to be asked comes out of its turn with `UncheckedTransaction`, prepared, and waits
for the answer elsewhere (`chronik.broker.transactional`). What its producer sent after it leaves the queue after it, so it
comes to wait behind it there, or finds the transaction open: both together keep a producer's order.

Batches of the node's own topics are made by the node itself: their keys are not checked.

Pure: threads and the event loop are behind `ICompressionThreads`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from chronik.broker.key_check import MAX_CHECKED_BYTES, KeylessRecords, check_keys, check_keys_at_once
from chronik.errors import ErrorCode, KafkaError
from chronik.model import INTERNAL_TOPICS, TopicPartition
from chronik.topic_config import TopicSettings
from chronik.wire import records
from chronik.wire.batches import CODEC_BITS, BatchHeader
from chronik.wire.codec import Buffer
from chronik.wire.compression import Codec

if TYPE_CHECKING:
    from chronik.broker.outcomes import Appended
    from chronik.broker.partition import Partition

SMALL_BYTES = 64 * 1024
"""What is compressed on the reactor at most, in bytes of records uncompressed: some 3 ms by the slowest codec."""
_EXPANSION = 4
_MAX_EXPANDED_BYTES = 16 << 20
_APPENDS_A_TURN = 8
_CODECS = {
    "uncompressed": Codec.NONE,
    "gzip": Codec.GZIP,
    "snappy": Codec.SNAPPY,
    "lz4": Codec.LZ4,
    "zstd": Codec.ZSTD,
}


class ICompressionThreads(Protocol):
    """Where large batches are compressed anew, or their keys checked."""

    def run(self, work: Callable[[], bytearray], done: Callable[[bytearray | Exception], None]) -> None:
        """Call `work` on a thread, then `done` on the event loop with what it returned or raised."""

    def pause(self) -> None:
        """Called by `work`, on its thread, every few hundred microseconds where it holds the interpreter: others get it."""

    def soon(self, call: Callable[[], None]) -> None:
        """Call `call` on a later turn of the event loop."""

    def hold(self, count: int) -> None:
        """`count` more bytes wait here, or fewer if it is negative."""


def max_decompressed_bytes(max_message_bytes: int) -> int:
    """What one batch may decompress to where the broker compresses anew (compression.type).

    Four times max.message.bytes, and 16 MiB at most; but never less than an uncompressed batch may have anyway.
    """
    return max(max_message_bytes, min(_EXPANSION * max_message_bytes, _MAX_EXPANDED_BYTES))


def target_codec(settings: TopicSettings) -> Codec | None:
    """The codec of compression.type; None for `producer`: batches are stored as they come."""
    return _CODECS.get(settings.compression_type)


def checks_keys(name: TopicPartition, settings: TopicSettings) -> bool:
    """Whether every record must have a key."""
    return settings.compacted and name.topic not in INTERNAL_TOPICS


def prepares(name: TopicPartition, settings: TopicSettings) -> bool:
    """Whether batches for this partition may have to be prepared: if not, they are stored as they come."""
    return target_codec(settings) is not None or checks_keys(name, settings)


class Turn:
    """A batch's place in the queue. `done` is told what became of it, once."""

    __slots__ = ("acks", "batch", "done", "keys_checked", "now_ms", "prepared")

    def __init__(self, batch: bytearray, now_ms: int, acks: int, done: Callable[[Appended | Exception], None]) -> None:
        self.batch = batch
        self.now_ms = now_ms
        self.acks = acks
        self.done = done
        self.prepared: bytearray | Exception | None = None
        self.keys_checked = False


class Preparation:
    """The queue of one partition. `configure` must be called before anything else."""

    __slots__ = (
        "_checks_keys",
        "_codec",
        "_level",
        "_limit",
        "_max_bytes",
        "_partition",
        "_scheduled",
        "_threads",
        "_turns",
    )

    def __init__(self, partition: Partition, threads: ICompressionThreads) -> None:
        self._partition = partition
        self._threads = threads
        self._turns: deque[Turn] = deque()
        self._scheduled = False

    def __len__(self) -> int:
        return len(self._turns)

    def configure(self, settings: TopicSettings) -> None:
        """Act on the topic's settings from now on, also for what waits already."""
        self._codec = target_codec(settings)
        self._checks_keys = checks_keys(self._partition.name, settings)
        levels = {
            Codec.GZIP: settings.compression_gzip_level,
            Codec.LZ4: settings.compression_lz4_level,
            Codec.ZSTD: settings.compression_zstd_level,
        }
        self._level = None if self._codec is None else levels.get(self._codec)
        self._max_bytes = settings.max_message_bytes
        self._limit = max_decompressed_bytes(settings.max_message_bytes)

    def append(
        self, batch: Buffer | None, now_ms: int, acks: int, done: Callable[[Appended | Exception], None]
    ) -> Appended | Turn:
        """As `Partition.append`: at once, or where that isn't possible, in the turn that is returned, which calls `done`."""
        partition = self._partition
        if batch is None:
            return partition.append(None, now_ms, acks)  # it says what is wrong with it
        header = records.check_produced(batch)
        if len(batch) > self._max_bytes:
            raise partition.admission.too_large(len(batch))
        if not self._turns:
            prepared = self._at_once(batch, header)
            if prepared is not None:
                return self._store(batch, prepared, now_ms, acks)
        turn = Turn(bytearray(batch), now_ms, acks, done)  # a copy: the caller's buffer is for the next request
        self._turns.append(turn)
        self._threads.hold(len(turn.batch))
        self._prepare(turn)
        return turn

    def give_up(self, turn: Turn) -> bool:
        """Take a batch out of the queue whose producer waits no longer; whether it was still there and is not appended."""
        if turn not in self._turns:
            return False
        self._turns.remove(turn)
        self._threads.hold(-len(turn.batch))
        self._go_on()
        return True

    def fail(self, error: Exception) -> None:
        """Nothing more is appended here by this leader."""
        turns, self._turns = self._turns, deque()
        for turn in turns:
            self._threads.hold(-len(turn.batch))
            turn.done(error)

    # -- inside

    def _at_once(self, batch: Buffer, header: BatchHeader) -> Buffer | None:
        """`batch` as it is stored; None where that is work for a thread."""
        codec = self._codec
        if codec is not None and header.attributes & CODEC_BITS == codec:
            codec = None
        if codec is not None and len(batch) > SMALL_BYTES:
            return None
        if self._checks_keys and not check_keys_at_once(self._partition.name, batch, header):
            return None
        if codec is None:
            return batch
        try:
            return records.recompress(batch, codec, min(SMALL_BYTES, self._limit), self._level)
        except KafkaError as error:
            if error.code == ErrorCode.MESSAGE_TOO_LARGE and self._limit > SMALL_BYTES:
                return None
            raise self._refused(error) from None

    def _prepare(self, turn: Turn) -> None:
        """Give `turn` the form in which it is stored, or see to it that it gets that."""
        header = records.read_header(turn.batch)
        turn.keys_checked = self._checks_keys
        try:
            turn.prepared = self._at_once(turn.batch, header)  # type: ignore[assignment]  # writable, as its batch is
        except KafkaError as error:
            turn.prepared = error
        if turn.prepared is not None:
            return

        def done(result: bytearray | Exception) -> None:
            turn.prepared = self._refused(result) if isinstance(result, KafkaError) else result
            self._go_on()

        self._threads.run(self._work(turn.batch, header), done)

    def _work(self, batch: bytearray, header: BatchHeader) -> Callable[[], bytearray]:
        """What a thread does to `batch`."""
        name, threads = self._partition.name, self._threads
        codec, limit, level, checks_keys = self._codec, self._limit, self._level, self._checks_keys
        most = max(MAX_CHECKED_BYTES, self._max_bytes)

        def work() -> bytearray:
            if checks_keys:
                for _ in check_keys(name, batch, most):
                    threads.pause()
            if codec is None or header.attributes & CODEC_BITS == codec:
                return batch
            return records.recompress(batch, codec, limit, level)

        return work

    def _go_on(self) -> None:
        """Append what is prepared at the head of the queue, some of it now and the rest soon."""
        turns = self._turns
        for _ in range(_APPENDS_A_TURN):
            prepared = turns[0].prepared if turns else None
            if prepared is None:
                break
            turn = turns[0]
            outcome: Appended | Exception
            if isinstance(prepared, Exception):
                outcome = prepared
            elif self._is_outdated(turn, prepared):
                turn.prepared = None
                self._prepare(turn)
                continue
            else:
                try:
                    outcome = self._store(turn.batch, prepared, turn.now_ms, turn.acks)
                except Exception as error:
                    outcome = error
            turns.popleft()
            self._threads.hold(-len(turn.batch))
            turn.done(outcome)
        if turns:
            if turns[0].prepared is not None and not self._scheduled:
                self._scheduled = True
                self._threads.soon(self._later)
        else:
            self._partition.nothing_waits()

    def _later(self) -> None:
        self._scheduled = False
        self._go_on()

    def _is_outdated(self, turn: Turn, prepared: Buffer) -> bool:
        """Whether the topic wants something else by now."""
        if self._checks_keys and not turn.keys_checked:
            return True
        return self._codec is not None and records.read_header(prepared).attributes & CODEC_BITS != self._codec

    def _store(self, batch: Buffer, prepared: Buffer, now_ms: int, acks: int) -> Appended:
        partition = self._partition
        partition.metrics.bytes_received += len(batch) - len(prepared)  # what came, not what is stored
        return partition.append(prepared, now_ms, acks)

    def _refused(self, error: KafkaError) -> KafkaError:
        if isinstance(error, KeylessRecords):
            return error
        return KafkaError(error.code, f"{self._partition.name}: cannot be compressed anew: {error.message}")
