"""The entry point of `chronik-ctl`.

Nothing heavy is imported here or at the top of a command's module: `--help` and shell completion must answer at once. Twisted,
the client and rich are imported when a command runs.
"""

from __future__ import annotations

import os

import click

from chronik import __version__
from chronik.ctl.alert import alert
from chronik.ctl.cluster import cluster
from chronik.ctl.consume import consume
from chronik.ctl.group import group
from chronik.ctl.indexes import COMMANDS as SEARCH_INDEXES
from chronik.ctl.options import root_options
from chronik.ctl.produce import produce
from chronik.ctl.query import query
from chronik.ctl.quota import quota
from chronik.ctl.runner import DEFAULT_BOOTSTRAP, Connecting
from chronik.ctl.saved import COMMANDS as SAVED_SEARCHES
from chronik.ctl.search import search
from chronik.ctl.sql import sql
from chronik.ctl.tail import tail
from chronik.ctl.topic import topic

_EPILOG = (
    "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no broker reached, 4 timed out, 130 interrupted. "
    'Shell completion: eval "$(_CHRONIK_CTL_COMPLETE=bash_source chronik-ctl)" (or zsh_source, fish_source).'
)


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="chronik-ctl")
@root_options
@click.pass_context
def ctl(context: click.Context, bootstrap_server: str | None, timeout: float | None, output: str | None) -> None:
    """Topics, messages, groups: the command line for Chronik Stream and any other Kafka-compatible cluster."""
    context.obj = Connecting(
        bootstrap_server or os.environ.get("CHRONIK_BOOTSTRAP_SERVERS") or DEFAULT_BOOTSTRAP,
        30.0 if timeout is None else timeout,
        output or "table",
    )


for _command in (topic, produce, consume, search, tail, sql, alert, group, query, quota, cluster):
    ctl.add_command(_command)
for _command in (*SAVED_SEARCHES, *SEARCH_INDEXES):
    search.add_command(_command)


def main() -> None:
    """Run the command line and exit."""
    ctl(prog_name="chronik-ctl")


if __name__ == "__main__":
    main()
