"""What Elasticsearch's JSON is read with: the mapping, the time, the limits; and the check of a clause against its field."""

from __future__ import annotations

import msgspec

from chronik.search.body import Body
from chronik.search.fields import Field, resolve
from chronik.search.mapping import NO_MAPPING, Mapping
from chronik.search.match import condition_of
from chronik.search.query import DEFAULT_LIMITS, Limits, Query, Range, Regexp, Term, Wildcard, walk


class Context(msgspec.Struct, frozen=True):
    """`now_ms` is what `now` means; `fields` are looked in where a clause names none."""

    now_ms: int
    mapping: Mapping = NO_MAPPING
    limits: Limits = DEFAULT_LIMITS
    fields: tuple[tuple[str, float], ...] = (("value", 1.0),)

    def field(self, name: str) -> Field:
        """The field of that name."""
        return resolve(name, self.mapping)


def on_field(body: Body, context: Context, single: str, *keys: str) -> tuple[str, Body, Body]:
    """The field of a clause, its options, and its value: out of `{field: value}` or `{field: {single: value, …}}`."""
    name, content = body.only()
    if not name or "*" in name:
        raise content.error("the name of one field is expected, without wildcards")
    if isinstance(content.value, dict):
        content.known(single, "boost", *keys)
        return name, content, content[single]
    return name, Body({}, content.path), content


def validated(query: Query, body: Body, context: Context) -> Query:
    """The query of one clause, if each part of it can be asked of its field."""

    for one in walk(query):
        if isinstance(one, Term | Wildcard | Regexp | Range):
            body.checked(lambda one=one: condition_of(one, context.field(one.field), context.now_ms))  # type: ignore[misc]
    return query
