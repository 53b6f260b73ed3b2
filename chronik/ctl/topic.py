"""`chronik-ctl topic`: create, list, describe, alter, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chronik.ctl.options import shared_options
from chronik.ctl.output import emit
from chronik.ctl.runner import Access, Connecting, run

if TYPE_CHECKING:
    from chronik.client.metadata import TopicView


@click.group()
def topic() -> None:
    """Create, list, describe, alter and delete topics."""


def parse_configs(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """`key=value` options as a dict."""
    configs: dict[str, str] = {}
    for item in values:
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(f"{item!r} is not key=value, as in retention.ms=3600000")
        configs[key.strip()] = value
    return configs


config_option = click.option(
    "-c",
    "--config",
    "configs",
    multiple=True,
    callback=parse_configs,
    metavar="KEY=VALUE",
    help="A topic config; repeatable.",
)


@topic.command()
@click.argument("name")
@click.option("-p", "--partitions", type=click.IntRange(min=1), help="Number of partitions [default: the cluster's].")
@click.option(
    "-r", "--replication", type=click.IntRange(min=1), help="Replicas of each partition [default: the cluster's]."
)
@config_option
@click.option("--if-not-exists", is_flag=True, help="An existing topic of that name is no error.")
@shared_options()
def create(
    connecting: Connecting,
    name: str,
    partitions: int | None,
    replication: int | None,
    configs: dict[str, str],
    if_not_exists: bool,
) -> None:
    """Create the topic NAME."""

    async def work(access: Access) -> None:
        from chronik.client.offsets import LEADER_MOVED
        from chronik.errors import ErrorCode, KafkaError

        created = True
        try:
            await access.admin.create_topic(name, partitions or -1, replication or -1, configs)
        except KafkaError as problem:
            if problem.code != ErrorCode.TOPIC_ALREADY_EXISTS or not if_not_exists:
                raise
            created = False

        async def look() -> TopicView:
            return (await access.cluster.refresh([name])).topic(name)

        view = await access.cluster.retrying(look, LEADER_MOVED | {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION})
        replicas = len(view.partitions[0].replicas) if view.partitions else 0
        row = {"name": name, "partitions": len(view.partitions), "replication": replicas, "created": created}
        emit(connecting.output, row, [(None, tuple(row), [row])])

    run(connecting, work)


@topic.command("list")
@click.option("--internal", is_flag=True, help="The cluster's own topics too.")
@shared_options()
def list_topics(connecting: Connecting, internal: bool) -> None:
    """List all topics."""

    async def work(access: Access) -> None:
        metadata = await access.cluster.refresh()
        rows = [
            {
                "name": view.name,
                "partitions": len(view.partitions),
                "replication": len(view.partitions[0].replicas) if view.partitions else 0,
                "internal": view.internal,
            }
            for _, view in sorted(metadata.topics.items())
            if internal or not view.internal
        ]
        emit(connecting.output, rows, [(None, ("name", "partitions", "replication", "internal"), rows)])

    run(connecting, work)


@topic.command()
@click.argument("name")
@click.option("--all-configs", is_flag=True, help="Every config, not only those that differ from the default.")
@shared_options()
def describe(connecting: Connecting, name: str, all_configs: bool) -> None:
    """Show the partitions, offsets and configs of the topic NAME."""

    async def work(access: Access) -> None:
        from chronik.client.offsets import EARLIEST, LATEST, list_offsets
        from chronik.model import ZERO_UUID, TopicPartition, uuid_to_text

        view = (await access.cluster.refresh([name])).topic(name)
        led = [TopicPartition(name, p.partition) for p in view.partitions if p.leader >= 0]
        first = await list_offsets(access.cluster, dict.fromkeys(led, EARLIEST))
        last = await list_offsets(access.cluster, dict.fromkeys(led, LATEST))
        partitions = [
            {
                "partition": p.partition,
                "leader": p.leader,
                "replicas": list(p.replicas),
                "isr": list(p.isr),
                "first_offset": first.get(TopicPartition(name, p.partition)),
                "end_offset": last.get(TopicPartition(name, p.partition)),
            }
            for p in view.partitions
        ]
        entries = await access.admin.topic_configs(name)
        configs: list[dict[str, Any]] = [
            {"name": e.name, "value": e.value, "source": e.source} for e in entries if all_configs or e.overridden
        ]
        topic_id = None if view.topic_id == ZERO_UUID else uuid_to_text(view.topic_id)
        data = {
            "name": name,
            "topic_id": topic_id,
            "internal": view.internal,
            "partitions": partitions,
            "configs": configs,
        }
        columns = ("partition", "leader", "replicas", "isr", "first_offset", "end_offset")
        tables: list[Any] = [(f"Topic {name}  id {topic_id or '-'}", columns, partitions)]
        if configs:
            tables.append(("Configs", ("name", "value", "source"), configs))
        emit(connecting.output, data, tables)

    run(connecting, work)


@topic.command()
@click.argument("name")
@click.option("-p", "--partitions", type=click.IntRange(min=1), help="Grow to this many partitions.")
@config_option
@click.option("--delete-config", "deleted", multiple=True, metavar="KEY", help="Back to the default; repeatable.")
@shared_options()
def alter(
    connecting: Connecting, name: str, partitions: int | None, configs: dict[str, str], deleted: tuple[str, ...]
) -> None:
    """Change the number of partitions or the configs of the topic NAME."""
    if partitions is None and not configs and not deleted:
        raise click.UsageError("nothing to change: give -p, -c or --delete-config")

    async def work(access: Access) -> None:
        (await access.cluster.refresh([name])).topic(name)
        if configs or deleted:
            await access.admin.alter_topic_configs(name, configs, deleted)
        if partitions is not None:
            await access.admin.add_partitions(name, partitions)
        row = {"name": name, "partitions": partitions, "configs_set": configs, "configs_deleted": list(deleted)}
        shown = {**row, "configs_set": [f"{key}={value}" for key, value in configs.items()]}
        emit(connecting.output, row, [(None, tuple(row), [shown])])

    run(connecting, work)


@topic.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@shared_options()
def delete(connecting: Connecting, names: tuple[str, ...], yes: bool) -> None:
    """Delete topics with all their messages. On a terminal it asks first."""
    import sys

    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete {', '.join(names)} with all messages?", abort=True, err=True)

    async def work(access: Access) -> None:
        for name in names:
            await access.admin.delete_topic(name)
        rows = [{"name": name, "deleted": True} for name in names]
        emit(connecting.output, rows, [(None, ("name", "deleted"), rows)])

    run(connecting, work)
