"""Sends the requests of a scenario over raw sockets, one blocking exchange at a time, and records what came back, masked."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any

from chronik.wire.apis import ApiKey, message_classes
from chronik.wire.codec import Response
from chronik.wire.frames import encode_request, response_body
from chronik.wire.schema import Struct
from tests.differential.masks import Masks

CLIENT_ID = "differential"
PATIENCE = 10.0
"""Seconds to wait for an answer before the broker counts as silent."""


class NoAnswer(Exception):
    """The broker closed the connection ("closed") or said nothing for a while ("silent")."""


def fit(cls: type[Struct], values: Mapping[str, Any], version: int) -> Any:
    """An instance of `cls` from nested dictionaries; fields that `version` lacks are left at their default."""
    chosen: dict[str, Any] = {}
    by_name = {field.name: field for field in cls.FIELDS}
    for name, value in values.items():
        field = by_name.get(name)
        if field is None:
            raise TypeError(f"{cls.__name__} has no field {name!r}; it has {', '.join(by_name)}")
        if not (field.versions.has(version) or field.tagged.has(version)):
            continue
        if field.kind == "array" and value is not None and isinstance(field.element, type):
            value = [fit(field.element, item, version) for item in value]
        elif field.kind == "struct" and value is not None:
            value = fit(field.element, value, version)
        chosen[name] = value
    return cls(**chosen)


class Connection:
    """One TCP connection; answers are read in order."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        """Write `data`; a connection that the peer has closed is noticed when reading."""
        # A peer that closed is reported as "closed" by the reader, whichever side of the race this is.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(data)

    def receive(self, patience: float) -> bytes:
        """The next frame without its size. Raises NoAnswer."""
        self._socket.settimeout(patience)
        try:
            (size,) = struct.unpack(">i", self._exactly(4))
            return self._exactly(size)
        except TimeoutError:
            raise NoAnswer("silent") from None
        except ConnectionError:
            raise NoAnswer("closed") from None

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise ConnectionResetError
            data += part
        return bytes(data)

    def close(self) -> None:
        """Close without waiting."""
        self._socket.close()


class Session:
    """One scenario's run against one broker. `transcript` maps each step's label to its masked outcome.

    An outcome is `{"answer": {...}}`, `{"closed": True}`, `{"silent": True}` or `{"unparsable": ...}`. Several connections
    may be open, by name; the default one is reopened after the broker closed it.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._connections: dict[str, Connection] = {}
        self._correlation = 0
        self._masks = Masks()
        self.transcript: dict[str, Any] = {}

    def ask(
        self, label: str, key: ApiKey, version: int, values: Mapping[str, Any], on: str = "", **options: Any
    ) -> Any:
        """Send one request, record the answer under `label` and the version, return the decoded answer or None."""
        return self.read(self.begin(label, key, version, values, on), **options)

    def begin(self, label: str, key: ApiKey, version: int, values: Mapping[str, Any], on: str = "") -> Pending:
        """Send one request and don't wait; hand the result to `read`."""
        request, response = message_classes(key)
        self._correlation += 1
        message = fit(request, values, version)
        self._masks.plain(message)  # ids get their ordinals where they are sent, whatever order the answers have
        frame = b"".join(bytes(part) for part in encode_request(message, version, self._correlation, CLIENT_ID))
        connection = self._connect(on)
        connection.send(frame)
        return Pending(
            f"{label} {key.name.title().replace('_', '')} v{version}", response, version, self._correlation, on
        )

    def read(self, pending: Pending, patience: float = PATIENCE, unrecorded: bool = False) -> Any:
        """Wait for the answer to `pending` and record it."""
        message, outcome = self._outcome(pending, patience)
        if not unrecorded:
            self.note(pending.label, outcome)
        return message

    def raw(self, label: str, frame: bytes, response: type[Response] | None = None, version: int = 0) -> Any:
        """Send `frame` (size included) as it stands; decode the answer as `response` of `version`, or show its bytes."""
        self._connect("").send(frame)
        return self.read(Pending(f"{label} raw", response, version, None, ""), patience=2.0)

    def wait_until(self, key: ApiKey, version: int, values: Mapping[str, Any], settled: Callable[[Any], bool]) -> Any:
        """Repeat an unrecorded request until `settled(answer)`: for effects that a broker applies in its own time."""
        give_up = time.monotonic() + 20
        while True:
            answer = self.ask("", key, version, values, unrecorded=True)
            if answer is not None and settled(answer):
                return answer
            if time.monotonic() > give_up:
                raise AssertionError(f"{key.name} never settled: {answer!r}")
            time.sleep(0.05)

    def note(self, label: str, outcome: Any) -> None:
        """Record `outcome` under a label of its own."""
        name, count = label, 1
        while name in self.transcript:
            count += 1
            name = f"{label} ({count})"
        self.transcript[name] = outcome

    def drop(self, on: str = "") -> None:
        """Close a connection."""
        connection = self._connections.pop(on, None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close all connections."""
        for name in list(self._connections):
            self.drop(name)

    def _connect(self, on: str) -> Connection:
        if on not in self._connections:
            self._connections[on] = Connection(self._address)
        return self._connections[on]

    def _outcome(self, pending: Pending, patience: float) -> tuple[Any, dict[str, Any]]:
        try:
            frame = self._connect(pending.on).receive(patience)
        except NoAnswer as reason:
            self.drop(pending.on)
            return None, {str(reason): True}
        if pending.response is None:
            return None, {"bytes": frame[4:].hex()}
        try:
            correlation, position = response_body(frame, pending.response, pending.version)
            message, stop = pending.response.decode(frame, pending.version, position)
        except Exception as problem:  # whatever a wrong answer does to the decoder is the finding
            return None, {"unparsable": f"{type(problem).__name__}: {problem}", "bytes": frame.hex()}
        outcome: dict[str, Any] = {"answer": self._masks.plain(message)}
        if stop != len(frame):
            outcome["left_over"] = frame[stop:].hex()
        if pending.correlation is not None and correlation != pending.correlation:
            outcome["correlation"] = f"{correlation} instead of {pending.correlation}"
        return message, outcome


class Pending:
    """A request on its way: what its answer will be recorded under, and how to decode it."""

    def __init__(
        self, label: str, response: type[Response] | None, version: int, correlation: int | None, on: str
    ) -> None:
        self.label = label
        self.response = response
        self.version = version
        self.correlation = correlation
        self.on = on
