"""`chronik-ctl search save, list, describe, delete`: searches that are saved as topics. `main` puts them into the group."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

import click

from chronik.ctl.options import shared_options
from chronik.ctl.output import emit
from chronik.ctl.rest import Rest, admin_option, deletion
from chronik.ctl.runner import Access, Connecting, run

_COLUMNS = ("name", "source", "query", "partitions")


@click.command()
@click.argument("name")
@click.argument("topic")
@click.argument("query")
@click.option(
    "--mapping",
    type=click.File("rb"),
    metavar="FILE",
    help="How the query reads the topic's fields, as JSON; - for stdin.",
)
@admin_option
@shared_options()
def save(connecting: Connecting, name: str, topic: str, query: str, mapping: BinaryIO | None, admin: str) -> None:
    """Save QUERY over TOPIC as the topic NAME."""
    body: dict[str, Any] = {"name": name, "source": topic, "query": query}
    if mapping is not None:
        body["mapping"] = _mapping(mapping)

    async def work(access: Access) -> None:
        saved = await Rest(access, admin).ask("POST", "/v1/searches", body)
        emit(connecting.output, saved, [(None, _COLUMNS, [saved])])

    run(connecting, work)


def _mapping(file: BinaryIO) -> object:
    try:
        return json.loads(file.read())
    except ValueError as problem:
        raise click.BadParameter(f"no JSON: {problem}", param_hint="--mapping") from None


@click.command("list")
@admin_option
@shared_options()
def list_searches(connecting: Connecting, admin: str) -> None:
    """List all saved searches."""

    async def work(access: Access) -> None:
        found = await Rest(access, admin).all("/v1/searches", "searches")
        emit(connecting.output, found, [(None, _COLUMNS, found)])

    run(connecting, work)


@click.command()
@click.argument("name")
@admin_option
@shared_options()
def describe(connecting: Connecting, name: str, admin: str) -> None:
    """Show the saved search NAME, and the offsets of its partitions."""

    async def work(access: Access) -> None:
        from urllib.parse import quote

        rest, path = Rest(access, admin), quote(name, safe="")
        found = await rest.ask("GET", f"/v1/searches/{path}")
        topic = await rest.ask("GET", f"/v1/topics/{path}")
        columns = ("partition", "leader", "log_start_offset", "high_watermark")
        partitions = [{column: each[column] for column in columns} for each in topic["partitions"]]
        mapping = None if found["mapping"] is None else json.dumps(found["mapping"])
        facts = [{"name": key, "value": found[key]} for key in ("source", "query")]
        if mapping is not None:
            facts.append({"name": "mapping", "value": mapping})
        emit(
            connecting.output,
            {**found, "partitions": partitions},
            [(f"Search {name}  id {found['topic_id']}", ("name", "value"), facts), ("Partitions", columns, partitions)],
        )

    run(connecting, work)


delete = deletion(
    "/v1/searches", "Delete saved searches. The topics that they search stay. On a terminal it asks first."
)

COMMANDS = (save, list_searches, describe, delete)
