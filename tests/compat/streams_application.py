"""A Kafka Streams application with exactly_once_v2, its instances killed and replaced, beside the batch result of its input.

    python -m tests.compat.streams_application HOST:PORT [SECONDS [SECONDS_BETWEEN_KILLS]]

Three instances of `java/ExactlyOnceStreams.java` count words and join two streams within a window. Input is drawn from a seed
and fed evenly; every few seconds one instance dies by SIGKILL and another takes its place, on the dead one's state directory
or on an empty one in turn. In the end, the output read with read_committed must be what one pass over the input gives: for
every word the counts 1, 2, ... n, each once and in order, and every pair of the join once.
"""

from __future__ import annotations

import itertools
import random
import shutil
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.peers import java
from tests.peers.process import PeerProcess

PARTITIONS = 3
INSTANCES = 3
WINDOW_MS = 3_000
RATE = 100
"""Records a second on each of the three input topics."""

_SOURCE = Path(__file__).parent / "java" / "ExactlyOnceStreams.java"
_OPTIONS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_WORDS = [f"word{number:02}" for number in range(40)]
_SETTLING_S = 90.0
"""How long the output may take to be complete after the last input: a dead instance's session and transaction end first."""


@dataclass
class Input:
    """What is fed: lines, and (key, value, timestamp in ms) of the two sides of the join. One pass over it gives the result."""

    lines: list[str] = field(default_factory=list)
    left: list[tuple[str, str, int]] = field(default_factory=list)
    right: list[tuple[str, str, int]] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """How often each word occurs."""
        return dict(Counter(word for line in self.lines for word in line.split(" ")))

    def pairs(self) -> Counter[tuple[str, str]]:
        """(key, joined value) of every pair of one key whose times are at most the window apart."""
        others: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for key, value, when in self.right:
            others[key].append((value, when))
        return Counter(
            (key, f"{value} {other}")
            for key, value, when in self.left
            for other, other_when in others[key]
            if abs(when - other_when) <= WINDOW_MS
        )


def drawn(count: int, seed: int) -> Iterator[tuple[str, tuple[str, str, int], tuple[str, str, int]]]:
    """`count` lines, left records and right records, 1000 / RATE ms apart in their time, which runs a day behind the clock."""
    draw = random.Random(seed)
    begun = int(time.time() * 1000) - 86_400_000
    for number in range(count):
        when = begun + number * 1000 // RATE
        line = " ".join(draw.choices(_WORDS, k=draw.randint(1, 5)))
        left, right = (
            (f"key{draw.randrange(50)}", f"{side}{number}", when + draw.randint(-500, 500)) for side in ("l", "r")
        )
        yield line, left, right


class Application:
    """One application on a broker: its topics, its instances, its input so far."""

    def __init__(self, bootstrap: str, directory: Path) -> None:
        self.bootstrap = bootstrap
        self.name = f"streams-{uuid.uuid4().hex[:8]}"
        self.input = Input()
        self.kills = 0
        self._directory = directory
        self._numbers = itertools.count()
        self._instances: list[tuple[Path, PeerProcess]] = []
        admin = AdminClient({"bootstrap.servers": bootstrap})
        topics = ("lines", "left", "right", "counts", "joined")
        made = admin.create_topics([NewTopic(f"{self.name}-{topic}", PARTITIONS, 1) for topic in topics])
        for result in made.values():
            result.result(30)

    def start(self) -> None:
        """Start all instances."""
        for _ in range(INSTANCES):
            self._start(self._directory / f"state-{next(self._numbers)}")

    def _start(self, state: Path) -> None:
        line = java.own_command(_SOURCE, [self.bootstrap, self.name, str(state), str(WINDOW_MS)], _OPTIONS)
        process = PeerProcess("Streams", line, self._directory / "streams.log")
        process.start()
        self._instances.append((state, process))

    def replace_one(self) -> None:
        """Kill the oldest instance and start another: on the same state directory, or on none, in turn."""
        state, process = self._instances.pop(0)
        process.kill()
        self.kills += 1
        if self.kills % 2:
            shutil.rmtree(state, ignore_errors=True)
        self._start(state)

    def feed(self, seconds: float, between_kills: float) -> None:
        """Feed input at RATE for a time, and replace an instance at every interval."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "enable.idempotence": True, "linger.ms": 5})
        begun = time.monotonic()
        next_kill = begun + between_kills
        for number, (line, left, right) in enumerate(drawn(int(seconds * RATE), seed=7)):
            self.input.lines.append(line)
            self.input.left.append(left)
            self.input.right.append(right)
            producer.produce(f"{self.name}-lines", line, str(number))
            for topic, (key, value, when) in (("left", left), ("right", right)):
                producer.produce(f"{self.name}-{topic}", value, key, timestamp=when)
            producer.poll(0)
            if time.monotonic() >= next_kill:
                self.replace_one()
                next_kill += between_kills
            time.sleep(max(0.0, begun + (number + 1) / RATE - time.monotonic()))
        if producer.flush(60):
            raise RuntimeError(f"{len(producer)} input records were not acknowledged")

    def wait_for_outputs(self) -> tuple[dict[str, list[int]], Counter[tuple[str, str]]]:
        """Read until as much output is there as the batch result has, then once more for what should not be there.

        Gives the counts of each word in their order, and the pairs of the join. Whatever is missing in the end is missing.
        """
        wanted = sum(self.input.counts().values()) + self.input.pairs().total()
        give_up = time.monotonic() + _SETTLING_S
        while sum(map(len, (found := self._committed()).values())) < wanted and time.monotonic() < give_up:
            time.sleep(2.0)
        time.sleep(2.0)
        found = self._committed()
        counts: dict[str, list[int]] = defaultdict(list)
        for word, count in found["counts"]:
            counts[word].append(int(count))
        return dict(counts), Counter(found["joined"])

    def _committed(self) -> dict[str, Sequence[tuple[str, str]]]:
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"{self.name}-check",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        found: dict[str, list[tuple[str, str]]] = {"counts": [], "joined": []}
        try:
            places = [TopicPartition(f"{self.name}-{topic}", p, 0) for topic in found for p in range(PARTITIONS)]
            consumer.assign(places)
            ended = 0
            while ended < len(places):
                for message in consumer.consume(1000, 5.0):
                    if (error := message.error()) is not None:
                        if error.name() != "_PARTITION_EOF":
                            raise KafkaException(error)
                        ended += 1
                    else:
                        topic = message.topic().rsplit("-", 1)[1]
                        found[topic].append((message.key().decode(), message.value().decode()))
        finally:
            consumer.close()
        return found

    def stop(self) -> None:
        """End all instances in order."""
        while self._instances:
            self._instances.pop()[1].stop(30.0)

    def log_end(self) -> str:
        """The end of what the instances printed."""
        path = self._directory / "streams.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else "(no output)"


def differences(application: Application) -> list[str]:
    """What differs between the output and the batch result, a line each."""
    counts, pairs = application.wait_for_outputs()
    wrong = []
    expected = application.input.counts()
    for word in sorted(expected.keys() | counts.keys()):
        if counts.get(word, []) != list(range(1, expected.get(word, 0) + 1)):
            wrong.append(f"{word}: {expected.get(word, 0)} times in the input, counted as {counts.get(word)}")
    wanted = application.input.pairs()
    wrong += [f"{pair} x {count} is missing" for pair, count in (wanted - pairs).items()]
    wrong += [f"{pair} x {count} is too much" for pair, count in (pairs - wanted).items()]
    return wrong


def main(bootstrap: str, seconds: str = "300", between_kills: str = "10") -> None:
    """Run it against a running broker and print what differs."""
    with tempfile.TemporaryDirectory() as directory:
        application = Application(bootstrap, Path(directory))
        try:
            application.start()
            application.feed(float(seconds), float(between_kills))
            wrong = differences(application)
        finally:
            application.stop()
        print(*wrong[:50], sep="\n")
        print(
            f"{application.kills} kills, {sum(application.input.counts().values())} words,"
            f" {application.input.pairs().total()} pairs, {len(wrong)} differences"
        )
        if wrong:
            print(application.log_end())
            raise SystemExit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
