"""The JSON of aggregations that make numbers, or hits, and no buckets."""

from __future__ import annotations

from typing import Any

from chronik.search.aggregations.base import Aggregation
from chronik.search.aggregations.metrics import Metric, ValueCount
from chronik.search.aggregations.sketches import DEFAULT_PERCENTS, MAX_PRECISION, Cardinality, Percentiles
from chronik.search.aggregations.top_hits import TopHits
from chronik.search.body import Body
from chronik.search.elastic_context import Context
from chronik.search.sorting import NEWEST_FIRST, SortKey, parse_sort
from chronik.search.values import Key

MAX_POINTS = 100


def number(kind: str, body: Body, context: Context) -> Aggregation[Any]:
    """min, max, sum, avg, stats, extended_stats."""
    body.known("field", "missing", *(("sigma",) if kind == "extended_stats" else ()))
    sigma = body["sigma"].decimal() if body.has("sigma") else 2.0
    if sigma < 0:
        raise body["sigma"].error("a sigma cannot be negative")
    return Metric(kind, context.field(body["field"].name()), missing_number(body), sigma)


def value_count(body: Body, context: Context) -> Aggregation[Any]:
    """How many values."""
    return ValueCount(context.field(body.known("field")["field"].name()))


def percentiles(body: Body, context: Context) -> Aggregation[Any]:
    """Values below which so many percent are."""
    body.known("field", "percents", "keyed", "missing", "tdigest")
    points = _points(body["percents"]) if body.has("percents") else DEFAULT_PERCENTS
    if any(not 0 <= point <= 100 for point in points):
        raise body["percents"].error("percents are from 0 to 100")
    return _spread(body, context, points, ranks=False)


def percentile_ranks(body: Body, context: Context) -> Aggregation[Any]:
    """How many percent are not above values."""
    body.known("field", "values", "keyed", "missing", "tdigest")
    return _spread(body, context, _points(body["values"]), ranks=True)


def cardinality(body: Body, context: Context) -> Aggregation[Any]:
    """How many distinct values."""
    body.known("field", "precision_threshold", "missing")
    precision = body["precision_threshold"].integer(0, 1 << 31) if body.has("precision_threshold") else 3000
    return Cardinality(context.field(body["field"].name()), min(precision, MAX_PRECISION), missing_key(body))


def top_hits(body: Body, context: Context) -> Aggregation[Any]:
    """The first hits."""
    body.known("size", "from", "sort", "_source")
    size = body["size"].integer(0, 100) if body.has("size") else 3
    skipped = body["from"].integer(0, 100) if body.has("from") else 0
    sort = parse_sort(body["sort"], context) if body.has("sort") else NEWEST_FIRST
    with_source = body["_source"].boolean() if body.has("_source") else True
    return TopHits(SortKey(sort, context.mapping), size, skipped, with_source)


def missing_number(body: Body) -> int | float | None:
    """What counts for a record without a value, as a number."""
    return simplified_number(body["missing"]) if body.has("missing") else None


def missing_key(body: Body) -> Key | None:
    """What counts for a record without a value."""
    if not body.has("missing"):
        return None
    value = body["missing"].value
    return value if isinstance(value, str | bool) else simplified_number(body["missing"])


def simplified_number(body: Body) -> int | float:
    """A number, an int where it is one."""
    number = body.decimal()
    return int(number) if number.is_integer() and abs(number) <= 2**53 else number


def _spread(body: Body, context: Context, points: tuple[float, ...], ranks: bool) -> Aggregation[Any]:
    compression = 100
    if body.has("tdigest"):
        options = body["tdigest"].known("compression")
        compression = options["compression"].integer(10, 1000) if options.has("compression") else compression
    keyed = body["keyed"].boolean() if body.has("keyed") else True
    return Percentiles(context.field(body["field"].name()), points, keyed, missing_number(body), compression, ranks)


def _points(body: Body) -> tuple[float, ...]:
    points = tuple(item.decimal() for item in body.array())
    if not 0 < len(points) <= MAX_POINTS:
        raise body.error(f"1 to {MAX_POINTS} numbers are expected")
    return points
