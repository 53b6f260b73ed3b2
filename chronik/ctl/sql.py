"""`chronik-ctl sql`: SELECT over topics, DESCRIBE, SHOW TOPICS, by the search listener."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from chronik.ctl.options import shared_options
from chronik.ctl.output import emit
from chronik.ctl.runner import Access, Connecting, run
from chronik.ctl.search import URL_VARIABLE, printable, url_of


@click.command()
@click.argument("statement")
@click.option("--csv", "form", flag_value="csv", help="Print CSV, as the listener writes it.")
@click.option("--arrow", "form", flag_value="arrow", help="Write an Arrow IPC stream, which is binary.")
@click.option("-n", "--max-rows", type=click.IntRange(1), help="Cut off what is more [default: as the node is set].")
@click.option(
    "--run-ms", "timeout_ms", type=click.IntRange(1), help="How long it may run [default: as the node is set]."
)
@click.option(
    "-u",
    "--search-url",
    metavar="URL",
    help=f"The search listener [env: {URL_VARIABLE}; default: port 9200 of the first bootstrap server].",
)
@shared_options()
def sql(
    connecting: Connecting,
    statement: str,
    form: str | None,
    max_rows: int | None,
    timeout_ms: int | None,
    search_url: str | None,
) -> None:
    """Run one SELECT over topics: every topic is a table. STATEMENT may be - to read it from standard input.

    DESCRIBE topic shows its columns, SHOW TOPICS the topics.
    """
    body: dict[str, Any] = {"query": sys.stdin.read() if statement == "-" else statement}
    body |= {name: value for name, value in (("max_rows", max_rows), ("timeout_ms", timeout_ms)) if value is not None}
    body["format"] = form or "ndjson"
    watched = sys.stderr.isatty()

    async def work(access: Access) -> None:
        from chronik.ctl.sql_client import ask, ask_in_lines

        url = search_url or os.environ.get(URL_VARIABLE) or url_of(connecting.bootstrap)
        if form is not None:
            sys.stdout.buffer.write(await ask(access.reactor, url, body, connecting.timeout))
            return
        progress = show if watched else pass_over
        answer = await ask_in_lines(access.reactor, url, body, connecting.timeout, progress)
        if watched:
            click.echo("\r\x1b[K", nl=False, err=True)
        columns = [f"{number}" for number, _ in enumerate(answer["columns"])]
        names = {f"{number}": column["name"] for number, column in enumerate(answer["columns"])}
        rows = [dict(zip(columns, map(cell, row), strict=True)) for row in answer["rows"]]
        emit(connecting.output, answer, [(None, columns, rows)], names=names)
        click.echo(summary(answer), err=True)

    run(connecting, work)


def show(told: Mapping[str, Any]) -> None:
    """How far reading has come, on the terminal's last line."""
    percent = f"{100 * told['offsets'] // told['of']} %" if told["of"] else ""
    click.echo(f"\r\x1b[K{told['records']} records, {told['bytes_read'] >> 20} MiB read {percent}", nl=False, err=True)


def pass_over(told: Mapping[str, Any]) -> None:
    """Nobody looks."""


def cell(value: Any) -> Any:
    """A value as a cell of the table: on one line, without what a terminal would take for commands."""
    if isinstance(value, (dict, list)):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return printable(value) if isinstance(value, str) else value


def summary(answer: Mapping[str, Any]) -> str:
    """How many rows there are, what was read for them, and what is to be known of it."""
    told = answer["statistics"]
    parts = [f"{answer['row_count']} rows{', more are cut off' if answer['truncated'] else ''}"]
    if told["batches"] or told["segments_pruned"] or told["partitions_pruned"]:
        parts.append(f"{told['records']} records of {told['bytes_read']} bytes read")
    if told["segments_pruned"]:
        parts.append(f"{told['segments_pruned']} segments passed over")
    parts.append(f"{answer['took']} ms")
    for name, text in (
        ("not_json", "values are no JSON objects"),
        ("not_text", "keys, values or headers are no text"),
        ("undecodable", "batches cannot be decoded"),
    ):
        if told[name]:
            parts.append(f"{told[name]} {text}")
    for column, count in told["mistyped"].items():
        parts.append(f"{count} values of {printable(column)} are of another type: NULL")
    return "; ".join(parts)
