"""`chronik-ctl search`: messages by their content, over the search listener.

`chronik-ctl search TOPIC QUERY` is short for `chronik-ctl search find TOPIC QUERY`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

from chronik.ctl.options import shared_options
from chronik.ctl.output import emit, on_terminal
from chronik.ctl.runner import Access, Connecting, run

DEFAULT_PORT = 9200
URL_VARIABLE = "CHRONIK_CTL_SEARCH_URL"
_BEGIN, _END = "\ue000", "\ue001"  # of the private use area: nobody means anything by them
_MARKED = re.compile(f"{_BEGIN}(.*?){_END}", re.DOTALL)
_MAX_MARKED = 1000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class _FindIsDefault(click.Group):
    """A group whose first word is the name of a command, or else belongs to `find`."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Put `find` before what is no command's name."""
        if args and args[0] not in self.commands and args[0] not in context.help_option_names:
            args = ["find", *args]
        return super().parse_args(context, args)


@click.group(cls=_FindIsDefault)
def search() -> None:
    """Find messages: chronik-ctl search TOPIC QUERY."""


@search.command()
@click.argument("topic")
@click.argument("query", default="*")
@click.option("-n", "--size", type=click.IntRange(0, 10_000), default=10, help="How many to show [default: 10].")
@click.option("--from", "since", metavar="TIME", help="From this time on: ISO 8601, now-1h, epoch milliseconds.")
@click.option("--to", "until", metavar="TIME", help="Before this time.")
@click.option("--oldest-first", is_flag=True, help="Begin with the oldest, not with the newest.")
@click.option("--count", "count_all", is_flag=True, help="Count all that there are; without it some are enough.")
@click.option(
    "-u",
    "--search-url",
    metavar="URL",
    help=f"The search listener [env: {URL_VARIABLE}; default: port {DEFAULT_PORT} of the first bootstrap server].",
)
@shared_options()
def find(
    connecting: Connecting,
    topic: str,
    query: str,
    size: int,
    since: str | None,
    until: str | None,
    oldest_first: bool,
    count_all: bool,
    search_url: str | None,
) -> None:
    """Show the messages of TOPIC that match QUERY, the newest first.

    TOPIC may be several, with wildcards: a,b or log-*. QUERY is a query string: level:error AND "connection reset" NOT
    path:/health took:>250 key:order-* /time.*out/. All messages without one.
    """
    body = request_body(query, size, since, until, oldest_first, count_all)
    if connecting.output == "table" and on_terminal():
        body["highlight"] = {"fields": {"*": {}}, "number_of_fragments": 0, "pre_tags": [_BEGIN], "post_tags": [_END]}

    async def work(access: Access) -> None:
        from chronik.ctl.search_client import ask

        url = search_url or os.environ.get(URL_VARIABLE) or url_of(connecting.bootstrap)
        answer = await ask(access.reactor, url, topic, body, connecting.timeout)
        hits = [shown(hit) for hit in answer["hits"]["hits"]]
        several = len(hits) > 0 and len({hit["topic"] for hit in hits}) > 1
        found = {"total": answer["hits"].get("total"), "timed_out": answer["timed_out"], "hits": hits}
        columns = (("topic",) if several else ()) + ("time", "place", "key", "message")
        rows = [row(hit) for hit in hits]
        emit(connecting.output, found, [(None, columns, rows)], marked(answer["hits"]["hits"]))
        click.echo(summary(answer, len(hits)), err=True)
        for failure in answer["_shards"].get("failures", ()):
            where = f"partition {failure['shard']} of {failure['index']}"
            click.echo(f"not searched: {where}: {failure['reason']['reason']}", err=True)

    run(connecting, work)


def request_body(
    query: str, size: int, since: str | None, until: str | None, oldest_first: bool, count_all: bool
) -> dict[str, Any]:
    """The search as the listener takes it."""
    clauses: list[dict[str, Any]] = [{"query_string": {"query": query}}]
    bounds = {name: text for name, text in (("gte", since), ("lt", until)) if text is not None}
    if bounds:
        clauses.append({"range": {"timestamp": bounds}})
    body: dict[str, Any] = {
        "query": {"bool": {"filter": clauses}},
        "size": size,
        "track_total_hits": count_all or not size,
    }
    if oldest_first:
        body["sort"] = [{"timestamp": "asc"}]
    return body


def url_of(bootstrap: str) -> str:
    """Where the search listener is, if nobody says it: on the first of these hosts."""
    first = bootstrap.split(",")[0].strip()
    host, colon, _ = first.rpartition(":")
    return f"http://{host if colon else first}:{DEFAULT_PORT}"


def shown(hit: Mapping[str, Any]) -> dict[str, Any]:
    """A hit under the names that JSON and YAML have. The value is an object where it is one in JSON, else a text."""
    fields = hit.get("fields", {})
    source = hit.get("_source")
    value = source["value"] if source is not None and list(source) == ["value"] else source
    headers = {name.removeprefix("headers."): values for name, values in fields.items() if name.startswith("headers.")}
    partition, _, offset = hit["_id"].partition(":")
    return {
        "topic": hit["_index"],
        "partition": int(partition),
        "offset": int(offset),
        "timestamp": _first(fields.get("timestamp")),
        "key": _first(fields.get("key")),
        "headers": headers,
        "value": value,
    }


def row(hit: Mapping[str, Any]) -> dict[str, Any]:
    """A hit as a row of the table: on one line, without what a terminal would take for commands."""
    value = hit["value"]
    if value is not None and not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return {
        "topic": hit["topic"],
        "time": hit["timestamp"],
        "place": f"{hit['partition']}:{hit['offset']}",
        "key": printable(hit["key"]),
        "message": printable(value),
    }


def marked(hits: Sequence[Mapping[str, Any]]) -> re.Pattern[str] | None:
    """What stands out in the hits, by their highlights; None where nothing is marked."""
    found: dict[str, None] = {}
    for hit in hits:
        for fragments in hit.get("highlight", {}).values():
            for fragment in fragments:
                found.update(dict.fromkeys(text for text in _MARKED.findall(fragment) if text))
    if not found:
        return None
    longest_first = sorted(found, key=len, reverse=True)[:_MAX_MARKED]
    return re.compile(rf"(?<!\w)(?:{'|'.join(re.escape(printable(text) or '') for text in longest_first)})(?!\w)")


def printable(text: str | None) -> str | None:
    r"""The text with control characters written out: \n, \x1b."""
    return None if text is None else _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def summary(answer: Mapping[str, Any], count: int) -> str:
    """How many there are, and how long it took."""
    total = answer["hits"].get("total")
    if total is None:
        said = f"{count} shown"
    else:
        least = "at least " if total["relation"] == "gte" else ""
        said = f"{count} of {least}{total['value']}"
    return f"{said}, {answer['took']} ms{', not all was searched in time' if answer['timed_out'] else ''}"


def _first(values: Sequence[Any] | None) -> Any:
    return values[0] if values else None
