"""Lives of continuous queries: one that ends by whatever fault is followed by another."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chronik.analytics.runner import QueryRunner, QueryTimes
from chronik.errors import ErrorCode, KafkaError
from chronik.model import ContinuousQuery, PartitionState, Topic
from chronik.workers.failures import JobFailedError, WorkerLostError

QUERY = ContinuousQuery(b"q" * 16, "counts", "", "[]", b"s" * 16, b"i" * 16, b"l" * 16, paused=False)


class OneQuery:
    def queries(self) -> list[ContinuousQuery]:
        return [QUERY]

    def topic(self, name: str) -> None:
        return None

    def topic_by_id(self, topic_id: bytes) -> Topic:
        return Topic(topic_id, topic_id[:1].decode(), (PartitionState(0, (1,), (1,), 1, 0),))


class Writer:
    """Fails to begin, with one fault after the other, and then never comes back."""

    def __init__(self, faults: list[Exception]) -> None:
        self.faults = faults
        self.begun = 0

    def begin(self, query: ContinuousQuery) -> Any:
        self.begun += 1
        if self.faults:
            raise self.faults.pop(0)
        return Deferred()


class LifeTests(SynchronousTestCase):
    def test_every_fault_is_followed_by_another_life(self) -> None:
        faults: list[Exception] = [
            KafkaError(ErrorCode.NOT_COORDINATOR, "elsewhere"),
            WorkerLostError("killed"),
            JobFailedError("ArrowInvalid", "of a job"),
            ZeroDivisionError("a defect"),
        ]
        clock, writer = Clock(), Writer(list(faults))
        runner = QueryRunner(
            OneQuery(), None, lambda *_: Deferred(), WorkerLostError, 1, writer, lambda: succeed(None),  # type: ignore[arg-type]
            lambda topic: {}, QueryTimes(), lambda: 0, clock,
        )  # fmt: skip
        runner.startService()
        self.addCleanup(runner.stopService)
        for number, fault in enumerate(faults):
            self.assertEqual(writer.begun, number + 1)
            status = runner.status(QUERY)
            self.assertEqual(status.state, "failed")
            self.assertIn(str(fault), status.fault)
            clock.advance(2**number)
        self.assertEqual(writer.begun, len(faults) + 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
