"""A node's partitions in memory under a clock, for the handlers of the data path."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, Cooperator
from twisted.python.failure import Failure

from chronik.broker.fetch_sessions import FetchSessions
from chronik.broker.partition import Partition
from chronik.broker.purgatory import Wakeups
from chronik.broker.replicas import Replicas
from chronik.controller.commands import CreateTopics, DeleteTopics, NewTopic, TopicReference
from chronik.listeners.backlog import AnswerBacklog
from chronik.listeners.handlers.fetch import FetchHandler
from chronik.listeners.throttling import Throttles
from chronik.log.flusher import Flusher, Worker
from chronik.log.memory import MemoryDisk
from chronik.model import Uuid
from chronik.telemetry.metrics import Histogram, TopicMetrics
from tests.listeners.handlers.serving import Serving

NOW = 1_700_000_000_000
"""The wall clock when a test begins, in ms."""


class AtOnce(Worker):
    """Carries out jobs on the spot, or never while the disk is `stuck`, or leaves them in `held`."""

    def __init__(self) -> None:
        super().__init__("at once")
        self.stuck = False
        self.held: list[Any] | None = None

    def start(self, job: Any) -> None:
        """Carry out `job`."""
        if self.held is not None:
            self.held.append(job)
        elif not self.stuck:
            job()


class HeldThreads:
    """Threads for compression whose work is done on the spot, or by `do` while `held` is a list."""

    def __init__(self, clock: Clock) -> None:
        self.held: list[tuple[Any, Any]] | None = None
        self.bytes = 0
        self._clock = clock

    def run(self, work: Any, done: Any) -> None:
        """Do `work`, or keep it."""
        if self.held is None:
            self._do(work, done)
        else:
            self.held.append((work, done))

    def do(self, place: int = 0) -> None:
        """Do one of the pieces of work that are held."""
        assert self.held is not None
        self._do(*self.held.pop(place))

    def pause(self) -> None:
        """Nobody else is there."""

    def soon(self, call: Any) -> None:
        """On the clock's next turn."""
        self._clock.callLater(0, call)

    def hold(self, count: int) -> None:
        """Count the bytes that wait."""
        self.bytes += count

    def _do(self, work: Any, done: Any) -> None:
        try:
            result = work()
        except Exception as error:
            result = error
        done(result)


class Hosting(Serving):
    """`Serving` with `replicas`: every partition that `create` makes is led here, on a disk in memory.

    `worker` syncs that disk. `discarded` has the paths that were given up, each with its delay in ms.
    """

    def __init__(self, disk: Any = None) -> None:
        super().__init__({"num.partitions": "1"})
        self.received_ms = NOW
        self.worker = AtOnce()
        self.clock.callFromThread = lambda function, *arguments: function(*arguments)  # type: ignore[attr-defined]
        self.threads = HeldThreads(self.clock)
        self.discarded: list[tuple[str, int]] = []
        self.disk = disk or MemoryDisk()
        self.replicas, (started, clock) = self.again()
        clock.pump([0, 0])
        assert started.called

    def again(self) -> tuple[Replicas, tuple[Deferred[None], Clock]]:
        """Others on the same disk and metadata, whose start has begun: they, and its end, which the clock brings."""
        replicas = Replicas(
            metadata=self.image,
            node_id=0,
            path="/topics",
            disk=self.disk,
            flusher=Flusher(self.clock, self._fatal, worker=self.worker),  # type: ignore[arg-type]
            settings_for=self.configs.topic_settings,
            metrics_for=TopicMetrics,
            discard=lambda path, delay_ms: self.discarded.append((path, delay_ms)),
            producer_expiration_ms=86_400_000,
            flush_bytes=1 << 20,
            wall_clock_ms=lambda: NOW,
            cooperator=Cooperator(lambda: lambda: True, scheduler=lambda turn: self.clock.callLater(0, turn)),
            on_fatal=self._fatal,
            clock=self.clock,  # type: ignore[arg-type]
            random=lambda: 0.5,
            threads=self.threads,
        )
        return replicas, (replicas.start(clean=True), self.clock)

    def fetch_handler(
        self, sessions: FetchSessions, answers: AnswerBacklog | None = None, throttles: Throttles | None = None
    ) -> FetchHandler:
        """A handler of Fetch that gives a megabyte and waits for a minute at most."""
        clock = self.clock
        return FetchHandler(
            self.replicas,
            sessions,
            Wakeups(lambda call: clock.callLater(0, call)),
            Histogram(),
            clock.seconds,
            clock,  # type: ignore[arg-type]
            1 << 20,
            60_000,
            answers or AnswerBacklog(1 << 26),
            throttles or Throttles(dict, clock.seconds),
            self.slices,
        )

    def create(self, name: str, partitions: int = 1, **configs: str) -> Uuid:
        """Create a topic; its id."""
        named = tuple((key.replace("_", "."), value) for key, value in configs.items())
        (creation,) = self.cluster.do(CreateTopics((NewTopic(name, partitions, configs=named),)))
        assert creation.error is None, creation.error
        topic = self.image.topic(name)
        assert topic is not None
        return topic.topic_id

    def delete(self, name: str) -> None:
        """Delete a topic."""
        topic = self.image.topic(name)
        assert topic is not None
        self.cluster.do(DeleteTopics((TopicReference(name=name),)))

    def partition(self, name: str, index: int = 0) -> Partition:
        """The partition itself."""
        return self.replicas.partition(name, index)

    def _fatal(self, failure: Failure) -> None:
        failure.raiseException()
