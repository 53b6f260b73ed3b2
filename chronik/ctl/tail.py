"""`chronik-ctl tail`: the messages that match a query, as they come.

A connection that is lost is made anew, and the tail goes on where it was: nothing is shown twice, nothing is left out. What was
dropped, because this side was too slow, is said on stderr.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import click

from chronik.ctl.formats import FormatError, Message, Printer, format_printer
from chronik.ctl.options import shared_options
from chronik.ctl.runner import Access, CommandFailed, Connecting, run
from chronik.ctl.search import DEFAULT_PORT, URL_VARIABLE, printable, url_of

if TYPE_CHECKING:
    from chronik.client.websocket import WebSocket

_FIRST_DELAY, _LONGEST_DELAY = 0.5, 10.0
_REFUSED = range(4400, 4500)
"""Codes with which a connection is closed that need not be tried again."""
_MINUS_ONE = -1


@click.command()
@click.argument("topic")
@click.argument("query", default="")
@click.option(
    "--from",
    "since",
    metavar="START",
    default="latest",
    help="latest, earliest, a time (ISO 8601, now-1h, epoch milliseconds), or the positions of another tail, as JSON.",
)
@click.option("-c", "count", type=click.IntRange(min=1), help="Exit after this many messages.")
@click.option("-f", "form", metavar="FORMAT", help=r"kcat's format: %s %S %R %k %K %t %p %o %T %h %%, \n \t \xHH.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="json: one object a line.")
@click.option(
    "-u",
    "--search-url",
    metavar="URL",
    help=f"The search listener [env: {URL_VARIABLE}; default: port {DEFAULT_PORT} of the first bootstrap server].",
)
@shared_options(output=False)
def tail(
    connecting: Connecting,
    topic: str,
    query: str,
    since: str,
    count: int | None,
    form: str | None,
    output: str,
    search_url: str | None,
) -> None:
    """Print the messages of TOPIC that match QUERY as they come, until interrupted.

    TOPIC may be several, with wildcards: a,b or log-*. QUERY is a query string: level:error AND "connection reset" NOT
    path:/health took:>250. All messages without one.
    """
    try:
        print_hit = _printer(form, output)
    except FormatError as problem:
        raise click.BadParameter(str(problem), param_hint="-f") from None
    url = search_url or os.environ.get(URL_VARIABLE) or url_of(connecting.bootstrap)
    if urlsplit(url).scheme != "http":
        raise click.BadParameter(f"{url!r} does not begin with http://", param_hint="--search-url")

    async def work(access: Access) -> None:
        await _Tail(access.reactor, url, topic, query, since, print_hit, count, connecting.timeout).run()

    run(connecting, work)


class _Tail:
    """A tail over as many connections as it takes."""

    def __init__(
        self,
        reactor: Any,
        url: str,
        topic: str,
        query: str,
        since: str,
        print_hit: Callable[[Mapping[str, Any]], bytes],
        count: int | None,
        timeout: float,
    ) -> None:
        self._reactor = reactor
        self._url = url
        self._topic = topic
        self._query = query
        self._since = since
        self._print = print_hit
        self._left = count
        self._timeout = timeout
        self._positions: dict[str, dict[str, int]] = {}
        self._began = False

    async def run(self) -> None:
        """Tail. Raises CommandFailed for what is refused, and ClientError where nobody answers at the first attempt."""
        from twisted.internet.task import deferLater

        from chronik.client.errors import ClientError
        from chronik.client.websocket import Closed, open_websocket

        delay = _FIRST_DELAY
        while True:
            try:
                connection = await open_websocket(self._reactor, self._where(), self._timeout)
                try:
                    await self._read(connection)
                    return
                finally:
                    connection.close()
            except Closed as closed:
                if closed.code in _REFUSED or not self._began:
                    raise CommandFailed(f"{closed} (from {self._url})") from None
                problem: Exception = closed
                delay = _FIRST_DELAY
            except ClientError as error:
                if not self._began:
                    raise
                problem = error
            click.echo(f"chronik-ctl: {problem}; trying again in {delay:g} s", err=True)
            await deferLater(self._reactor, delay)
            delay = min(2 * delay, _LONGEST_DELAY)

    def _where(self) -> str:
        since = json.dumps(self._positions) if self._began else self._since
        parameters = urlencode({"topic": self._topic, "query": self._query, "from": since})
        return f"ws{self._url.removeprefix('http').rstrip('/')}/tail?{parameters}"

    async def _read(self, connection: WebSocket) -> None:
        """Print what comes, until there is enough."""
        out = sys.stdout.buffer
        while True:
            told = json.loads(await connection.receive())
            kind = told["type"]
            if kind == "hits":
                hits = told["hits"] if self._left is None else told["hits"][: self._left]
                out.write(b"".join([self._print(hit) for hit in hits]))
                out.flush()
                for hit in hits:
                    self._reach(hit["topic"], hit["partition"], hit["offset"] + 1)
                if self._left is not None:
                    self._left -= len(hits)
                    if not self._left:
                        return
            elif kind in ("hello", "positions"):
                self._began = True
                for topic, partitions in told["positions"].items():
                    for partition, offset in partitions.items():
                        self._reach(topic, partition, offset)
            elif kind in ("dropped", "skipped"):
                click.echo(f"chronik-ctl: {_missing(told)}", err=True)
                for each in told["ranges"]:
                    self._reach(each["topic"], each["partition"], each["last"] + 1)
            elif kind == "error" and told["status"] < 500:
                at = f", at position {told['position']} of the query" if "position" in told else ""
                raise CommandFailed(f"{told['reason']}{at} (from {self._url})")

    def _reach(self, topic: str, partition: int | str, offset: int) -> None:
        partitions = self._positions.setdefault(topic, {})
        partitions[str(partition)] = max(partitions.get(str(partition), 0), offset)


def _missing(told: Mapping[str, Any]) -> str:
    """What was not sent, in a line."""
    places = ", ".join(
        f"{each['topic']}/{each['partition']} offsets {each['first']} to {each['last']}" for each in told["ranges"]
    )
    if told["type"] == "dropped":
        return f"too slow: {told['count']} message(s) were dropped, in {places}"
    return f"not looked at: {places + ': ' if places else ''}{told['reason']}"


def _printer(form: str | None, output: str) -> Callable[[Mapping[str, Any]], bytes]:
    """What prints a hit. Raises FormatError."""
    if form is not None:
        chosen: Printer = format_printer(form)
        return lambda hit: chosen(_message(hit))
    if output == "json":
        return lambda hit: json.dumps(hit, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    if sys.stdout.isatty():
        return lambda hit: (printable(_text(hit)) or "").encode() + b"\n"
    return lambda hit: (_bytes(hit, "value") or b"") + b"\n"


def _text(hit: Mapping[str, Any]) -> str:
    """The value for a terminal; what stands for one that is no text."""
    if "omitted" in hit:
        return f"({hit['omitted']} bytes at {hit['topic']}/{hit['partition']} offset {hit['offset']})"
    return (_bytes(hit, "value") or b"").decode("utf-8", "replace")


def _bytes(hit: Mapping[str, Any], name: str) -> bytes | None:
    encoded = hit.get(f"{name}_base64")
    if encoded is not None:
        return base64.b64decode(encoded)
    text = hit.get(name)
    return None if text is None else text.encode()


def _message(hit: Mapping[str, Any]) -> Message:
    """The hit as `consume` prints a record."""
    timestamp = hit["timestamp"]
    return Message(
        hit["topic"],
        hit["partition"],
        hit["offset"],
        _MINUS_ONE if timestamp is None else timestamp,
        False,
        _bytes(hit, "key"),
        _bytes(hit, "value"),
        tuple((header["name"], _bytes(header, "value")) for header in hit.get("headers", ())),
    )
