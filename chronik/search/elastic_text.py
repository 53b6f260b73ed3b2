"""Elasticsearch's clauses on words: match and its relatives, multi_match, query_string, simple_query_string."""

from __future__ import annotations

import re

from chronik.search import query_string as language
from chronik.search.analysis import words
from chronik.search.body import Body, weighed_field
from chronik.search.dates import is_iso_date
from chronik.search.elastic_context import Context, on_field
from chronik.search.numbers import parse_number
from chronik.search.query import ALL, NOTHING, Query, Term, all_of, any_of, boosted, check_text
from chronik.search.simple_query_string import parse_simple

_MINIMUM = re.compile(r"(-?)([0-9]{1,6})(%?)")
_MAX_WORDS = 200


def match(body: Body, context: Context) -> Query:
    """`{"match": {field: text}}`."""
    name, options, value = on_field(body, context, "query", "operator", "minimum_should_match", "zero_terms_query")
    return boosted(_match(name, value, options, context), options.boost())


def match_phrase(body: Body, context: Context) -> Query:
    """`{"match_phrase": {field: text}}`."""
    name, options, value = on_field(body, context, "query", "slop", "zero_terms_query")
    return boosted(_phrase(name, value, options, context, prefix=False), options.boost())


def match_phrase_prefix(body: Body, context: Context) -> Query:
    """`{"match_phrase_prefix": {field: text}}`; with no limit to the words that begin so."""
    name, options, value = on_field(body, context, "query", "slop", "zero_terms_query")
    return boosted(_phrase(name, value, options, context, prefix=True), options.boost())


def multi_match(body: Body, context: Context) -> Query:
    """`{"multi_match": {"query": text, "fields": [names]}}`, of the types that find what one of the fields alone finds."""
    body.known("query", "fields", "type", "operator", "minimum_should_match", "slop", "zero_terms_query", "boost")
    kinds = ("best_fields", "most_fields", "phrase", "phrase_prefix")
    kind = body["type"].one_of(*kinds) if body.has("type") else "best_fields"
    value = body["query"]
    queries: list[Query] = []
    for name, boost in _fields(body, context):
        if kind in ("best_fields", "most_fields"):
            if body.has("slop"):
                raise body["slop"].error("a slop is for phrases")
            query = _match(name, value, body, context)
        else:
            for key in ("operator", "minimum_should_match"):
                if body.has(key):
                    raise body[key].error("not for phrases")
            query = _phrase(name, value, body, context, prefix=kind == "phrase_prefix")
        queries.append(boosted(query, boost))
    return boosted(any_of(queries), body.boost())


def query_string(body: Body, context: Context) -> Query:
    """`{"query_string": {"query": text}}`."""
    body.known(
        "query", "default_field", "fields", "default_operator", "analyze_wildcard", "allow_leading_wildcard", "boost"
    )
    for key in ("analyze_wildcard", "allow_leading_wildcard"):
        if body.has(key) and not body[key].boolean():
            raise body[key].error("wildcards are always compared with words in lower case, and may lead")
    if body.has("default_field"):
        if body.has("fields"):
            raise body["default_field"].error("fields is there too")
        fields = [weighed_field(body["default_field"].text(), body["default_field"])]
    else:
        fields = _fields(body, context)
    operator = _operator(body, "default_operator")
    text = body["query"]
    query = text.checked(lambda: language.parse(text.text(), fields, operator, context.limits))
    return boosted(query, body.boost())


def simple_query_string(body: Body, context: Context) -> Query:
    """`{"simple_query_string": {"query": text}}`."""
    body.known("query", "fields", "default_operator", "analyze_wildcard", "minimum_should_match", "boost")
    if body.has("analyze_wildcard") and not body["analyze_wildcard"].boolean():
        raise body["analyze_wildcard"].error("wildcards are always compared with words in lower case")
    text = body["query"]
    fields, operator = _fields(body, context), _operator(body, "default_operator")
    query = text.checked(lambda: parse_simple(text.text(), fields, operator, context.limits))
    if body.has("minimum_should_match"):
        raise body["minimum_should_match"].error("not supported here: use match, or (a b c)~2 in a query_string")
    return boosted(query, body.boost())


def minimum_of(body: Body, count: int) -> int:
    """How many of `count` optional clauses a `minimum_should_match` asks for: `2`, `-1`, `75%`, `-25%`."""
    text = str(body.value) if isinstance(body.value, int) and not isinstance(body.value, bool) else body.text()
    found = _MINIMUM.fullmatch(text.strip())
    if found is None:
        raise body.error("a number of clauses is expected, or a percentage: 2, -1, 75%, -25%")
    number = int(found[2])
    if found[3]:
        number = count * number // 100
    return max(count - number, 0) if found[1] else number


def _match(name: str, value: Body, options: Body, context: Context) -> Query:
    text = value.scalar()
    operator = _operator(options, "operator")
    value.checked(lambda: check_text(text, context.limits))
    if context.field(name).kind not in ("dynamic", "text"):
        return Term(name, text)
    found = words(text)
    if not found:
        return _zero_terms(options)
    if len(found) > _MAX_WORDS:
        raise value.error(f"{len(found)} words, {_MAX_WORDS} are allowed")
    each = [Term(name, word) for word in found]
    minimum = 1
    if options.has("minimum_should_match"):
        minimum = max(minimum_of(options["minimum_should_match"], len(each)), 1)
    query = all_of(each) if operator == "AND" else any_of(each, minimum)
    if len(each) > 1 and (parse_number(text) is not None or is_iso_date(text)):  # 2.5 is two words, and one number
        return any_of([Term(name, text), query])
    return query


def _phrase(name: str, value: Body, options: Body, context: Context, prefix: bool) -> Query:
    text = value.scalar()
    slop = options["slop"].integer(0, 1000) if options.has("slop") else 0
    if context.field(name).kind in ("dynamic", "text") and not words(text):
        return _zero_terms(options)
    return Term(name, text, slop, prefix)


def _zero_terms(options: Body) -> Query:
    """What a text without words finds."""
    if options.has("zero_terms_query"):
        return ALL if options["zero_terms_query"].one_of("none", "all") == "all" else NOTHING
    return NOTHING


def _operator(options: Body, key: str) -> str:
    return options[key].one_of("or", "OR", "and", "AND").upper() if options.has(key) else "OR"


def _fields(body: Body, context: Context) -> list[tuple[str, float]]:
    if not body.has("fields"):
        return list(context.fields)
    fields = [weighed_field(item.text(), item) for item in body["fields"].items()]
    if not fields:
        raise body["fields"].error("a field is expected")
    return fields
