"""`chronik-ctl quota`: list, set, remove."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from chronik.ctl.options import shared_options
from chronik.ctl.output import emit
from chronik.ctl.runner import Access, Connecting, run

_DEFAULT = "<default>"


@click.group()
def quota() -> None:
    """List, set and remove the quotas of clients."""


def _parse_quotas(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """`key=number` arguments as a dict."""
    quotas: dict[str, float] = {}
    for item in values:
        key, equals, value = item.partition("=")
        try:
            quotas[key.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals or not key.strip():
            raise click.BadParameter(f"{item!r} is not quota=number, as in producer_byte_rate=1000000")
    return quotas


def _entity_options(command: Any) -> Any:
    for option, kind in (("--ip", "an address"), ("--client-id", "a client id"), ("--user", "a user")):
        command = click.option(
            option, metavar="NAME", help=f"The quota is for {kind}; {_DEFAULT} for those without one of their own."
        )(command)
    return command


def _entity(user: str | None, client_id: str | None, ip: str | None) -> dict[str, str | None]:
    named = {"user": user, "client-id": client_id, "ip": ip}
    entity = {kind: None if name == _DEFAULT else name for kind, name in named.items() if name is not None}
    if not entity:
        raise click.UsageError("whose quota? Give --user, --client-id, both, or --ip")
    return entity


def _row(entity: Mapping[str, str | None], key: str, value: float | None) -> dict[str, Any]:
    number = int(value) if value is not None and value.is_integer() else value
    return {kind.replace("-", "_"): _name(entity, kind) for kind in ("user", "client-id", "ip")} | {
        "quota": key,
        "value": number,
    }


def _name(entity: Mapping[str, str | None], kind: str) -> str | None:
    if kind not in entity:
        return None
    name = entity[kind]
    return _DEFAULT if name is None else name


_COLUMNS = ("user", "client_id", "ip", "quota", "value")


@quota.command("list")
@shared_options()
def list_quotas(connecting: Connecting) -> None:
    """List all quotas."""

    async def work(access: Access) -> None:
        from chronik.client import quotas

        views = await quotas.list_quotas(access.cluster)
        rows = [_row(view.entity, key, value) for view in views for key, value in view.quotas.items()]
        emit(connecting.output, rows, [(None, _COLUMNS, rows)])

    run(connecting, work)


@quota.command("set")
@_entity_options
@click.argument("quotas", nargs=-1, required=True, callback=_parse_quotas, metavar="QUOTA=NUMBER…")
@shared_options()
def set_quotas(
    connecting: Connecting, user: str | None, client_id: str | None, ip: str | None, quotas: dict[str, float]
) -> None:
    """Set quotas, such as producer_byte_rate, consumer_byte_rate (bytes a second) or request_percentage."""
    _change(connecting, _entity(user, client_id, ip), quotas)


@quota.command("remove")
@_entity_options
@click.argument("quotas", nargs=-1, required=True, metavar="QUOTA…")
@shared_options()
def remove_quotas(
    connecting: Connecting, user: str | None, client_id: str | None, ip: str | None, quotas: tuple[str, ...]
) -> None:
    """Remove quotas; the next less particular one counts then."""
    _change(connecting, _entity(user, client_id, ip), dict.fromkeys(quotas))


def _change(connecting: Connecting, entity: dict[str, str | None], changes: Mapping[str, float | None]) -> None:
    async def work(access: Access) -> None:
        from chronik.client import quotas

        await quotas.alter_quotas(access.cluster, entity, changes)
        rows = [_row(entity, key, value) for key, value in changes.items()]
        emit(connecting.output, rows, [(None, _COLUMNS, rows)])

    run(connecting, work)
