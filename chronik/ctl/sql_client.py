"""Asking the search listener: one request, its answer as bytes, JSON or line by line, and what went wrong in a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import treq
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed
from twisted.web.http_headers import Headers

from chronik.client.errors import BadResponse, RequestTimedOut, Unreachable
from chronik.ctl.runner import CommandFailed

_LONGEST_LINE = 256 << 20
_SQL = "/v1/sql"


async def ask(reactor: Any, url: str, body: dict[str, Any], timeout: float) -> bytes:
    """The answer as it came. Raises CommandFailed for what is refused, Unreachable, RequestTimedOut, BadResponse."""
    pieces: list[bytes] = []
    status = await _send(reactor, "POST", url, _SQL, body, timeout, pieces.append)
    content = b"".join(pieces)
    if status != 200:
        raise _refused(url, status, content)
    return content


async def ask_rest(
    reactor: Any, method: str, url: str, path: str, timeout: float, body: dict[str, Any] | None = None
) -> Any:
    """The JSON that answers a request. Raises as `ask`."""
    pieces: list[bytes] = []
    status = await _send(reactor, method, url, path, body, timeout, pieces.append)
    content = b"".join(pieces)
    if status != 200:
        raise _refused(url, status, content)
    try:
        return json.loads(content)
    except ValueError:
        raise BadResponse(f"{url} did not answer as JSON") from None


async def ask_in_lines(
    reactor: Any, url: str, body: dict[str, Any], timeout: float, progress: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """The answer; `progress` is told on the way. The node must say something every `timeout` seconds. Raises as `ask`."""
    lines = _Lines(progress)
    status = await _send(reactor, "POST", url, _SQL, body, timeout, lines.feed)
    last = lines.last()
    try:
        found = json.loads(last)
        if status == 200 and "answer" in found:
            answer: dict[str, Any] = found["answer"]
            return answer
    except ValueError:
        pass  # what it is, is said below
    raise _refused(url, status, last)


class _Lines:
    """Takes an answer apart into its lines."""

    def __init__(self, progress: Callable[[dict[str, Any]], object]) -> None:
        self._progress = progress
        self._rest = bytearray()

    def feed(self, data: bytes) -> None:
        """Some more bytes. Only the last line may be long: it is kept until the end."""
        self._rest += data
        if len(self._rest) > _LONGEST_LINE:
            raise BadResponse(f"the answer is larger than {_LONGEST_LINE} bytes")
        while self._rest.startswith(b'{"progress"') and (end := self._rest.find(b"\n")) >= 0:
            line = bytes(self._rest[:end])
            del self._rest[: end + 1]
            self._progress(json.loads(line)["progress"])

    def last(self) -> bytes:
        """What is no progress."""
        return bytes(self._rest)


async def _send(
    reactor: Any,
    method: str,
    url: str,
    path: str,
    body: dict[str, Any] | None,
    timeout: float,
    collect: Callable[[bytes], None],
) -> int:
    """Send the request, and hand on its answer as it comes; the status."""
    pool = HTTPConnectionPool(reactor, persistent=False)  # type: ignore[no-untyped-call]
    agent = Agent(reactor, connectTimeout=min(timeout, 10.0), pool=pool)  # type: ignore[no-untyped-call]
    client = treq.client.HTTPClient(agent)
    work: Deferred[int] = Deferred.fromCoroutine(
        _exchange(client, method, url.rstrip("/") + path, body, lambda data: heard(data))
    )
    timer = reactor.callLater(timeout, work.cancel)

    def heard(data: bytes) -> None:
        timer.reset(timeout)
        collect(data)

    try:
        return await work
    except (ConnectError, DNSLookupError) as problem:
        reason = "connection refused" if isinstance(problem, ConnectionRefusedError) else str(problem).rstrip(".")
        raise Unreachable(f"no search listener answers at {url}: {reason}") from problem
    except (TimeoutError, CancelledError) as problem:
        if timer.active():  # interrupted
            raise
        raise RequestTimedOut(f"{url} said nothing for {timeout:g} s") from problem
    except (ResponseFailed, ValueError) as problem:
        raise BadResponse(f"{url} did not answer as HTTP does: {problem!r}") from problem
    finally:
        if timer.active():
            timer.cancel()


async def _exchange(
    client: Any, method: str, address: str, body: dict[str, Any] | None, collect: Callable[[bytes], None]
) -> int:
    response = await client.request(
        method,
        address,
        data=None if body is None else json.dumps(body).encode(),
        headers=Headers({"content-type": ["application/json"]}),
        unbuffered=True,
    )
    await treq.collect(response, collect)
    return int(response.code)


def _refused(url: str, status: int, content: bytes) -> Exception:
    try:
        error = json.loads(content)["error"]
        return CommandFailed(f"{error['reason']} ({error['type']} from {url})")
    except (ValueError, KeyError, TypeError):
        return BadResponse(f"{url} is no search listener of a node that serves SQL: HTTP status {status}")
