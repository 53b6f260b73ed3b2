"""Watches the sockets of all Kafka connections with one epoll of its own, which the reactor sees as one readable descriptor.

A reactor's turn costs some microseconds for every descriptor that is ready, most of it log context that nobody here uses.
Behind a `ConnectionPoller` a turn serves all connections that are ready, with an error wall of its own around each, and
then sends what they have answered: the first send wakes a client, and the others find it awake.

To its transports the poller is their reactor, as far as they use one: `IReactorFDSet`'s four methods that start and stop
watching, and `callLater`.
"""

from __future__ import annotations

import select
from typing import Any

from twisted.internet import main
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

_READ, _WRITE, _GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR
_MAX_EVENTS = 64  # a turn, before the reactor has its own
_REASONS = {id(why): Failure(why) for why in (main.CONNECTION_DONE, main.CONNECTION_LOST)}


@implementer(IReadDescriptor)
class ConnectionPoller:
    """The reactor of the transports behind it. Linux only, as epoll is."""

    log = Logger()

    def __init__(self, reactor: Any) -> None:
        self.callLater = reactor.callLater
        self.in_turn = False
        """Whether a turn goes on: transports then leave what is to be sent in `unsent`, and are told `send` at its end."""
        self.unsent: list[Any] = []
        self._reactor = reactor
        self._epoll = select.epoll()
        self._transports: set[Any] = set()  # all of them, also those that wait for nothing now
        self._watched: dict[int, tuple[Any, int]] = {}  # transport and event mask by file descriptor
        reactor.addReader(self)

    def close(self) -> None:
        """Watch nothing any more. Connections that are still open end here."""
        self._reactor.removeReader(self)
        self.connectionLost(_REASONS[id(main.CONNECTION_LOST)])
        self._epoll.close()

    # -- for transports -----------------------------------------------------------------------------------------------

    def begin(self, transport: Any) -> None:
        """`transport` has a socket from now on, until `end`."""
        self._transports.add(transport)

    def end(self, transport: Any) -> None:
        """The socket of `transport` is gone."""
        self._transports.discard(transport)

    def addReader(self, transport: Any) -> None:
        """Call `transport.doRead` when there is something to read."""
        self._watch(transport, _READ, 0)

    def addWriter(self, transport: Any) -> None:
        """Call `transport.doWrite` when its socket takes something."""
        self._watch(transport, _WRITE, 0)

    def removeReader(self, transport: Any) -> None:
        """Call `doRead` no more."""
        self._watch(transport, 0, _READ)

    def removeWriter(self, transport: Any) -> None:
        """Call `doWrite` no more."""
        self._watch(transport, 0, _WRITE)

    def _watch(self, transport: Any, also: int, not_any_more: int) -> None:
        descriptor = transport.fileno()
        _, before = self._watched.get(descriptor, (None, 0))
        mask = (before | also) & ~not_any_more
        if mask == before:
            return
        if not before:
            self._epoll.register(descriptor, mask)
        elif mask:
            self._epoll.modify(descriptor, mask)
        else:
            self._epoll.unregister(descriptor)
            del self._watched[descriptor]
            return
        self._watched[descriptor] = transport, mask

    # -- for the reactor ----------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """The epoll's own descriptor: readable while a connection is ready."""
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        """What the reactor calls us in the log."""
        return "chronik.connections"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops: so do the connections."""
        for transport in list(self._transports):
            self._disconnect(transport, reason)

    def doRead(self) -> None:
        """Serve the connections that are ready, then send their answers."""
        watched = self._watched
        self.in_turn = True
        for descriptor, event in self._epoll.poll(0, _MAX_EVENTS):
            found = watched.get(descriptor)
            if found is None:
                continue  # closed by one that was served before it
            transport, mask = found
            why = None
            try:
                if event & _READ:
                    why = transport.doRead()
                elif event & _GONE:
                    why = main.CONNECTION_DONE if mask & _READ else main.CONNECTION_LOST
                if why is None and event & _WRITE:
                    why = transport.doWrite()
            except Exception as defect:
                self.log.failure("a connection is closed: serving it failed")
                why = defect
            if why is not None:
                self._disconnect(transport, _REASONS.get(id(why)) or Failure(why))
        self.in_turn = False
        if self.unsent:
            unsent, self.unsent = self.unsent, []
            for transport in unsent:
                transport.send()

    def _disconnect(self, transport: Any, reason: Failure) -> None:
        self._watch(transport, 0, _READ | _WRITE)
        transport.connectionLost(reason)
