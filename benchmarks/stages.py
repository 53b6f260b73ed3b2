"""Where a one-record Produce request spends its time in the node: the path is run in this process, longer by a stage each time.

No sockets: frames are handed to the connection as a read would bring them, five at a time, and answers are dropped. Each
figure is the best of several runs, in microseconds a request.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock, Cooperator
from twisted.internet.testing import StringTransport

from benchmarks.results import Results
from benchmarks.schedule import Schedule
from chronik.broker.compression_threads import CompressionThreads
from chronik.broker.partition import Partition
from chronik.listeners.connection import KafkaProtocol
from chronik.listeners.dispatch import ApiTable
from chronik.listeners.handlers.produce import ProduceHandler
from chronik.listeners.kafka import KafkaFactory
from chronik.listeners.many import ManyElementRequests
from chronik.listeners.receiver import BufferPool
from chronik.listeners.slices import Slices
from chronik.listeners.throttling import Throttles
from chronik.log.config import LogConfig
from chronik.log.disk import RealDisk
from chronik.log.log import Log
from chronik.model import PartitionId, PartitionState, TopicPartition
from chronik.telemetry.metrics import Histogram, TopicMetrics
from chronik.telemetry.requests import RequestMetrics
from chronik.topic_config import topic_settings
from chronik.wire.batches import check_produced
from chronik.wire.frames import encode_request, encode_response
from chronik.wire.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from chronik.wire.records import BatchHeader, Record, encode_batch

PART = "stages"
_VERSION = 9
_IN_FLIGHT = 5
_NOW = 1_700_000_000_000


class _OnePartition:
    """The look-up of partitions, with one in it."""

    def __init__(self, partition: Partition) -> None:
        self._found = {partition.name.topic: {partition.name.partition: partition}}

    def partition(self, topic: str, index: int) -> Partition:
        """The partition."""
        return self._found[topic][index]


class _Sink(StringTransport):
    """A transport that drops what it is given."""

    def writeSequence(self, data: Any) -> None:
        """Drop it."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        """There is no socket."""


def run(results: Results, schedule: Schedule) -> None:
    """Measure, if `results` lacks it."""
    if results.has(PART, "one-record"):
        return
    schedule.say("stages of a one-record request")
    home = Path(tempfile.mkdtemp(prefix="chronik-stages-", dir="/dev/shm"))
    try:
        results.put(PART, "one-record", {"microseconds": measure(home, schedule.staged_requests)})
    finally:
        shutil.rmtree(home, ignore_errors=True)


def measure(home: Path, count: int, repeats: int = 5) -> dict[str, float]:
    """Microseconds a request by stage, each the best of `repeats` runs of `count` requests."""
    return {
        name: min(_timed(stage, home / f"{place}-{n}", count) for n in range(repeats))
        for place, (name, stage) in enumerate(_STAGES.items())
    }


def _timed(stage: Callable[[Path, int], Callable[[], None]], home: Path, count: int) -> float:
    work = stage(home, count)
    begun = time.perf_counter()
    work()
    return 1e6 * (time.perf_counter() - begun) / count


# -- what is run --------------------------------------------------------------------------------------------------------


def _batches(count: int) -> list[bytearray]:
    """One-record batches of an idempotent producer, in sequence."""
    records = [Record(0, _NOW, None, b"x" * 100)]
    return [bytearray(encode_batch(records, producer_id=7, producer_epoch=0, base_sequence=n)) for n in range(count)]


def _frames(count: int) -> list[bytearray]:
    """The same as requests with their size prefixes."""
    return [bytearray(b"".join(encode_request(_request(b), _VERSION, n, "raw"))) for n, b in enumerate(_batches(count))]


def _request(batch: bytearray) -> ProduceRequest:
    data = PartitionProduceData(index=0, records=batch)
    return ProduceRequest(acks=-1, timeout_ms=30000, topic_data=[TopicProduceData(name="raw", partition_data=[data])])


def _partition(home: Path) -> Partition:
    log = Log.open(RealDisk(), str(home), LogConfig(), _NOW)
    state = PartitionState(0, (0,), (0,), 0, 1)
    return Partition(
        TopicPartition("raw", 0),
        PartitionId(bytes(16), 0),
        log,
        state,
        topic_settings({}, {}),
        TopicMetrics("raw"),
        lambda _: None,
        CompressionThreads(Clock(), 1, lambda _: None),
    )


def _handler(home: Path) -> Any:
    partition: Any = _OnePartition(_partition(home))
    nobody: Any = None  # there is no transactional batch
    return ProduceHandler(partition, Histogram(), time.monotonic, Clock(), nobody)


def _check(home: Path, count: int) -> Callable[[], None]:
    views = [memoryview(batch) for batch in _batches(count)]

    def work() -> None:
        for view in views:
            check_produced(view)

    return work


def _append_log(home: Path, count: int) -> Callable[[], None]:
    views = [memoryview(batch) for batch in _batches(count)]
    headers: list[BatchHeader] = [check_produced(view) for view in views]
    append = _partition(home).log.append

    def work() -> None:
        for view, header in zip(views, headers, strict=True):
            append(view, header, 1, _NOW)

    return work


def _append(home: Path, count: int) -> Callable[[], None]:
    views = [memoryview(batch) for batch in _batches(count)]
    append = _partition(home).append

    def work() -> None:
        for view in views:
            append(view, _NOW, -1)

    return work


def _decode(home: Path, count: int) -> Callable[[], None]:
    bodies = [memoryview(frame)[4:] for frame in _frames(count)]
    decode = ProduceRequest._decoders.get(_VERSION) or ProduceRequest._compile_decoder(_VERSION)

    def work() -> None:
        for body in bodies:
            decode(body, 14)

    return work


def _encode(home: Path, count: int) -> Callable[[], None]:
    answer = PartitionProduceResponse(index=0, base_offset=12345, log_append_time_ms=-1, log_start_offset=0)
    response = ProduceResponse(responses=[TopicProduceResponse(name="raw", partition_responses=[answer])])

    def work() -> None:
        for n in range(count):
            encode_response(response, _VERSION, n)

    return work


def _connection(home: Path, count: int) -> Callable[[], None]:
    frames = _frames(count)
    reads = [b"".join(frames[n : n + _IN_FLIGHT]) for n in range(0, count, _IN_FLIGHT)]
    reactor: Any = Clock()
    factory = KafkaFactory(
        "PLAINTEXT", ApiTable([_handler(home)]), BufferPool(1 << 26), RequestMetrics(time.monotonic), reactor,
        max_request_bytes=1 << 26, max_connections=10, max_connections_per_ip=10, max_idle_ms=1 << 30,
        wall_clock_ms=lambda: _NOW, throttles=Throttles(dict, time.monotonic),
        many_elements=ManyElementRequests(Slices(time.monotonic, Cooperator()), time.monotonic),
    )  # fmt: skip
    protocol = factory.buildProtocol(None)
    assert isinstance(protocol, KafkaProtocol)
    protocol.makeConnection(_Sink())

    def work() -> None:
        for read in reads:
            target = protocol.receive_target()
            assert target is not None
            target[: len(read)] = read
            protocol.bytes_received(len(read))

    return work


_STAGES: dict[str, Callable[[Path, int], Callable[[], None]]] = {
    "check of the batch": _check,
    "append to the log, its `write` included": _append_log,
    "append to the partition: check, log, high watermark": _append,
    "whole, of a known shape: frame, partition, answer": _connection,
    "decoding, where the shape is new": _decode,
    "encoding, where the shape is new": _encode,
}
