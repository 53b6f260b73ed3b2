"""The columns of a topic as text: a continuous query keeps those that it was planned with, so no type changes by itself.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from chronik.analytics.schema import META_TYPES, Column, Schema


class _Field(msgspec.Struct, omit_defaults=True):
    """A column that is a field of the JSON; its member by the name in there, where that is another one."""

    name: str
    tree: Any
    declared: bool = False
    member: str | None = None


def columns_text(columns: Iterable[Column]) -> str:
    """The fields among the columns, as JSON. Those of every record need not be told."""
    fields = [
        _Field(each.name, each.tree, each.source == "declared", _other(each.name, each.member))
        for each in columns
        if each.member is not None
    ]
    return msgspec.json.encode(fields).decode()


def _other(name: str, member: bytes) -> str | None:
    text = member.decode("utf-8", "replace")
    return None if text == name else text


def read_columns(text: str) -> Schema:
    """The schema with these fields, and the columns of every record. Raises ValueError."""
    try:
        fields = msgspec.json.decode(text, type=list[_Field])
    except msgspec.MsgspecError as problem:
        raise ValueError(f"columns that cannot be read: {problem}") from None
    columns = [Column(name, kind, "record") for name, kind in META_TYPES.items()]
    columns += [
        Column(each.name, each.tree, "declared" if each.declared else "inferred", (each.member or each.name).encode())
        for each in fields
    ]
    return Schema(tuple(columns), 0, 0)
