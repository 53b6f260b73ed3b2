"""The system's send buffer of a connection is as large as the configuration says."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from chronik.config import Config
from chronik.services import make_node


class SendBufferTests(TestCase):
    timeout = 30

    async def of_a_connection(self, **options: str) -> int:
        """SO_SNDBUF of an accepted connection: the system gives twice what it is asked for."""
        config = Config.resolve({"listeners": "PLAINTEXT://127.0.0.1:0", "admin_listener": "none", **options})
        node = make_node(config, self.fail, in_memory=True)
        node.startService()
        try:
            await node.ready
            with socket.create_connection(("127.0.0.1", node.endpoints[0].port)):
                connections: list[Any] = []
                while not connections:
                    await deferLater(reactor, 0.01)
                    connections = [each for factory in node._factories for each in factory.connections]
                size = connections[0].transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        finally:
            await node.stopService()
        return int(size)

    async def test_it_is_small_by_default(self) -> None:
        self.assertEqual(await self.of_a_connection(), 2 * 256 * 1024)

    async def test_it_can_be_set_or_left_to_the_system(self) -> None:
        self.assertEqual(await self.of_a_connection(socket_send_buffer_bytes="100000"), 200_000)
        with socket.socket() as untouched:
            least = untouched.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        self.assertGreaterEqual(await self.of_a_connection(socket_send_buffer_bytes="-1"), least)
