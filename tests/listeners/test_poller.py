"""The poller: who is called when, errors of one connection beside the others, answers at the end of a turn."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import main
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chronik.listeners.poller import ConnectionPoller


class Reactor(Clock):
    """Keeps what it is asked to watch."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []
        self.addReader = self.readers.append
        self.removeReader = self.readers.remove


class Half:
    """One end of a socket pair as a transport that writes down what happens to it."""

    def __init__(self, poller: ConnectionPoller, answer: bytes = b"") -> None:
        self.ours, self.theirs = socket.socketpair()
        poller.begin(self)
        self.fileno = self.ours.fileno
        self.seen: list[Any] = []
        self._poller = poller
        self._answer = answer
        self.fault: Exception | None = None

    def doRead(self) -> Any:
        self.seen.append(data := self.ours.recv(100))
        if self.fault is not None:
            raise self.fault
        if not data:
            return main.CONNECTION_DONE
        if self._answer:
            assert self._poller.in_turn
            self._poller.unsent.append(self)
        return None

    def doWrite(self) -> None:
        self.seen.append("writable")

    def send(self) -> None:
        self.seen.append("send")
        self.ours.send(self._answer)

    def connectionLost(self, reason: Failure) -> None:
        self.seen.append(reason.type)
        self.ours.close()


class PollerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.poller = ConnectionPoller(self.reactor)
        self.closed = False
        self.addCleanup(lambda: self.closed or self.poller.close())

    def half(self, answer: bytes = b"") -> Half:
        half = Half(self.poller, answer)
        self.addCleanup(half.theirs.close)
        self.addCleanup(half.ours.close)
        return half

    def test_the_reactor_sees_one_descriptor(self) -> None:
        verifyObject(IReadDescriptor, self.poller)
        self.assertEqual(self.reactor.readers, [self.poller])
        self.poller.close()
        self.closed = True
        self.assertEqual(self.reactor.readers, [])

    def test_only_what_is_watched_is_called(self) -> None:
        half = self.half()
        half.theirs.send(b"one")
        self.poller.doRead()
        self.assertEqual(half.seen, [])
        self.poller.addReader(half)
        self.poller.doRead()
        self.poller.addWriter(half)
        self.poller.addWriter(half)
        half.theirs.send(b"two")
        self.poller.doRead()
        self.poller.removeReader(half)
        half.theirs.send(b"three")
        self.poller.doRead()
        self.poller.removeWriter(half)
        self.poller.removeWriter(half)
        self.poller.doRead()
        self.assertEqual(half.seen, [b"one", b"two", "writable", "writable"])

    def test_answers_leave_when_all_are_served(self) -> None:
        order: list[str] = []
        halves = [self.half(b"answer") for _ in range(3)]
        for half in halves:
            self.poller.addReader(half)
            half.theirs.send(b"question")
            half.seen = order
        self.poller.doRead()
        self.assertEqual(order, [b"question"] * 3 + ["send"] * 3)
        self.assertFalse(self.poller.in_turn)
        self.assertEqual([half.theirs.recv(100) for half in halves], [b"answer"] * 3)

    def test_a_defect_ends_its_own_connection_only(self) -> None:
        bad, good = self.half(), self.half()
        bad.fault = ZeroDivisionError("a defect")
        for half in (bad, good):
            self.poller.addReader(half)
            half.theirs.send(b"x")
        self.poller.doRead()
        self.assertEqual(bad.seen, [b"x", ZeroDivisionError])
        self.assertEqual(good.seen, [b"x"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        good.theirs.send(b"y")
        self.poller.doRead()
        self.assertEqual(good.seen, [b"x", b"y"])

    def test_an_end_is_told_once(self) -> None:
        reading, writing = self.half(), self.half()
        self.poller.addReader(reading)
        self.poller.addWriter(writing)
        reading.theirs.close()
        writing.theirs.close()
        self.poller.doRead()
        self.poller.doRead()
        self.assertEqual(reading.seen, [b"", type(main.CONNECTION_DONE)])
        self.assertIn(writing.seen[-1], (type(main.CONNECTION_LOST), "writable"))

    def test_one_that_ends_another_in_the_same_turn(self) -> None:
        first, second = self.half(), self.half()
        for half, other in ((first, second), (second, first)):
            self.poller.addReader(half)
            half.theirs.send(b"x")

            def end_other(half: Half = half, other: Half = other) -> None:
                half.seen.append("read")
                self.poller.removeReader(other)
                other.ours.close()

            half.doRead = end_other  # type: ignore[method-assign]
        self.poller.doRead()
        self.assertEqual(sorted([first.seen, second.seen]), [[], ["read"]])

    def test_closing_ends_what_is_open(self) -> None:
        reading, paused, gone = self.half(), self.half(), self.half()
        self.poller.addReader(reading)
        self.poller.addReader(paused)
        self.poller.removeReader(paused)
        self.poller.end(gone)
        self.poller.close()
        self.closed = True
        self.assertEqual(reading.seen, [type(main.CONNECTION_LOST)])
        self.assertEqual(paused.seen, [type(main.CONNECTION_LOST)])
        self.assertEqual(gone.seen, [])
