"""Results for people and for programs: a table, JSON or YAML of the same rows.

JSON and YAML have stable keys (docs/ctl.md lists them); a table is for reading and may change. Colour only on a terminal.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

Row = Mapping[str, Any]

FORMATS = ("table", "json", "yaml")


def emit(
    form: str,
    data: Any,
    tables: Sequence[tuple[str | None, Sequence[str], Sequence[Row]]],
    marked: re.Pattern[str] | None = None,
    names: Mapping[str, str] | None = None,
) -> None:
    """Print `data` as JSON or YAML, or `tables` as tables: (title, columns, rows), a column being a key of the rows.

    On a terminal, what fits `marked` stands out in a table. `names` are the heads of columns that aren't called by their keys.
    """
    if form == "json":
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
    elif form == "yaml":
        import yaml

        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)
    else:
        for number, (title, columns, rows) in enumerate(tables):
            if number:
                click.echo()
            _print_table(title, columns, rows, marked, names)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)


def on_terminal() -> bool:
    """Whether the output is for a person, who wants colour."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _print_table(
    title: str | None,
    columns: Sequence[str],
    rows: Sequence[Row],
    marked: re.Pattern[str] | None,
    names: Mapping[str, str] | None,
) -> None:
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    numeric = [bool(rows) and all(isinstance(row[c], int | float | None) for row in rows) for c in columns]
    heads = [column.upper().replace("_", "-") if names is None else names[column] for column in columns]
    if on_terminal():
        _print_rich_table(title, heads, cells, numeric, marked)
        return
    if title:
        click.echo(title)
    widths = [max(len(head), *(len(line[i]) for line in cells)) if cells else len(head) for i, head in enumerate(heads)]
    for line in [heads, *cells]:
        padded = [t.rjust(w) if n else t.ljust(w) for t, w, n in zip(line, widths, numeric, strict=True)]
        click.echo("  ".join(padded).rstrip())


def _print_rich_table(
    title: str | None,
    heads: Sequence[str],
    cells: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    marked: re.Pattern[str] | None,
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for head, right in zip(heads, numeric, strict=True):
        table.add_column(Text(head), justify="right" if right else "left", overflow="fold")
    for line in cells:
        texts = [Text(cell) for cell in line]
        if marked is not None:
            for text in texts:
                text.highlight_regex(marked, "bold reverse")
        table.add_row(*texts)
    Console().print(table)
