"""`chronik-ctl search index` and `rebuild`: how far a topic's search index is, and making it anew. `main` groups them."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import quote

import click

from chronik.ctl.options import shared_options
from chronik.ctl.output import emit
from chronik.ctl.rest import Rest, admin_option
from chronik.ctl.runner import Access, CommandFailed, Connecting, run

_COLUMNS = ("partition", "log_start_offset", "end_offset", "signed_to", "blocks", "undecodable", "damage")
_LOOK_SECONDS = 0.2


@click.command()
@click.argument("topic")
@admin_option
@shared_options()
def index(connecting: Connecting, topic: str, admin: str) -> None:
    """Show how far the search index of TOPIC is."""

    async def work(access: Access) -> None:
        found = await Rest(access, admin).ask("GET", _path(topic))
        emit(connecting.output, found, [(None, _COLUMNS, found["partitions"])])

    run(connecting, work)


@click.command()
@click.argument("topic")
@click.option("--no-wait", is_flag=True, help="Only begin it: it goes on in the node.")
@admin_option
@shared_options()
def rebuild(connecting: Connecting, topic: str, no_wait: bool, admin: str) -> None:
    """Make the search index of TOPIC anew from its log.

    It is searched meanwhile, more slowly: what has no index yet is read whole. Interrupting this command does not end it.
    """

    async def work(access: Access) -> None:
        rest = Rest(access, admin)
        found = await rest.ask("POST", f"{_path(topic)}/rebuild")
        if not no_wait:
            found = await _watched(access, rest, topic, found)
        emit(connecting.output, found, [(None, _COLUMNS, found["partitions"])])
        damaged = [each["damage"] for each in found["partitions"] if each["damage"]]
        if damaged:
            raise CommandFailed(f"not all of the log can be indexed: {damaged[0]}")

    run(connecting, work)


def _path(topic: str) -> str:
    return f"/v1/topics/{quote(topic, safe='')}/index"


async def _watched(access: Access, rest: Rest, topic: str, begun: dict[str, Any]) -> dict[str, Any]:
    """Look again until all that there was at the beginning is signed; say how far it is."""
    from twisted.internet.task import deferLater

    goals = {each["partition"]: each["end_offset"] for each in begun["partitions"]}
    starts = {each["partition"]: each["log_start_offset"] for each in begun["partitions"]}
    total = sum(goals[each] - starts[each] for each in goals)
    progress = _Progress(total)
    found = begun
    while True:
        done, left = 0, set(goals)  # a process that has just begun anew may not know of a partition yet
        for each in found["partitions"]:
            partition = each["partition"]
            if partition in goals:
                done += min(max(each["signed_to"], starts[partition]), goals[partition]) - starts[partition]
                if each["signed_to"] >= goals[partition] or each["damage"]:
                    left.discard(partition)
        progress.show(done, ended=not left)
        if not left:
            return found
        await deferLater(access.reactor, _LOOK_SECONDS)
        found = await rest.ask("GET", _path(topic))


class _Progress:
    """Says on stderr how many of `total` offsets are done: on a terminal in one line, else a line for every tenth."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._tenth = -1
        self._terminal = sys.stderr.isatty()

    def show(self, done: int, ended: bool) -> None:
        """So many are."""
        share = done / self._total if self._total else 1.0
        said = f"{share:.0%}: {done:,} of {self._total:,} offsets are indexed"
        if self._terminal:
            click.echo(f"\r{said}", err=True, nl=ended)
        elif ended or int(share * 10) > self._tenth:
            self._tenth = int(share * 10)
            click.echo(said, err=True)


COMMANDS = (index, rebuild)
