"""A controller process is killed in the middle of its work: everything it acknowledged is there afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

import chronik
from chronik.controller.commands import CreateTopics, NewTopic
from chronik.controller.controller import Rules
from chronik.controller.image import MetadataImage
from chronik.controller.service import Controller
from chronik.raft.providers import SQLITE, format_store, open_store, preferred_provider
from chronik.raft.single import SingleNodeLog
from chronik.raft.writer import WriterThread
from tests.controller.cluster import register

BURST = 7
"""Creations under way at a time."""


def controller_on(provider: str, path: str) -> tuple[Controller, WriterThread]:
    """A controller on the store at `path`, with small snapshots."""
    from twisted.internet import reactor

    def fatal(failure: Failure) -> None:
        failure.raiseException()

    thread = WriterThread(reactor)
    log = SingleNodeLog(lambda: open_store(provider, path), thread, fatal, snapshot_every=25)
    return Controller(MetadataImage("cluster", 0), log, Rules(lambda: os.urandom(16))), thread


async def create_forever(provider: str, path: str) -> None:
    """What the child does: create topics, and print the name of each one that was acknowledged."""
    controller, _ = controller_on(provider, path)
    await controller.start()
    await controller.propose(register(0))
    number = 0
    while True:
        names = [f"t{number + step}" for step in range(BURST)]
        number += BURST
        answers = [(name, controller.propose(CreateTopics((NewTopic(name, 2, 1),)))) for name in names]
        for name, answer in answers:
            await answer
            print(name, flush=True)


class CrashTests(TestCase):
    """With real stores, threads and processes."""

    async def _crash(self, provider: str) -> None:
        path = os.path.abspath(self.mktemp())
        format_store(provider, path)
        root = os.path.dirname(os.path.dirname(os.path.abspath(chronik.__file__)))
        script = (
            "from twisted.internet.task import react; from twisted.internet.defer import Deferred;"
            "from tests.controller.test_crash import create_forever;"
            f"react(lambda reactor: Deferred.fromCoroutine(create_forever({provider!r}, {path!r})))"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
        )
        assert child.stdout is not None
        acknowledged = []
        for line in child.stdout:
            acknowledged.append(line.strip())
            if len(acknowledged) == 100:
                child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        self.assertGreaterEqual(len(acknowledged), 100)

        controller, thread = controller_on(provider, path)
        self.addCleanup(thread.stop)
        await controller.start()
        self.addCleanup(controller.stop)
        names = {topic.name for topic in controller.image.topics()}
        self.assertEqual(set(acknowledged) - names, set())
        self.assertEqual(names, {f"t{number}" for number in range(len(names))})
        self.assertLessEqual(len(names) - len(acknowledged), 2 * BURST)
        (created,) = await controller.propose(CreateTopics((NewTopic("after", 1, 1),)))
        self.assertIsNone(created.error)

    async def test_on_the_preferred_store(self) -> None:
        await self._crash(preferred_provider())

    async def test_on_sqlite(self) -> None:
        await self._crash(SQLITE)
