"""The transport that sends at once: the same bytes in the same order, whatever the socket takes, and backpressure as ever."""

from __future__ import annotations

import random
import socket

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from chronik.listeners.eager import EagerServer, use_eager_transport


@implementer(IPushProducer)
class Server(Protocol):
    def __init__(self, made):
        self.made = made
        self.told = []
        self.lost = Deferred()

    def connectionMade(self):
        self.transport.registerProducer(self, True)
        self.made.callback(self)

    def pauseProducing(self):
        self.told.append("pause")

    def resumeProducing(self):
        self.told.append("resume")

    def stopProducing(self):
        self.told.append("stop")

    def connectionLost(self, reason):
        self.lost.callback(None)


class EagerTests(TestCase):
    timeout = 60

    async def connect(self):
        made = Deferred()
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
            Factory.forProtocol(lambda: Server(made))
        )
        self.addCleanup(port.stopListening)
        use_eager_transport(port)
        client = socket.create_connection(("127.0.0.1", port.getHost().port))
        client.settimeout(30)
        self.addCleanup(client.close)
        server = await made
        self.addCleanup(lambda: server.transport.abortConnection() or server.lost)
        self.assertIsInstance(server.transport, EagerServer)
        return server, client

    async def test_what_fits_is_there_before_the_reactor_turns(self):
        server, client = await self.connect()
        server.transport.write(b"one ")
        server.transport.write(b"two")
        self.assertEqual(client.recv(100), b"one two")

    async def test_what_does_not_fit_follows_in_order_and_the_producer_waits(self):
        server, client = await self.connect()
        chance = random.Random(1)
        pieces = [chance.randbytes(chance.choice([1, 100, 70_000])) for _ in range(600)]
        for number, piece in enumerate(pieces):
            server.transport.write(piece)
            if number % 100 == 99:
                await deferLater(reactor, 0)
        self.assertEqual(set(server.told), {"pause"})
        expected = b"".join(pieces)

        def read():
            found = bytearray()
            while len(found) < len(expected):
                found += client.recv(1 << 16)
            return bytes(found)

        self.assertEqual(await deferToThread(read), expected)
        await deferLater(reactor, 0.1)
        self.assertEqual((set(server.told[:-1]), server.told[-1]), ({"pause"}, "resume"))
        server.transport.write(b"more")
        self.assertEqual(client.recv(100), b"more")

    async def test_a_close_comes_behind_what_waits(self):
        server, client = await self.connect()
        data = bytes(8 << 20)
        server.transport.write(data)
        server.transport.write(b"end")
        server.transport.unregisterProducer()
        server.transport.loseConnection()

        def read():
            found = 0
            while part := client.recv(1 << 16):
                found, last = found + len(part), part
            return found, last[-3:]

        self.assertEqual(await deferToThread(read), (len(data) + 3, b"end"))

    async def test_a_connection_that_is_gone_is_found_out(self):
        server, client = await self.connect()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        for _ in range(3):
            server.transport.write(b"x")
            await deferLater(reactor, 0.05)
        await server.lost
        server.transport.write(b"y")
