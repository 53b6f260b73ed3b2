"""`chronik-ctl query`: create, list, describe, pause, resume and drop continuous queries, and look at their open windows."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from chronik.ctl.options import shared_options
from chronik.ctl.output import emit
from chronik.ctl.runner import Access, Connecting, run
from chronik.ctl.search import URL_VARIABLE, url_of

_COLUMNS = ("name", "source", "into", "state", "lag", "records", "late_records", "fault")


@click.group()
def query() -> None:
    """Windows over a topic that are kept up to date by SQL, and written to another topic."""


def _url_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "-u",
        "--search-url",
        metavar="URL",
        help=f"The search listener [env: {URL_VARIABLE}; default: port 9200 of the first bootstrap server].",
    )(command)


class _Asking:
    """The search listener, as a command asks it."""

    def __init__(self, connecting: Connecting, access: Access, url: str | None) -> None:
        self._timeout = connecting.timeout
        self._reactor = access.reactor
        self._url = url or os.environ.get(URL_VARIABLE) or url_of(connecting.bootstrap)

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """What it answers."""
        from chronik.ctl.sql_client import ask_rest

        return await ask_rest(self._reactor, method, self._url, path, self._timeout, body)


def _row(found: dict[str, Any]) -> dict[str, Any]:
    counts = found["counts"]
    return {**found, "records": counts.get("records", 0), "late_records": counts.get("late", 0)}


def _path(name: str, more: str = "") -> str:
    from urllib.parse import quote

    return f"/v1/queries/{quote(name, safe='')}{more}"


@query.command()
@click.argument("statement")
@click.option("--late", metavar="TOPIC", help="Where late records go [default: the topic of the results, with -late].")
@_url_option
@shared_options()
def create(connecting: Connecting, statement: str, late: str | None, search_url: str | None) -> None:
    """Create a query: CREATE CONTINUOUS QUERY name AS SELECT … INTO topic. STATEMENT may be - for standard input."""
    body: dict[str, Any] = {"query": sys.stdin.read() if statement == "-" else statement}
    if late is not None:
        body["late"] = late

    async def work(access: Access) -> None:
        found = await _Asking(connecting, access, search_url).ask("POST", "/v1/queries", body)
        emit(connecting.output, found, [(None, _COLUMNS, [_row(found)])])

    run(connecting, work)


@query.command("list")
@_url_option
@shared_options()
def list_queries(connecting: Connecting, search_url: str | None) -> None:
    """List all queries, and how they are doing."""

    async def work(access: Access) -> None:
        found = (await _Asking(connecting, access, search_url).ask("GET", "/v1/queries"))["queries"]
        emit(connecting.output, found, [(None, _COLUMNS, [_row(each) for each in found])])

    run(connecting, work)


@query.command()
@click.argument("name")
@_url_option
@shared_options()
def describe(connecting: Connecting, name: str, search_url: str | None) -> None:
    """Show the query NAME: its text, where it is, and what it has counted."""

    async def work(access: Access) -> None:
        found = await _Asking(connecting, access, search_url).ask("GET", _path(name))
        facts = {key: value for key, value in found.items() if key not in ("counts", "offsets")}
        facts |= {f"counted: {key}": value for key, value in found["counts"].items()}
        rows = [{"property": key, "value": value} for key, value in facts.items()]
        emit(connecting.output, found, [(None, ("property", "value"), rows)])

    run(connecting, work)


def _changing(verb: str, method: str, path: str, what: str) -> None:
    @query.command(verb, help=what)
    @click.argument("name")
    @_url_option
    @shared_options()
    def change(connecting: Connecting, name: str, search_url: str | None) -> None:
        async def work(access: Access) -> None:
            found = await _Asking(connecting, access, search_url).ask(method, _path(name, path))
            emit(connecting.output, found, [(None, _COLUMNS, [_row(found)])])

        run(connecting, work)


_changing("pause", "POST", "/pause", "Let the query NAME rest. It goes on from there when it is resumed.")
_changing("resume", "POST", "/resume", "Let the query NAME go on.")
_changing("drop", "DELETE", "", "End the query NAME. The topics that it has written to stay.")


@query.command()
@click.argument("name")
@click.option(
    "--key", "values", multiple=True, metavar="VALUE", help="A value of the GROUP BY, in its order: JSON or text."
)
@click.option("--from", "first", type=int, metavar="MS", help="Windows that begin here or later, in ms since 1970.")
@click.option("--to", "last", type=int, metavar="MS", help="Windows that begin here or earlier.")
@click.option("-n", "--size", type=click.IntRange(0, 10_000), default=1000, show_default=True, help="At most so many.")
@_url_option
@shared_options()
def windows(
    connecting: Connecting,
    name: str,
    values: tuple[str, ...],
    first: int | None,
    last: int | None,
    size: int,
    search_url: str | None,
) -> None:
    """Show the open windows of the query NAME, as they are now."""
    from urllib.parse import urlencode

    asked: dict[str, Any] = {"size": size}
    if values:
        asked["key"] = json.dumps([_value(each) for each in values])
    asked |= {key: value for key, value in (("from", first), ("to", last)) if value is not None}

    async def work(access: Access) -> None:
        found = await _Asking(connecting, access, search_url).ask("GET", _path(name, f"/windows?{urlencode(asked)}"))
        rows = found["windows"]
        emit(connecting.output, found, [(None, tuple(rows[0]) if rows else ("window_start",), rows)])
        if found["more"]:
            click.echo(f"there are more: narrow it, or raise --size above {size}", err=True)

    run(connecting, work)


@query.command()
@click.argument("name")
@click.option(
    "--key", "values", multiple=True, metavar="VALUE", help="A value of the GROUP BY, in its order: JSON or text."
)
@click.option(
    "--start", type=int, required=True, metavar="MS", help="The window_start of the window, in ms since 1970."
)
@_url_option
@shared_options()
def explain(connecting: Connecting, name: str, values: tuple[str, ...], start: int, search_url: str | None) -> None:
    """Show which records are in a window of the query NAME, and what it comes to, recomputed from the log."""
    from urllib.parse import urlencode

    asked = urlencode({"key": json.dumps([_value(each) for each in values]), "start": start})

    async def work(access: Access) -> None:
        found = await _Asking(connecting, access, search_url).ask("GET", _path(name, f"/explain?{asked}"))
        window = found["window"] or {}
        rows = [{"partition": int(partition), "offsets": offsets} for partition, offsets in found["offsets"].items()]
        tables = [(None, tuple(window), [window])] if window else []
        emit(connecting.output, found, [*tables, ("Records", ("partition", "offsets"), rows)])
        shown = sum(len(offsets) for offsets in found["offsets"].values())
        if shown < found["records"]:
            click.echo(f"{found['records'] - shown} more records are not shown", err=True)

    run(connecting, work)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
