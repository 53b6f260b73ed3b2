"""The embedded broker beside whatever else a test suite runs: a reactor, an asyncio loop, pytest."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from chronik.errors import ChronikError, ErrorCode, KafkaError
from chronik.testing import Chronik


async def round_trip(bootstrap_servers: str) -> list[bytes]:
    """Write and read three values with an asyncio client."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers)
    await producer.start()
    for value in (b"a", b"b", b"c"):
        await producer.send_and_wait("looped", value)
    await producer.stop()
    consumer = AIOKafkaConsumer("looped", bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    values = [(await asyncio.wait_for(consumer.getone(), 10)).value for _ in range(3)]
    await consumer.stop()
    return values


class BesideTests(TestCase):
    async def test_beside_a_running_reactor(self) -> None:
        await deferToThread(lambda: None)  # trial runs its reactor once something waits for it
        self.assertTrue(reactor.running)
        with Chronik() as broker:
            values = await deferToThread(lambda: asyncio.run(round_trip(broker.bootstrap_servers)))
        self.assertEqual(values, [b"a", b"b", b"c"])


class EmbeddedTests(SynchronousTestCase):
    def test_inside_a_running_asyncio_loop(self) -> None:
        async def inside() -> list[bytes]:
            with Chronik() as broker:
                return await round_trip(broker.bootstrap_servers)

        self.assertEqual(asyncio.run(inside()), [b"a", b"b", b"c"])

    def test_life_of_a_broker(self) -> None:
        broker = Chronik()
        with self.assertRaises(RuntimeError):
            broker.port  # noqa: B018  it raises
        broker.start()
        with self.assertRaises(RuntimeError):
            broker.start()
        broker.stop()
        broker.stop()
        broker.start()
        broker.stop()

    def test_options_are_those_of_the_configuration(self) -> None:
        with self.assertRaises(ChronikError) as caught:
            Chronik(no_such_option=1).start()
        self.assertIn("no_such_option", str(caught.exception))
        with Chronik(num_partitions=7, auto_create_topics_enable=False) as broker:
            broker.create_topic("defaulted", -1)
            with self.assertRaises(KafkaError) as refused:
                broker.create_topic("defaulted")
            self.assertEqual(refused.exception.code, ErrorCode.TOPIC_ALREADY_EXISTS)

    def test_a_process_says_why_it_does_not_start(self) -> None:
        with TemporaryDirectory() as directory, Chronik(directory=directory):
            with self.assertRaises(ChronikError) as caught:
                Chronik(directory=directory, process=True).start()
            self.assertIn("is held by process", str(caught.exception))

    def test_a_process_ends_with_its_parent(self) -> None:
        script = (
            "import os\n"
            "from chronik.testing import Chronik\n"
            "print(Chronik(process=True).start().pid, flush=True)\n"
            "os._exit(0)\n"
        )
        environment = {"PYTHONPATH": ":".join(filter(None, sys.path))}
        child = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=30, check=True
        )
        pid = int(child.stdout)
        deadline = time.monotonic() + 10
        while _is_running(pid):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def test_the_pytest_fixture(self) -> None:
        with TemporaryDirectory() as directory:
            Path(directory, "test_user.py").write_text(
                "import socket\n"
                "def test_it_answers(chronik):\n"
                "    socket.create_connection(('127.0.0.1', chronik.port)).close()\n"
            )
            environment = {"PYTHONPATH": ":".join(filter(None, sys.path)), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-p", "chronik.testing.pytest_plugin", directory],
                capture_output=True,
                text=True,
                env=environment,
                timeout=60,
                check=False,
            )
            self.assertIn("1 passed", done.stdout, done.stdout + done.stderr)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
