"""Elasticsearch's clauses on values: term, terms, prefix, wildcard, regexp, range, exists, ids."""

from __future__ import annotations

import re
from datetime import UTC

from chronik.search.body import Body
from chronik.search.dates import format_date, parse_zone
from chronik.search.elastic_context import Context, on_field
from chronik.search.fields import Field
from chronik.search.mapping import DATE_FORMATS
from chronik.search.query import (
    Exists,
    Query,
    QueryError,
    Range,
    Term,
    any_term,
    between,
    boosted,
    ids,
    literal_pattern,
    regexp,
    wildcard,
)
from chronik.search.ranges import interval
from chronik.search.wildcards import is_of_one_word, parts

_OPERATOR = re.compile(r'\\.|\[(?:\\.|[^\]\\])*\]|([~&<>@#"])', re.DOTALL)


def term(body: Body, context: Context) -> Query:
    """`{"term": {field: value}}`."""
    name, options, value = on_field(body, context, "value", "case_insensitive")
    text = value.scalar()
    if name == "_id":
        return value.checked(lambda: ids([text]))
    if _any_case(options) and context.field(name).kind == "keyword":
        return boosted(_exactly(name, re.escape(text)), options.boost())
    return boosted(Term(name, text), options.boost())


def terms(body: Body, context: Context) -> Query:
    """`{"terms": {field: [values]}}`."""
    names = [key for key in body.names() if key != "boost"]
    if len(names) != 1:
        raise body.error("one field is expected")
    values = body[names[0]]
    if isinstance(values.value, dict):
        raise values.error("values of another document are not looked up")
    array = values.array()
    if len(array) > context.limits.terms:
        raise values.error(f"{len(array)} values, {context.limits.terms} are allowed")
    texts = [value.scalar() for value in array]
    query = values.checked(lambda: ids(texts)) if names[0] == "_id" else any_term(names[0], texts)
    return boosted(query, body.boost())


def prefix(body: Body, context: Context) -> Query:
    """`{"prefix": {field: value}}`."""
    name, options, value = on_field(body, context, "value", "case_insensitive")
    text = value.text()
    if _any_case(options) and context.field(name).kind == "keyword":
        return boosted(regexp(name, rf"(?i)\A{re.escape(text)}"), options.boost())
    return boosted(wildcard(name, literal_pattern(text) + "*"), options.boost())


def wildcard_of(body: Body, context: Context) -> Query:
    """`{"wildcard": {field: pattern}}`; the pattern may also be under `wildcard`."""
    name, content = body.only()
    single = "wildcard" if content.has("wildcard") else "value"
    name, options, value = on_field(body, context, single, "case_insensitive")
    field = context.field(name)
    pattern = parts(value.text())
    if len(pattern.items) == len(pattern.literals):  # nothing is wild
        text = "".join(pattern.items)
        if field.kind == "keyword" and not _any_case(options):
            return boosted(Term(name, text), options.boost())
        if field.kind != "keyword" and is_of_one_word(pattern):
            return boosted(Term(name, text), options.boost())
        return boosted(_exactly(name, re.escape(text)), options.boost())
    if _any_case(options) and field.kind == "keyword":
        source = "".join(
            re.escape(item) if index in pattern.literals else ".*" if item == "*" else "."
            for index, item in enumerate(pattern.items)
        )
        return boosted(_exactly(name, source), options.boost())
    return boosted(wildcard(name, value.text()), options.boost())


def regexp_of(body: Body, context: Context) -> Query:
    """`{"regexp": {field: expression}}`: of an exact text all of it, of another a part."""
    name, options, value = on_field(body, context, "value", "flags", "case_insensitive")
    flags = options["flags"].one_of("ALL", "NONE") if options.has("flags") else "ALL"
    source = value.text()
    for match in _OPERATOR.finditer(source):
        if match[1] == '"' or (match[1] and flags == "ALL"):
            raise value.error(
                f"Lucene's operator {match[1]} is not supported (a backslash before it makes it a character)"
            )
    if context.field(name).kind in ("keyword", "number"):
        source = rf"\A(?:{source})\z"
    if _any_case(options):
        source = f"(?i){source}"
    return boosted(value.checked(lambda: regexp(name, source)), options.boost())


def range_of(body: Body, context: Context) -> Query:
    """`{"range": {field: {"gte": …, "lt": …}}}`."""
    name, content = body.only()
    content.known("gt", "gte", "lt", "lte", "format", "time_zone", "boost")
    field = context.field(name)
    lower, include_lower = _bound(content, "gte", "gt")
    upper, include_upper = _bound(content, "lte", "lt")
    query = between(name, lower, upper, include_lower, include_upper)
    if (content.has("format") or content.has("time_zone")) and isinstance(query, Range):
        dates = query
        query = content.checked(lambda: _of_dates(dates, content, field, context.now_ms))
    return boosted(query, content.boost())


def exists(body: Body, context: Context) -> Query:
    """`{"exists": {"field": name}}`."""
    return boosted(Exists(body.known("field", "boost")["field"].name()), body.boost())


def ids_of(body: Body, context: Context) -> Query:
    """`{"ids": {"values": ["3:1234"]}}`."""
    values = [value.text() for value in body.known("values", "boost")["values"].items()]
    if len(values) > context.limits.terms:
        raise body["values"].error(f"{len(values)} ids, {context.limits.terms} are allowed")
    return boosted(body["values"].checked(lambda: ids(values)), body.boost())


def _any_case(options: Body) -> bool:
    return options.has("case_insensitive") and options["case_insensitive"].boolean()


def _exactly(name: str, source: str) -> Query:
    return regexp(name, rf"(?i)\A(?:{source})\z")


def _bound(content: Body, closed: str, open_: str) -> tuple[str | None, bool]:
    if content.has(closed) and content.has(open_):
        raise content[open_].error(f"{closed} is there too")
    if content.has(open_):
        return content[open_].scalar(), False
    return (content[closed].scalar() if content.has(closed) else None), True


def _of_dates(query: Range, content: Body, field: Field, now_ms: int) -> Query:
    """The range with its bounds written out as instants, which mean the same without a format or a time zone."""
    if field.kind not in ("dynamic", "date"):
        raise QueryError(f"a format or a time zone is for dates, and `{query.field}` is not one")
    formats = content["format"].text().split("||") if content.has("format") else list(DATE_FORMATS[:1])
    for one in formats:
        if one not in DATE_FORMATS:
            raise content["format"].error(f"`{one:.50}` is not supported: {', '.join(DATE_FORMATS)} are")
    zone = parse_zone(content["time_zone"].text()) if content.has("time_zone") else UTC
    seconds = "epoch_second" in formats or (field.seconds and not content.has("format"))
    first, last = interval(query, now_ms, seconds, zone)
    return between(
        query.field,
        None if query.lower is None else _instant(first, field),
        None if query.upper is None else _instant(last, field),
    )


def _instant(ms: int, field: Field) -> str:
    text = format_date(ms)
    if "-" not in text[1:]:  # beyond the years that have a name
        raise QueryError("the years are 1 to 9999")
    return text
