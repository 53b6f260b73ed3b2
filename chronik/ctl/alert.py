"""`chronik-ctl alert`: save, list, describe and delete alerts over saved searches, and try one on the past."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import click

from chronik.ctl.options import shared_options
from chronik.ctl.output import emit
from chronik.ctl.rest import Rest, admin_option, deletion
from chronik.ctl.runner import Access, Connecting, run

_COLUMNS = ("name", "search", "over", "per", "to")
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_TIME = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)")


@click.group()
def alert() -> None:
    """Be told, in a topic, of more than so many matches of a saved search in a window of time."""


def _milliseconds(_context: click.Context, _parameter: click.Parameter, value: str) -> int:
    match = _TIME.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no time, as 30s, 1m or 24h")
    return int(match[1]) * _UNITS[match[2]]


def _instant(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) <= 16:
        return int(value)
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no time: ISO 8601, or ms since 1970") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _rate_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--per",
        "per_ms",
        required=True,
        callback=_milliseconds,
        metavar="TIME",
        help="How long a window is: 30s, 1m, 24h.",
    )(command)
    return click.option(
        "--over",
        required=True,
        type=click.IntRange(min=0),
        metavar="N",
        help="More matches than N in a window are told.",
    )(command)


def _shown(found: Mapping[str, Any]) -> dict[str, Any]:
    """A row for a table."""
    left = found["per_ms"]
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if left % _UNITS[unit] == 0)
    return {**found, "per": f"{left // _UNITS[unit]}{unit}"}


@alert.command()
@click.argument("name")
@click.argument("search")
@_rate_options
@click.option("--to", required=True, metavar="TOPIC", help="The topic that is written to.")
@admin_option
@shared_options()
def save(connecting: Connecting, name: str, search: str, over: int, per_ms: int, to: str, admin: str) -> None:
    """Save the alert NAME over the saved search SEARCH. It counts what comes from now on."""
    body = {"name": name, "search": search, "over": over, "per_ms": per_ms, "to": to}

    async def work(access: Access) -> None:
        saved = await Rest(access, admin).ask("POST", "/v1/alerts", body)
        emit(connecting.output, saved, [(None, _COLUMNS, [_shown(saved)])])

    run(connecting, work)


@alert.command("list")
@admin_option
@shared_options()
def list_alerts(connecting: Connecting, admin: str) -> None:
    """List all alerts."""

    async def work(access: Access) -> None:
        found = await Rest(access, admin).all("/v1/alerts", "alerts")
        emit(connecting.output, found, [(None, _COLUMNS, [_shown(each) for each in found])])

    run(connecting, work)


@alert.command()
@click.argument("name")
@admin_option
@shared_options()
def describe(connecting: Connecting, name: str, admin: str) -> None:
    """Show the alert NAME. How far it has come is the lag of the group chronik-alert-NAME."""

    async def work(access: Access) -> None:
        from urllib.parse import quote

        found = await Rest(access, admin).ask("GET", f"/v1/alerts/{quote(name, safe='')}")
        emit(connecting.output, found, [(None, _COLUMNS, [_shown(found)])])

    run(connecting, work)


alert.add_command(deletion("/v1/alerts", "Delete alerts. What they have written stays. On a terminal it asks first."))


def _moment(ms: int) -> str:
    """A time as ISO 8601; where that has no such year, in ms."""
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return str(ms)


@alert.command("dry-run")
@click.argument("search")
@_rate_options
@click.option(
    "--from", "from_ms", callback=_instant, metavar="TIME", help="Windows from here on: ISO 8601, or ms since 1970."
)
@click.option("--until", "to_ms", callback=_instant, metavar="TIME", help="Windows that begin before this.")
@admin_option
@shared_options()
def dry_run(
    connecting: Connecting, search: str, over: int, per_ms: int, from_ms: int | None, to_ms: int | None, admin: str
) -> None:
    """Say what an alert over the saved search SEARCH would have told of the past."""
    body = {"search": search, "over": over, "per_ms": per_ms, "from_ms": from_ms, "to_ms": to_ms}

    async def work(access: Access) -> None:
        found = await Rest(access, admin).ask("POST", "/v1/alert-dry-runs", body)
        rows = [{"window_start": _moment(each["start"]), "count": each["count"]} for each in found["windows"]]
        emit(connecting.output, found, [(None, ("window_start", "count"), rows)])
        left = found["total"] - len(rows)
        said = f"{found['total']} window(s) of {found['matches']} match(es) would have been told"
        said += f", of which {left} are not shown" if left else ""
        said += "" if found["complete"] else "; not all was counted in time: narrow it by --from and --until"
        click.echo(said, err=True)

    run(connecting, work)
