"""Commands that speak to a node's REST API, as what they are about is no part of Kafka's protocol."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chronik.ctl.options import shared_options
from chronik.ctl.output import emit
from chronik.ctl.runner import Access, CommandFailed, Connecting, run

if TYPE_CHECKING:
    from treq.client import HTTPClient

_F = TypeVar("_F", bound=Callable[..., Any])

DEFAULT_ADMIN = "http://127.0.0.1:8080"
_PAGE = 1000


def admin_option(function: _F) -> Callable[..., Any]:
    """Add the option that says where the REST API is: the command's argument `admin`."""
    return click.option(
        "--admin",
        metavar="URL",
        envvar="CHRONIK_ADMIN",
        default=DEFAULT_ADMIN,
        help=f"The node's REST API [env: CHRONIK_ADMIN; default: {DEFAULT_ADMIN}].",
    )(wraps(function)(function))


class Rest:
    """The REST API at the URL `admin`, for one command."""

    def __init__(self, access: Access, admin: str) -> None:
        self._access = access
        self._base = admin.rstrip("/")

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON, None where it has none. Raises CommandFailed with the node's refusal, and ClientError."""
        from twisted.internet.error import ConnectError, DNSLookupError, TimeoutError
        from twisted.web.client import RequestTransmissionFailed, ResponseFailed, ResponseNeverReceived
        from twisted.web.error import SchemeNotSupported

        from chronik.client.errors import ConnectionClosed, RequestTimedOut, Unreachable

        timeout = self._access.connecting.timeout
        headers: dict[bytes | str, bytes | str] = {"accept": "application/json"}
        if body is not None:
            headers["content-type"] = "application/json"
        data = None if body is None else json.dumps(body).encode()
        try:
            response = await self._client().request(
                method, self._base + path, data=data, headers=headers, timeout=timeout
            )
            content = await response.content()
        except (ConnectError, DNSLookupError) as problem:
            raise Unreachable(f"no node answers at {self._base}: {_reason(problem)}") from None
        except TimeoutError:
            raise RequestTimedOut(f"{self._base} has not answered within {timeout:g} s") from None
        except (ResponseNeverReceived, ResponseFailed, RequestTransmissionFailed):
            raise ConnectionClosed(f"{self._base} has closed the connection; is it the REST API?") from None
        except (SchemeNotSupported, ValueError, UnicodeError):
            raise CommandFailed(f"{self._base!r} is no URL of a REST API, as {DEFAULT_ADMIN} is") from None
        if response.code >= 400:
            raise CommandFailed(self._refusal(response.code, content))
        try:
            return json.loads(content) if content else None
        except ValueError:
            raise CommandFailed(f"{self._base} has not answered in JSON; is it the REST API?") from None

    async def all(self, path: str, key: str) -> list[dict[str, Any]]:
        """All items of a list that comes in pages."""
        from urllib.parse import quote

        items: list[dict[str, Any]] = []
        after = ""
        while True:
            page = await self.ask("GET", f"{path}?limit={_PAGE}" + (f"&after={quote(after, safe='')}" if after else ""))
            items += page[key]
            if page["next"] is None:
                return items
            after = page["next"]

    def _refusal(self, status: int, content: bytes) -> str:
        try:
            problem = json.loads(content)
            return f"{problem['detail']} ({problem.get('code') or status} from {self._base})"
        except (ValueError, KeyError, TypeError):
            return f"{self._base} has answered with HTTP status {status}; is it the REST API?"

    def _client(self) -> HTTPClient:
        from treq.client import HTTPClient
        from twisted.web.client import Agent, HTTPConnectionPool

        reactor = self._access.reactor
        pool = HTTPConnectionPool(reactor, persistent=False)  # type: ignore[no-untyped-call]
        connecting = min(self._access.connecting.timeout, 10.0)
        return HTTPClient(Agent(reactor, pool=pool, connectTimeout=connecting))  # type: ignore[no-untyped-call]


def _reason(problem: Exception) -> str:
    return (getattr(problem, "osError", None) and str(problem.osError)) or str(problem).rstrip(".").lower()  # type: ignore[attr-defined]


def deletion(where: str, what: str) -> click.Command:
    """The command `delete` of things that are at the path `where`, by their names; `what` is its help."""

    @click.command("delete", help=what)
    @click.argument("names", nargs=-1, required=True, metavar="NAME…")
    @click.option("-y", "--yes", is_flag=True, help="Do not ask.")
    @admin_option
    @shared_options()
    def delete(connecting: Connecting, names: tuple[str, ...], yes: bool, admin: str) -> None:
        if not yes and sys.stdin.isatty():
            click.confirm(f"Delete {', '.join(names)}?", abort=True, err=True)

        async def work(access: Access) -> None:
            from urllib.parse import quote

            rest = Rest(access, admin)
            for name in names:
                await rest.ask("DELETE", f"{where}/{quote(name, safe='')}")
            rows = [{"name": name, "deleted": True} for name in names]
            emit(connecting.output, rows, [(None, ("name", "deleted"), rows)])

        run(connecting, work)

    return delete
