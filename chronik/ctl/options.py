"""The options that every command shares: where the cluster is, how long to wait, how to print.

Each may stand before the command (`chronik-ctl -b host:9092 topic list`) or after it; the later one wins.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from chronik.ctl.output import FORMATS
from chronik.ctl.runner import Connecting

_F = TypeVar("_F", bound=Callable[..., Any])


def _connection_options(command: Any) -> Any:
    command = click.option(
        "--timeout",
        type=click.FloatRange(min=0.1),
        metavar="SECONDS",
        help="How long to wait for an answer [default: 30].",
    )(command)
    return click.option(
        "-b",
        "--bootstrap-server",
        "bootstrap_server",
        metavar="HOST:PORT,…",
        help="Brokers to start from [env: CHRONIK_BOOTSTRAP_SERVERS; default: 127.0.0.1:9092].",
    )(command)


def _output_option(command: Any) -> Any:
    return click.option("-o", "--output", type=click.Choice(FORMATS), help="How to print the result [default: table].")(
        command
    )


def shared_options(output: bool = True) -> Callable[[_F], Callable[..., Any]]:
    """Add the shared options to a command, whose function gets them as its first argument, a `Connecting`."""

    def decorate(function: _F) -> Callable[..., Any]:
        @wraps(function)
        def command(*args: Any, bootstrap_server: str | None, timeout: float | None, **values: Any) -> Any:
            context = click.get_current_context()
            base = context.find_object(Connecting) or Connecting()
            chosen = Connecting(
                bootstrap_server or base.bootstrap,
                base.timeout if timeout is None else timeout,
                (values.pop("output") or base.output) if output else base.output,
            )
            return function(chosen, *args, **values)

        decorated = _connection_options(command)
        return _output_option(decorated) if output else decorated  # type: ignore[no-any-return]

    return decorate


def root_options(command: Any) -> Any:
    """The same options on the root command, which alone reads the environment."""
    return _connection_options(_output_option(command))
