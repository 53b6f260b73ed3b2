"""`chronik-ctl consume`: messages to stdout, in kcat's formats."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from chronik.ctl.formats import FormatError, Message, Printer, format_printer, json_printer, line_printer
from chronik.ctl.options import shared_options
from chronik.ctl.runner import Access, CommandFailed, Connecting, run

if TYPE_CHECKING:
    from chronik.client.consumer import Consumer, Position
    from chronik.model import TopicPartition

MAX_POLL = 5000


@dataclass
class Where:
    """What `-o` says: where to start ("beginning", "end", "stored", "offset", "from-end", "time") and where to stop."""

    start: str | None = None
    number: int = 0
    stop_time: int | None = None


@dataclass
class _Reading:
    """What is read, and how far: end offsets by partition where `e@` gave one, and what is left of `-c`."""

    stops: dict[TopicPartition, int] = field(default_factory=dict)
    left: int | None = None


def parse_offsets(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> Where:
    """kcat's offsets: beginning, end, stored, N, -N, s@ms, e@ms. A start and an e@ may both be given."""
    where = Where()
    for text in values:
        kind, number = text, 0
        if text.startswith(("s@", "e@")) and text[2:].isdecimal():
            if text[0] == "e":
                where.stop_time = int(text[2:])
                continue
            kind, number = "time", int(text[2:])
        elif text.isdecimal():
            kind, number = "offset", int(text)
        elif text.startswith("-") and text[1:].isdecimal():
            kind, number = "from-end", int(text[1:])
        elif text not in ("beginning", "end", "stored"):
            raise click.BadParameter(f"{text!r} is none of beginning, end, stored, N, -N, s@TIMESTAMP, e@TIMESTAMP")
        if where.start is not None:
            raise click.BadParameter(f"{text!r} is a second start")
        where.start, where.number = kind, number
    return where


@click.command()
@click.argument("topic")
@click.option("--from-beginning", is_flag=True, help="The same as -o beginning.")
@click.option(
    "-o",
    "where",
    multiple=True,
    callback=parse_offsets,
    metavar="OFFSET",
    help="Where to start: beginning, end, stored, N, -N (from the end), s@MS (since a time); e@MS: where to stop. "
    "[default: end; stored with -g]",
)
@click.option(
    "-p", "--partition", "partitions", type=click.IntRange(min=0), multiple=True, help="Only this one; repeatable."
)
@click.option("-c", "count", type=click.IntRange(min=1), help="Exit after this many messages.")
@click.option("-e", "exit_at_end", is_flag=True, help="Exit when the ends of all partitions are reached.")
@click.option("-g", "group", help="Read as a member of this group, and commit.")
@click.option("-f", "form", metavar="FORMAT", help=r"kcat's format: %s %S %R %k %K %t %p %o %T %h %%, \n \t \xHH.")
@click.option("-K", "key_delimiter", metavar="DELIMITER", help="Print the key and DELIMITER before the value.")
@click.option("-J", "as_json", is_flag=True, help="One JSON object a line, as kcat's.")
@click.option("--read-committed", is_flag=True, help="Leave out what open and aborted transactions wrote.")
@shared_options(output=False)
def consume(
    connecting: Connecting,
    topic: str,
    from_beginning: bool,
    where: Where,
    partitions: tuple[int, ...],
    count: int | None,
    exit_at_end: bool,
    group: str | None,
    form: str | None,
    key_delimiter: str | None,
    as_json: bool,
    read_committed: bool,
) -> None:
    """Print the messages of TOPIC, until interrupted or as -c, -e and -o e@ say."""
    if from_beginning:
        if where.start not in (None, "beginning"):
            raise click.UsageError("--from-beginning and -o name different starts")
        where.start = "beginning"
    if group is not None and (partitions or where.stop_time is not None or where.start not in (None, *_GROUP_STARTS)):
        raise click.UsageError("with -g the group decides what is read: only -o stored, beginning or end go with it")
    if group is None and where.start == "stored":
        raise click.UsageError("-o stored needs a group: -g NAME")
    try:
        chosen = format_printer(form) if form is not None else line_printer(key_delimiter)
    except FormatError as problem:
        raise click.BadParameter(str(problem), param_hint="-f") from None

    async def work(access: Access) -> None:
        from chronik.client.consumer import Consumer, Start
        from chronik.model import TopicPartition

        leader = access.cluster.metadata.leader
        printer = json_printer(lambda t, p: leader(TopicPartition(t, p))) if as_json else chosen
        reset = Start.BEGINNING if where.start == "beginning" else Start.END
        consumer = Consumer(access.cluster, reset=reset, read_committed=read_committed)
        reading = _Reading(left=count)
        try:
            if group is not None:
                await consumer.subscribe(group, [topic])
            else:
                await _assign(access, consumer, topic, partitions, where, reading)
            await _print(consumer, reading, printer, exit_at_end)
            if group is not None:
                await consumer.commit()
        finally:
            await consumer.close()

    run(connecting, work)


_GROUP_STARTS = ("stored", "beginning", "end")


async def _assign(
    access: Access, consumer: Consumer, topic: str, chosen: tuple[int, ...], where: Where, reading: _Reading
) -> None:
    from chronik.client.consumer import AtTime, FromEnd, Start, resolve_positions
    from chronik.model import TopicPartition

    view = (await access.cluster.refresh([topic])).topic(topic)
    known = [p.partition for p in view.partitions]
    for partition in chosen:
        if partition not in known:
            raise CommandFailed(f"topic {topic!r} has partitions 0 to {len(known) - 1}, there is no {partition}")
    position: Position
    if where.start == "beginning":
        position = Start.BEGINNING
    elif where.start == "offset":
        position = where.number
    elif where.start == "from-end":
        position = FromEnd(where.number)
    elif where.start == "time":
        position = AtTime(where.number)
    else:
        position = Start.END
    wanted = [TopicPartition(topic, p) for p in dict.fromkeys(chosen or known)]
    starts = await resolve_positions(access.cluster, dict.fromkeys(wanted, position))
    if where.stop_time is not None:
        ends = dict.fromkeys(wanted, AtTime(where.stop_time))
        reading.stops = await resolve_positions(access.cluster, ends)
        starts = {tp: offset for tp, offset in starts.items() if offset < reading.stops[tp]}
    if starts:
        await consumer.assign(starts)


async def _print(consumer: Consumer, reading: _Reading, printer: Printer, exit_at_end: bool) -> None:
    """Print what comes, flushing after each poll, until a limit is reached."""
    out = sys.stdout.buffer
    if not consumer.assignment and reading.stops:
        return
    while True:
        limit = MAX_POLL if reading.left is None else min(MAX_POLL, reading.left)
        for chunk in await consumer.poll(limit):
            records: list[Any] = chunk.records
            stop = reading.stops.get(chunk.partition)
            if stop is not None and consumer.position(chunk.partition) >= stop:
                records = [record for record in records if record.offset < stop]
            topic, partition = chunk.partition
            append_time = chunk.append_time
            out.write(
                b"".join(
                    [
                        printer(
                            Message(topic, partition, r.offset, r.timestamp, append_time, r.key, r.value, r.headers)
                        )
                        for r in records
                    ]
                )
            )
            if reading.left is not None:
                reading.left -= len(records)
        out.flush()
        for partition_read, stop in reading.stops.items():
            if partition_read in consumer.assignment and consumer.position(partition_read) >= stop:
                consumer.drop(partition_read)
        if reading.left == 0 or (reading.stops and not consumer.assignment):
            return
        if exit_at_end and consumer.all_at_end:
            return
