"""`chronik-ctl produce`: one message a line, from files or from stdin."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from chronik.ctl.options import shared_options
from chronik.ctl.output import emit
from chronik.ctl.runner import Access, CommandFailed, Connecting, run

if TYPE_CHECKING:
    from chronik.client.producer import Producer

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
BUFFER_BYTES = 8 * 1024 * 1024


def _headers(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> Any:
    """`name=value` options as headers; a name alone has a null value, as kcat has it."""
    headers = []
    for item in values:
        name, equals, value = item.partition("=")
        headers.append((name, value.encode() if equals else None))
    return tuple(headers)


@click.command()
@click.argument("topic")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="[FILE…]")
@click.option(
    "-K", "key_delimiter", metavar="DELIMITER", help="Split each line at the first DELIMITER into key and value."
)
@click.option("-Z", "empty_is_null", is_flag=True, help="Send empty keys and values as null.")
@click.option("-H", "headers", multiple=True, callback=_headers, metavar="NAME=VALUE", help="A header; repeatable.")
@click.option("-z", "codec", type=click.Choice(CODECS), default="none", show_default=True, help="Compression.")
@click.option("-p", "--partition", type=click.IntRange(min=0), help="Send everything to this partition.")
@click.option("--acks", type=click.Choice(("0", "1", "all")), default="all", show_default=True)
@click.option("-q", "--quiet", is_flag=True, help="No progress and no summary on stderr.")
@shared_options()
def produce(
    connecting: Connecting,
    topic: str,
    files: tuple[str, ...],
    key_delimiter: str | None,
    empty_is_null: bool,
    headers: tuple[tuple[str, bytes | None], ...],
    codec: str,
    partition: int | None,
    acks: str,
    quiet: bool,
) -> None:
    """Produce one message a line to TOPIC, from FILEs or from stdin.

    Order is kept within a partition; every message is stored once (--acks all). The command ends with an error when any
    message was refused, and says how many were stored.
    """
    if key_delimiter == "":
        raise click.BadParameter("the key delimiter is empty")

    async def work(access: Access) -> None:
        from chronik.client.producer import Producer

        # A million records make no cycles: looking for them every 700 objects took 45 % of the CPU time.
        gc.set_threshold(100_000, 20, 100)
        await _find_topic(access, topic, partition)
        producer = Producer(
            access.cluster,
            acks=-1 if acks == "all" else int(acks),
            compression=codec,
            linger=0.02,
            buffer_bytes=BUFFER_BYTES,
            delivery_timeout=connecting.timeout,
        )
        delimiter = None if key_delimiter is None else key_delimiter.encode().decode("unicode_escape").encode()
        count = _Count(access.reactor.seconds())
        show = _progress(files) if not quiet and sys.stderr.isatty() else None
        try:
            for name in files or ("-",):
                await _send_file(
                    access, producer, topic, name, count, delimiter, empty_is_null, headers, partition, show
                )
            await producer.flush()
        finally:
            await producer.close(timeout=connecting.timeout)
            if show is not None:
                show.stop()
        seconds = max(access.reactor.seconds() - count.started, 1e-9)
        if count.problem is not None:
            click.echo(f"chronik-ctl: {count.stored} of {count.sent} messages were stored", err=True)
            raise count.problem
        if not quiet:
            click.echo(count.summary(seconds), err=True)
        if connecting.output != "table":
            result = {
                "topic": topic,
                "messages": count.stored,
                "bytes": count.bytes,
                "seconds": round(seconds, 3),
                "messages_per_second": round(count.stored / seconds),
            }
            emit(connecting.output, result, [])

    run(connecting, work)


class _Count:
    """What was sent and stored so far, and the first refusal."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.sent = self.stored = self.bytes = 0
        self.problem: BaseException | None = None

    def good(self, result: object) -> None:
        self.stored += 1

    def bad(self, failure: Any) -> None:
        if self.problem is None:
            self.problem = failure.value

    def summary(self, seconds: float) -> str:
        megabytes = self.bytes / 1e6
        rate = f"{self.stored / seconds:,.0f} messages/s, {megabytes / seconds:,.1f} MB/s"
        return f"{self.stored:,} messages, {self.bytes:,} bytes in {seconds:.2f} s ({rate})"


async def _find_topic(access: Access, topic: str, partition: int | None) -> None:
    """Make sure that the topic and the partition are there before anything is read; the cluster may create the topic."""
    from chronik.errors import ErrorCode, KafkaError

    coming = {ErrorCode.LEADER_NOT_AVAILABLE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}

    async def look() -> int:
        return len((await access.cluster.refresh([topic], create=True)).topic(topic).partitions)

    try:
        partitions = await access.cluster.retrying(look, coming, min(3.0, access.connecting.timeout))
    except KafkaError as problem:
        if problem.code != ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            raise
        hint = f"Create it with: chronik-ctl topic create {topic} -p 1"
        raise CommandFailed(f"topic {topic!r} does not exist at {access.connecting.bootstrap}. {hint}") from None
    if partition is not None and partition >= partitions:
        raise CommandFailed(f"topic {topic!r} has partitions 0 to {partitions - 1}, there is no {partition}")


async def _send_file(
    access: Access,
    producer: Producer,
    topic: str,
    name: str,
    count: _Count,
    delimiter: bytes | None,
    empty_is_null: bool,
    headers: tuple[tuple[str, bytes | None], ...],
    partition: int | None,
    show: Any,
) -> None:
    from chronik.ctl.lines import lines

    descriptor = sys.stdin.fileno() if name == "-" else os.open(name, os.O_RDONLY)
    send, good, bad = producer.send, count.good, count.bad
    try:
        async for batch in lines(access.reactor, descriptor):
            read = 0
            for line in batch:
                read += len(line) + 1
                key: bytes | None = None
                value: bytes | None = line
                if delimiter is not None:
                    before, found, after = line.partition(delimiter)
                    if found:
                        key, value = before, after
                if empty_is_null:
                    key, value = key or None, value or None
                send(topic, value, key, headers, None, partition).addCallbacks(good, bad)
            count.sent += len(batch)
            count.bytes += read
            if show is not None:
                show.advance(read, count)
            await producer.room()
            if count.problem is not None:
                return
    finally:
        if name != "-":
            os.close(descriptor)


def _progress(files: tuple[str, ...]) -> Any:
    """A progress bar on stderr: of the files' bytes, or, for a pipe, of the messages sent so far."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    sizes = [os.stat(name).st_size if name != "-" else None for name in files or ("-",)]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    ]
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task("producing", total=total)
    progress.start()

    class Show:
        def advance(self, read: int, count: _Count) -> None:
            progress.update(task, advance=read, description=f"{count.stored:,} stored")

        def stop(self) -> None:
            progress.stop()

    return Show()
