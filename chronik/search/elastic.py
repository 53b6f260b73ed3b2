"""Elasticsearch's queries in JSON (`{"bool": {"must": [{"term": {"status": 500}}]}}`), as far as they are served, to a query.

What the same JSON means in Elasticsearch holds here, with a mapping in which fields that are not mapped are dynamic: texts with
a `.keyword` beside them, numbers, booleans (`chronik.search.conditions`). Where they differ, docs/search.md says so. A key or a
kind of query that is not known, or would change the hits in a way that is not built, is refused with its path.

Compounds are here; clauses on words in `chronik.search.elastic_text`, those on values in `chronik.search.elastic_values`.
"""

from __future__ import annotations

from collections.abc import Callable

from chronik.search.body import Body
from chronik.search.elastic_context import Context, validated
from chronik.search.elastic_text import (
    match,
    match_phrase,
    match_phrase_prefix,
    minimum_of,
    multi_match,
    query_string,
    simple_query_string,
)
from chronik.search.elastic_values import exists, ids_of, prefix, range_of, regexp_of, term, terms, wildcard_of
from chronik.search.query import ALL, NOTHING, Query, all_of, any_of, boosted, check_size, negated

Parser = Callable[[Body, Context], Query]

# fmt: off
NOT_SERVED = frozenset((
    "nested", "has_child", "has_parent", "parent_id", "function_score", "script", "script_score", "boosting",
    "dis_max", "fuzzy", "more_like_this", "percolate", "geo_distance", "geo_bounding_box", "geo_shape",
    "geo_polygon", "span_term", "span_near", "span_or", "span_not", "span_first", "span_multi", "intervals",
    "terms_set", "distance_feature", "rank_feature", "pinned", "wrapper", "knn", "sparse_vector", "semantic",
    "match_bool_prefix", "combined_fields", "shape",
))
# fmt: on


def parse_query(body: object, context: Context, path: str = "query") -> Query:
    """The query. Raises QueryError with the path of what is wrong."""
    whole = Body(body, path)
    query = _query(whole, context, 0)
    whole.checked(lambda: check_size(query, context.limits))
    return query


def _query(body: Body, context: Context, depth: int) -> Query:
    if depth > context.limits.depth:
        raise body.error(f"queries are nested deeper than {context.limits.depth} levels")
    kind, content = body.only()
    if kind == "bool":
        return _bool(content, context, depth)
    if kind == "constant_score":
        inner = _query(content.known("filter", "boost")["filter"], context, depth + 1)
        return all_of([boosted(inner, 0.0), boosted(ALL, content.boost())])
    parser = _PARSERS.get(kind)
    if parser is not None:
        return validated(parser(content, context), content, context)
    if kind in NOT_SERVED:
        raise content.error("this kind of query is not served")
    raise content.error(
        f"an unknown kind of query: {', '.join(sorted([*_PARSERS, 'bool', 'constant_score']))} are known"
    )


def _bool(body: Body, context: Context, depth: int) -> Query:
    body.known("must", "filter", "should", "must_not", "minimum_should_match", "boost")

    def clauses(key: str) -> list[Query]:
        return [_query(item, context, depth + 1) for item in body[key].items()] if body.has(key) else []

    must, filters, should, must_not = (clauses(key) for key in ("must", "filter", "should", "must_not"))
    minimum = 0 if must or filters or not should else 1
    if body.has("minimum_should_match"):
        minimum = minimum_of(body["minimum_should_match"], len(should))
    parts = [*must, *(boosted(query, 0.0) for query in filters)]
    if should or minimum:
        parts.append(any_of(should, minimum))
    return boosted(all_of([*parts, *map(negated, must_not)]), body.boost())


def _match_all(body: Body, context: Context) -> Query:
    return boosted(ALL, body.known("boost").boost())


def _match_none(body: Body, context: Context) -> Query:
    body.known()
    return NOTHING


_PARSERS: dict[str, Parser] = {
    "match_all": _match_all,
    "match_none": _match_none,
    "match": match,
    "match_phrase": match_phrase,
    "match_phrase_prefix": match_phrase_prefix,
    "multi_match": multi_match,
    "query_string": query_string,
    "simple_query_string": simple_query_string,
    "term": term,
    "terms": terms,
    "prefix": prefix,
    "wildcard": wildcard_of,
    "regexp": regexp_of,
    "range": range_of,
    "exists": exists,
    "ids": ids_of,
}
