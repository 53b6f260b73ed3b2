"""A controller in memory for tests: real decisions, real log, real image."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from sortedcontainers import SortedDict

from chronik.controller.commands import RegisterBroker
from chronik.controller.controller import Rules, decide
from chronik.controller.image import MetadataImage
from chronik.controller.service import Controller
from chronik.model import Endpoint
from chronik.raft.memory import MemoryStore
from chronik.raft.single import SingleNodeLog, run_inline


def topic_ids() -> Callable[[], bytes]:
    """A source of topic ids: 1, 2, 3 as 16 bytes."""
    numbers = count(1)
    return lambda: next(numbers).to_bytes(16, "big")


def register(node_id: int, incarnation: bytes = b"first", rack: str | None = None) -> RegisterBroker:
    """The command with which a broker announces itself."""
    address = Endpoint("PLAINTEXT", f"host{node_id}", 9092 + node_id)
    return RegisterBroker(node_id, incarnation.ljust(16, b"\0"), (address,), rack)


def decided(image: MetadataImage, command: Any, rules: Rules) -> Any:
    """Decide `command` and replay what was decided into `image`; return the answer."""
    records, result = decide(image, command, rules)
    image.apply_records(image.version + 1, records)
    return result


def image_with(brokers: int) -> MetadataImage:
    """An image of a cluster with so many brokers, numbered from 0."""
    image = MetadataImage("cluster", 0)
    for node_id in range(brokers):
        decided(image, register(node_id), Rules(topic_ids()))
    return image


def fatal(failure: Any) -> None:
    """For logs that must not be lost in a test."""
    raise AssertionError(f"the log was lost: {failure}")


class Cluster:
    """A started controller of one broker; `restart` makes it again from what it stored."""

    def __init__(self, snapshot_every: int = 1000, brokers: int = 1, **rules: int) -> None:
        self.contents = SortedDict()
        self.rules = Rules(topic_ids(), **rules)
        self.snapshot_every = snapshot_every
        self.restart()
        for node_id in range(brokers):
            self.do(register(node_id))

    def restart(self) -> None:
        """Start anew on what was stored."""
        self.image = MetadataImage("cluster", 0)
        log = SingleNodeLog(lambda: MemoryStore(self.contents), run_inline, fatal, self.snapshot_every)
        self.controller = Controller(self.image, log, self.rules)
        self.controller.start()

    def do(self, command: Any) -> Any:
        """The result of a command, or the failure's exception raised."""
        results: list[Any] = []
        self.controller.propose(command).addBoth(results.append)
        result = results[0]
        if hasattr(result, "raiseException"):
            result.raiseException()
        return result
