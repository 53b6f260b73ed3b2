"""The corpus into a topic, as a producer would: lz4 batches of 1,000, each partition's in their order, from two processes.

    python -m benchmarks.search.feeding PORT TOPIC FIRST_BLOCK BLOCKS NUMBER OF

is one of them: of OF processes, which take turns with the partitions. Making a batch takes 5 ms; the broker is faster.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks import corpus
from chronik.wire.frames import encode_request, response_body
from chronik.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from tests.differential.session import Connection
from tests.peers.chronik_node import REPOSITORY
from tests.peers.process import LOOPBACK

PROCESSES = 2
_VERSION = 9
_IN_FLIGHT = 4
_PATIENCE = 60.0


class Feeder:
    """Produce requests of one batch each over one connection, acks=1."""

    def __init__(self, port: int, topic: str) -> None:
        self._connection = Connection((LOOPBACK, port))
        self._topic = topic
        self._sent = 0

    def send(self, partition: int, batch: bytes) -> None:
        """Send a batch; its answer comes in its turn."""
        data = TopicProduceData(name=self._topic, partition_data=[PartitionProduceData(index=partition, records=batch)])
        request = ProduceRequest(transactional_id=None, acks=1, timeout_ms=30_000, topic_data=[data])
        self._sent += 1
        self._connection.send(
            b"".join(bytes(part) for part in encode_request(request, _VERSION, self._sent, "feeding"))
        )

    def receive(self) -> int:
        """The base offset of the next batch that is acknowledged. Raises RuntimeError where it was refused."""
        frame = self._connection.receive(_PATIENCE)
        _, position = response_body(frame, ProduceResponse, _VERSION)
        answer, _ = ProduceResponse.decode(frame, _VERSION, position)
        (partition,) = answer.responses[0].partition_responses
        if partition.error_code:
            raise RuntimeError(f"{self._topic}: a batch was refused with error {partition.error_code}")
        return int(partition.base_offset)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def feed(port: int, topic: str, first: int, messages: int, processes: int = PROCESSES) -> float:
    """Produce messages `first` to `first + messages` of the corpus, whole blocks; seconds that it took.

    Raises RuntimeError where a process fails.
    """
    assert first % corpus.BLOCK == messages % corpus.BLOCK == 0
    span = [str(first // corpus.BLOCK), str(messages // corpus.BLOCK)]
    begun = time.monotonic()
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.search.feeding", str(port), topic, *span, str(number), str(processes)],
            cwd=REPOSITORY,
        )
        for number in range(processes)
    ]
    try:
        codes = [each.wait() for each in running]
    finally:
        for each in running:
            if each.poll() is None:
                each.kill()
                each.wait()
    if any(codes):
        raise RuntimeError(f"feeding {topic} ended with {codes}")
    return time.monotonic() - begun


def main(arguments: Sequence[str]) -> None:
    """One of the processes."""
    port, first, blocks, number, processes = (int(arguments[at]) for at in (0, 2, 3, 4, 5))
    feeder = Feeder(port, arguments[1])
    under_way = 0
    for block in range(first, first + blocks):
        partition = block % corpus.PARTITIONS
        if partition % processes == number:
            feeder.send(partition, corpus.batch(block))
            under_way += 1
            if under_way > _IN_FLIGHT:
                feeder.receive()
                under_way -= 1
    for _ in range(under_way):
        feeder.receive()
    feeder.close()


if __name__ == "__main__":
    main(sys.argv[1:])
