"""`chronik-ctl group`: list, describe, reset-offsets, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chronik.ctl.options import shared_options
from chronik.ctl.output import emit
from chronik.ctl.resets import Reset, new_offsets, parse_datetime, parse_duration, parse_topics
from chronik.ctl.runner import Access, CommandFailed, Connecting, run

if TYPE_CHECKING:
    from chronik.client.admin import GroupView
    from chronik.model import TopicPartition


@click.group()
def group() -> None:
    """Look at consumer groups, move their offsets, delete them."""


@group.command("list")
@shared_options()
def list_groups(connecting: Connecting) -> None:
    """List all groups."""

    async def work(access: Access) -> None:
        rows = [
            {
                "group": g.group,
                "state": g.state or None,
                "type": g.type or None,
                "protocol_type": g.protocol_type or None,
            }
            for g in await access.admin.list_groups()
        ]
        emit(connecting.output, rows, [(None, ("group", "state", "type", "protocol_type"), rows)])

    run(connecting, work)


async def _known_group(access: Access, name: str) -> GroupView:
    view = await access.admin.describe_group(name)
    if view.state == "Dead":
        raise CommandFailed(
            f"group {name!r} does not exist at {access.connecting.bootstrap}. See: chronik-ctl group list"
        )
    return view


@group.command()
@click.argument("name", metavar="GROUP")
@shared_options()
def describe(connecting: Connecting, name: str) -> None:
    """Show the members of GROUP, and for each partition its committed offset, its end and the lag."""

    async def work(access: Access) -> None:
        from chronik.client.offsets import LATEST, committed_offsets, list_offsets

        view = await _known_group(access, name)
        committed = await committed_offsets(access.cluster, name)
        owners = {tp: member for member in view.members for tp in member.partitions}
        partitions = sorted({*committed, *owners})
        existing = (await access.cluster.refresh(sorted({tp.topic for tp in partitions}))).topics
        present = [tp for tp in partitions if tp.topic in existing]
        ends = await list_offsets(access.cluster, dict.fromkeys(present, LATEST))
        rows = []
        for tp in partitions:
            offset = committed[tp].offset if tp in committed else None
            end = ends.get(tp)
            owner = owners.get(tp)
            rows.append(
                {
                    "topic": tp.topic,
                    "partition": tp.partition,
                    "committed": offset,
                    "end": end,
                    "lag": max(0, end - offset) if end is not None and offset is not None else None,
                    "member": owner.member_id if owner else None,
                }
            )
        members = [
            {
                "member": m.member_id,
                "instance": m.instance_id,
                "client": m.client_id,
                "host": m.host,
                "partitions": [str(tp) for tp in m.partitions],
            }
            for m in view.members
        ]
        data = {
            "group": name,
            "state": view.state,
            "type": view.type or None,
            "assignor": view.protocol or None,
            "coordinator": view.coordinator,
            "members": members,
            "partitions": rows,
        }
        title = f"Group {name}  state {view.state}  assignor {view.protocol or '-'}  coordinator {view.coordinator}"
        tables: list[Any] = [(title, ("topic", "partition", "committed", "end", "lag", "member"), rows)]
        if members:
            tables.append(("Members", ("member", "instance", "client", "host", "partitions"), members))
        emit(connecting.output, data, tables)

    run(connecting, work)


def _parsed(parse: Any) -> Any:
    def callback(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Any:
        try:
            return None if value is None else parse(value)
        except ValueError as problem:
            raise click.BadParameter(str(problem)) from None

    return callback


@group.command("reset-offsets")
@click.argument("name", metavar="GROUP")
@click.option("--to-earliest", is_flag=True, help="To the first offset there is.")
@click.option("--to-latest", is_flag=True, help="To the end.")
@click.option("--to-offset", type=click.IntRange(min=0), metavar="N", help="To the offset N.")
@click.option("--shift-by", type=int, metavar="N", help="N forward, or back where it is negative.")
@click.option(
    "--to-datetime",
    callback=_parsed(parse_datetime),
    metavar="TIME",
    help="To the first message since TIME, as 2026-11-23T13:00:00 (UTC, or with an offset such as +01:00).",
)
@click.option(
    "--by-duration", callback=_parsed(parse_duration), metavar="SPAN", help="To SPAN ago, as PT1H30M, P7D, 90m or 7d."
)
@click.option(
    "--topic",
    "topics",
    multiple=True,
    callback=_parsed(parse_topics),
    metavar="TOPIC[:P,…]",
    help="Only this topic, or these partitions of it; repeatable.",
)
@click.option("--all-topics", is_flag=True, help="Every topic that the group has committed offsets in.")
@click.option("--execute", is_flag=True, help="Do it. Without this, only show what would be done.")
@shared_options()
def reset_offsets(
    connecting: Connecting,
    name: str,
    to_earliest: bool,
    to_latest: bool,
    to_offset: int | None,
    shift_by: int | None,
    to_datetime: int | None,
    by_duration: int | None,
    topics: dict[str, list[int] | None] | None,
    all_topics: bool,
    execute: bool,
) -> None:
    """Move the committed offsets of GROUP, which must have no active members. Shows the plan; --execute carries it out."""
    wanted = [
        Reset("earliest") if to_earliest else None,
        Reset("latest") if to_latest else None,
        Reset("offset", to_offset) if to_offset is not None else None,
        Reset("shift", shift_by) if shift_by is not None else None,
        Reset("time", to_datetime) if to_datetime is not None else None,
        Reset("ago", by_duration) if by_duration is not None else None,
    ]
    chosen = [reset for reset in wanted if reset is not None]
    if len(chosen) != 1:
        raise click.UsageError(
            "say where to, once: --to-earliest, --to-latest, --to-offset, --shift-by, --to-datetime or --by-duration"
        )
    if bool(topics) == all_topics:
        raise click.UsageError("say what to reset: --topic TOPIC[:P,…], or --all-topics")

    async def work(access: Access) -> None:
        from chronik.client.offsets import CommittedOffset, commit_offsets, committed_offsets

        view = await access.admin.describe_group(name)
        if view.members:
            count = len(view.members)
            raise CommandFailed(
                f"group {name!r} is {view.state} with {count} active member{'s' * (count > 1)}: stop them first"
            )
        committed = await committed_offsets(access.cluster, name)
        partitions = await _partitions(access, topics, committed)
        if not partitions:
            raise CommandFailed(f"group {name!r} has no committed offsets; name what to reset with --topic")
        current = {tp: committed[tp].offset if tp in committed else None for tp in partitions}
        plan = await new_offsets(access.cluster, chosen[0], current, int(access.reactor.seconds() * 1000))
        if execute:
            await commit_offsets(access.cluster, name, {tp: CommittedOffset(offset) for tp, offset in plan.items()})
        rows = [
            {"topic": tp.topic, "partition": tp.partition, "current": current[tp], "new": plan[tp]}
            for tp in sorted(plan)
        ]
        data = {"group": name, "executed": execute, "partitions": rows}
        title = f"Group {name}: " + ("offsets moved" if execute else "this would be done; add --execute to do it")
        emit(connecting.output, data, [(title, ("topic", "partition", "current", "new"), rows)])

    run(connecting, work)


async def _partitions(
    access: Access, topics: dict[str, list[int] | None] | None, committed: dict[TopicPartition, Any]
) -> list[TopicPartition]:
    from chronik.model import TopicPartition

    if not topics:
        return sorted(committed)
    metadata = await access.cluster.refresh(list(topics))
    partitions: list[TopicPartition] = []
    for topic, numbers in topics.items():
        known = [p.partition for p in metadata.topic(topic).partitions]
        for number in numbers if numbers is not None else known:
            metadata.partition(TopicPartition(topic, number))
            partitions.append(TopicPartition(topic, number))
    return partitions


@group.command()
@click.argument("names", nargs=-1, required=True, metavar="GROUP…")
@shared_options()
def delete(connecting: Connecting, names: tuple[str, ...]) -> None:
    """Delete groups without members, with their offsets."""

    async def work(access: Access) -> None:
        for name in names:
            await access.admin.delete_group(name)
        rows = [{"group": name, "deleted": True} for name in names]
        emit(connecting.output, rows, [(None, ("group", "deleted"), rows)])

    run(connecting, work)
