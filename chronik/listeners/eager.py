"""A TCP server transport that tries to send at once what it is given.

Twisted's own keeps it until the reactor's next turn: it begins to watch the socket, is told that it takes something, sends, and
stops watching, which costs several times as much as the send. Here that comes only for what the socket doesn't take. It is for
many connections with little to say, such as live tails.
"""

from __future__ import annotations

from twisted.internet import tcp
from twisted.internet.interfaces import IListeningPort


class EagerServer(tcp.Server):
    """One accepted connection."""

    def write(self, data: bytes) -> None:
        """Send `data`, or keep what the socket doesn't take."""
        if data and self.connected and not (self.disconnecting or self._writeDisconnected or self._waits()):
            try:
                sent = self.socket.send(data)
            except OSError:
                sent = 0  # nothing fits in now; or the connection is lost, which the next turn will find
            if sent == len(data):
                return
            data = data[sent:]
        super().write(data)

    def _waits(self) -> bool:
        """Whether something has to be sent before."""
        return bool(self.dataBuffer or self._tempDataBuffer)


def use_eager_transport(port: IListeningPort) -> None:
    """Have `port` accept connections with `EagerServer`, if it is a plain TCP port."""
    if type(port) is tcp.Port:
        port.transport = EagerServer
