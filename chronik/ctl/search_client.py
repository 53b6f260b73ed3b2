"""Asking the search listener: one request, and what went wrong in a line."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import treq
from twisted.internet.defer import CancelledError, TimeoutError
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed
from twisted.web.http_headers import Headers

from chronik.client.errors import BadResponse, RequestTimedOut, Unreachable
from chronik.ctl.runner import CommandFailed


async def ask(reactor: Any, url: str, topic: str, body: dict[str, Any], timeout: float) -> dict[str, Any]:
    """The answer to a search. Raises CommandFailed for what the listener refuses, Unreachable, RequestTimedOut, BadResponse."""
    where = f"{url.rstrip('/')}/{quote(topic, safe=',*')}/_search"
    pool = HTTPConnectionPool(reactor, persistent=False)  # type: ignore[no-untyped-call]
    agent = Agent(reactor, connectTimeout=min(timeout, 10.0), pool=pool)  # type: ignore[no-untyped-call]
    client = treq.client.HTTPClient(agent)
    try:
        response = await client.post(
            where,
            data=json.dumps(body).encode(),
            headers=Headers({"content-type": ["application/json"]}),
            timeout=timeout,
        )
        content = await response.content()
    except (ConnectError, DNSLookupError) as problem:
        reason = "connection refused" if isinstance(problem, ConnectionRefusedError) else str(problem).rstrip(".")
        raise Unreachable(f"no search listener answers at {url}: {reason}") from problem
    except (TimeoutError, CancelledError) as problem:
        raise RequestTimedOut(f"{url} did not answer within {timeout:g} s") from problem
    except (ResponseFailed, ValueError) as problem:
        raise BadResponse(f"{url} did not answer as HTTP does: {problem!r}") from problem
    return decoded(url, response.code, content)


def decoded(url: str, status: int, content: bytes) -> dict[str, Any]:
    """The answer in the body. Raises CommandFailed, BadResponse."""
    try:
        answer = json.loads(content)
        if status == 200:
            answer["hits"]["hits"], answer["took"], answer["timed_out"]
            found: dict[str, Any] = answer
            return found
        reason = str(answer["error"]["reason"])
    except (ValueError, KeyError, TypeError) as problem:
        raise BadResponse(f"{url} is no search listener: HTTP status {status}") from problem
    raise CommandFailed(f"{reason} (HTTP status {status} from {url})")
