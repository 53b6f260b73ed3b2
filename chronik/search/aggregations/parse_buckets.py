"""The JSON of aggregations that make buckets."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, tzinfo
from typing import Any

from chronik.search.aggregations.base import Aggregation, Bucket, Group
from chronik.search.aggregations.composite import Composite, Source
from chronik.search.aggregations.histograms import (
    Bound,
    CalendarTime,
    FixedTime,
    Histogram,
    Linear,
    Rounding,
    date_writer,
)
from chronik.search.aggregations.parse_metrics import missing_key, missing_number, simplified_number
from chronik.search.aggregations.selections import Named, Selection, Single, by_queries, by_ranges, matching
from chronik.search.aggregations.terms import KEPT, Order, TermsAggregation
from chronik.search.body import Body
from chronik.search.dates import parse_zone, resolve_date
from chronik.search.elastic import parse_query
from chronik.search.elastic_context import Context
from chronik.search.query import Exists, negated
from chronik.search.regexps import compile_regexp
from chronik.search.sorting import SortField
from chronik.search.values import Key, instants_of, keys_of, numbers_of

MAX_SIZE = 65_536
MAX_RANGES = 1000
MAX_SOURCES = 8

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_CALENDAR = {
    "second": "s", "1s": "s", "minute": "m", "1m": "m", "hour": "h", "1h": "h", "day": "d", "1d": "d", "week": "w", "1w": "w",
    "month": "M", "1M": "M", "quarter": "q", "1q": "q", "year": "y", "1y": "y",
}  # fmt: skip
_OF_TIME = ("fixed_interval", "calendar_interval", "time_zone", "offset", "format")
_INTERVAL = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)")
_SHIFT = re.compile(r"([+-]?)([0-9]{1,12})(ms|s|m|h|d)")


def terms(body: Body, context: Context, within: Group) -> Aggregation[Any]:
    """Buckets by value."""
    body.known("field", "size", "shard_size", "order", "min_doc_count", "missing", "include", "exclude",
               "show_term_doc_count_error")  # fmt: skip
    size = body["size"].integer(1, MAX_SIZE) if body.has("size") else 10
    return TermsAggregation(
        context.field(body["field"].name()),
        within,
        size,
        _order(body, within, [("_count", True)]),
        # 0 asks for values that no hit has, too: those are not known
        max(body["min_doc_count"].integer(0, 1 << 62), 1) if body.has("min_doc_count") else 1,
        missing_key(body),
        _wanted(body),
        body["show_term_doc_count_error"].boolean() if body.has("show_term_doc_count_error") else False,
        max(KEPT, body["shard_size"].integer(1, MAX_SIZE) if body.has("shard_size") else 0),
    )


def histogram(body: Body, context: Context, within: Group) -> Aggregation[Any]:
    """Buckets of equal width."""
    body.known(
        "field", "interval", "offset", "min_doc_count", "extended_bounds", "hard_bounds", "keyed", "order", "missing"
    )
    return Histogram(
        context.field(body["field"].name()),
        within,
        _linear(body),
        None,
        _least(body),
        _keyed(body),
        _order(body, within, []),
        missing_number(body),
        _bounds(body, "extended_bounds", simplified_number),
        _bounds(body, "hard_bounds", simplified_number),
    )


def date_histogram(body: Body, context: Context, within: Group) -> Aggregation[Any]:
    """Buckets of time."""
    body.known("field", *_OF_TIME, "min_doc_count", "extended_bounds", "hard_bounds", "keyed", "order", "missing")
    zone = _zone(body)
    writer = _writer(body, zone)
    instant = _instant_reader(context, zone)
    return Histogram(
        context.field(body["field"].name()),
        within,
        _time_rounding(body, zone),
        writer,
        _least(body),
        _keyed(body),
        _order(body, within, []),
        instant(body["missing"]) if body.has("missing") else None,
        _bounds(body, "extended_bounds", instant),
        _bounds(body, "hard_bounds", instant),
        dates=True,
    )


def range_(body: Body, context: Context, within: Group) -> Aggregation[Any]:
    """Buckets of numbers between bounds."""
    body.known("field", "ranges", "keyed", "missing")
    names: list[Named] = []
    ranges: list[tuple[float | None, float | None]] = []
    for item in _ranges(body):
        low, high = (item[key].decimal() if item.has(key) else None for key in ("from", "to"))
        key = item["key"].text() if item.has("key") else f"{_bound_text(low)}-{_bound_text(high)}"
        more = {name: value for name, value in (("from", low), ("to", high)) if value is not None}
        names.append(Named(key, dict(more)))
        ranges.append((low, high))
    read = numbers_of(context.field(body["field"].name()))
    return Selection(within, names, by_ranges(read, ranges, missing_number(body)), _keyed(body))


def date_range(body: Body, context: Context, within: Group) -> Aggregation[Any]:
    """Buckets of instants between bounds, which may be date math."""
    body.known("field", "ranges", "keyed", "missing", "format", "time_zone")
    zone = _zone(body)
    write = _writer(body, zone)
    instant = _instant_reader(context, zone)
    names: list[Named] = []
    ranges: list[tuple[float | None, float | None]] = []
    for item in _ranges(body):
        low, high = (instant(item[key]) if item.has(key) else None for key in ("from", "to"))
        texts = ["*" if bound is None else write(bound) for bound in (low, high)]
        more: dict[str, object] = {}
        for name, bound, text in (("from", low, texts[0]), ("to", high, texts[1])):
            if bound is not None:
                more |= {name: float(bound), f"{name}_as_string": text}
        names.append(Named(item["key"].text() if item.has("key") else "-".join(texts), more))
        ranges.append((low, high))
    missing = instant(body["missing"]) if body.has("missing") else None
    read = instants_of(context.field(body["field"].name()))
    return Selection(within, names, by_ranges(read, ranges, missing), _keyed(body))


def filter_(body: Body, context: Context, within: Group) -> Aggregation[Any]:
    """The records that match a query."""
    return Single(within, matching(parse_query(body.value, context, body.path)))


def filters(body: Body, context: Context, within: Group) -> Aggregation[Any]:
    """A bucket for each query."""
    body.known("filters", "other_bucket", "other_bucket_key")
    given = body["filters"]
    if isinstance(given.value, dict):
        items = [(name, given[name]) for name in given.names()]
    else:
        items = [(None, item) for item in given.array()]  # type: ignore[misc]
    if not 0 < len(items) <= MAX_RANGES:
        raise given.error(f"1 to {MAX_RANGES} queries are expected")
    keyed = items[0][0] is not None
    queries = [parse_query(item.value, context, item.path) for _, item in items]
    names = [Named(name, {}) for name, _ in items]
    others = body.has("other_bucket_key") or (body.has("other_bucket") and body["other_bucket"].boolean())
    if others:
        key = body["other_bucket_key"].text() if body.has("other_bucket_key") else "_other_"
        names.append(Named(key if keyed else None, {}))
    return Selection(within, names, by_queries(queries, others), keyed)


def missing(body: Body, context: Context, within: Group) -> Aggregation[Any]:
    """The records that have no value in a field."""
    return Single(within, matching(negated(Exists(body.known("field")["field"].name()))))


def composite(body: Body, context: Context, within: Group) -> Aggregation[Any]:
    """Buckets by several sources, page by page."""
    body.known("sources", "size", "after")
    size = body["size"].integer(1, MAX_SIZE) if body.has("size") else 10
    sources = [_source(item, context) for item in body["sources"].array()]
    names = [source.name for source, _ in sources]
    if not 0 < len(sources) <= MAX_SOURCES:
        raise body["sources"].error(f"1 to {MAX_SOURCES} sources are expected")
    if len(set(names)) < len(names):
        raise body["sources"].error("two sources have the same name")
    after: list[Key | None] | None = None
    if body.has("after"):
        given = body["after"].known(*names)
        after = [read(given[source.name]) for source, read in sources]
    return Composite([source for source, _ in sources], within, size, after)


def _source(body: Body, context: Context) -> tuple[Source, Callable[[Body], Key | None]]:
    """The source, and what reads its part of a key that was sent back."""
    name, content = body.only()
    kind, options = content.only()
    if kind not in ("terms", "histogram", "date_histogram"):
        raise content.error("terms, histogram or date_histogram is expected")
    own = {
        "terms": (),
        "histogram": ("interval",),
        "date_histogram": _OF_TIME,
    }[kind]
    options.known("field", "order", "missing_bucket", *own)
    field = context.field(options["field"].name())
    descending = options.has("order") and options["order"].one_of("asc", "desc") == "desc"
    missing = options["missing_bucket"].boolean() if options.has("missing_bucket") else False
    order = SortField(field.name, descending, first=not descending)
    if kind == "terms":
        return Source(name, keys_of(field), order, missing, lambda key: key), _part_of_after
    if kind == "histogram":
        return Source(
            name, _rounded(_linear(options), numbers_of(field)), order, missing, lambda key: key
        ), _part_of_after
    zone = _zone(options)
    read = _rounded(_time_rounding(options, zone), instants_of(field))
    if not options.has("format"):
        return Source(name, read, order, missing, lambda key: key), _part_of_after
    written: Callable[[Any], Key] = _writer(options, zone)
    seconds = options["format"].text().startswith("epoch_second")

    def instant(part: Body) -> Key | None:
        if part.value is None:
            return None
        return part.checked(lambda: resolve_date(part.scalar(), context.now_ms, zone=zone, seconds=seconds))

    return Source(name, read, order, missing, written), instant


def _rounded(rounding: Rounding, read: Callable[..., list[Any]]) -> Callable[..., list[Key | None]]:
    return lambda document, scope: [
        start for value in read(document, scope) if (start := rounding.start_of(value)) is not None
    ]


def _part_of_after(body: Body) -> Key | None:
    value = body.value
    return value if value is None or isinstance(value, bool | str) else simplified_number(body)


def _order(body: Body, within: Group, otherwise: Order) -> Order:
    if not body.has("order"):
        return otherwise
    order: list[tuple[str, bool]] = []
    for item in body["order"].items():
        name, direction = item.only()
        if name not in ("_count", "_key") and name.replace("[", ".", 1).partition(".")[0] not in within.aggregations:
            raise item.error(f"`{name:.80}` is neither _count, nor _key, nor an aggregation within this one")
        order.append((name, direction.one_of("asc", "desc") == "desc"))
        if name not in ("_count", "_key"):
            direction.checked(lambda name=name: within.metric(Bucket(0, within.start()), name))  # type: ignore[misc]
    return order


def _wanted(body: Body) -> Callable[[Key], bool] | None:
    tests: list[tuple[Callable[[str], bool], bool]] = []
    for key, keep in (("include", True), ("exclude", False)):
        if body.has(key):
            given = body[key]
            if isinstance(given.value, str):
                regexp = given.checked(lambda given=given: compile_regexp(rf"\A(?:{given.text()})\z"))  # type: ignore[misc]
                tests.append((lambda text, regexp=regexp: regexp.search(text.encode()) is not None, keep))  # type: ignore[misc]
            else:
                texts = frozenset(item.scalar() for item in given.array())
                tests.append((lambda text, texts=texts: text in texts, keep))  # type: ignore[misc]
    if not tests:
        return None

    def wanted(key: Key) -> bool:
        text = key if isinstance(key, str) else ("true" if key else "false") if isinstance(key, bool) else str(key)
        return all(test(text) is keep for test, keep in tests)

    return wanted


def _linear(body: Body) -> Linear:
    interval = body["interval"].decimal()
    if interval <= 0:
        raise body["interval"].error("an interval is greater than 0")
    return Linear(interval, body["offset"].decimal() if body.has("offset") else 0.0)


def _time_rounding(body: Body, zone: tzinfo) -> Rounding:
    offset = _duration(body["offset"], _SHIFT) if body.has("offset") else 0
    if body.has("fixed_interval") == body.has("calendar_interval"):
        raise body.error("either fixed_interval or calendar_interval is expected")
    if body.has("fixed_interval"):
        interval = _duration(body["fixed_interval"], _INTERVAL)
        if interval <= 0:
            raise body["fixed_interval"].error("an interval is greater than 0")
        return FixedTime(interval, offset, zone)
    unit = _CALENDAR.get(body["calendar_interval"].text())
    if unit is None:
        raise body["calendar_interval"].error(f"one of {', '.join(_CALENDAR)} is expected")
    return CalendarTime(unit, offset, zone)


def _duration(body: Body, pattern: re.Pattern[str]) -> int:
    match = pattern.fullmatch(body.text())
    if match is None:
        raise body.error("a duration is expected: a number and ms, s, m, h or d, such as 30s")
    *sign, count, unit = match.groups()
    return int(count) * _UNITS[unit] * (-1 if sign == ["-"] else 1)


def _zone(body: Body) -> tzinfo:
    return body["time_zone"].checked(lambda: parse_zone(body["time_zone"].text())) if body.has("time_zone") else UTC


def _writer(body: Body, zone: tzinfo) -> Callable[[int | float], str]:
    if not body.has("format"):
        return date_writer(None, zone)
    return body["format"].checked(lambda: date_writer(body["format"].text(), zone))


def _instant_reader(context: Context, zone: tzinfo) -> Callable[[Body], int]:
    return lambda body: body.checked(lambda: resolve_date(body.scalar(), context.now_ms, zone=zone))


def _bounds(body: Body, key: str, read: Callable[[Body], int | float]) -> Bound:
    if not body.has(key):
        return None, None
    bounds = body[key].known("min", "max")
    low, high = (read(bounds[name]) if bounds.has(name) else None for name in ("min", "max"))
    if low is not None and high is not None and low > high:
        raise bounds.error("min is greater than max")
    return low, high


def _ranges(body: Body) -> list[Body]:
    ranges = [item.known("from", "to", "key") for item in body["ranges"].array()]
    if not 0 < len(ranges) <= MAX_RANGES:
        raise body["ranges"].error(f"1 to {MAX_RANGES} ranges are expected")
    return ranges


def _bound_text(bound: float | None) -> str:
    return "*" if bound is None else repr(bound)


def _least(body: Body) -> int:
    return body["min_doc_count"].integer(0, 1 << 62) if body.has("min_doc_count") else 0


def _keyed(body: Body) -> bool:
    return body["keyed"].boolean() if body.has("keyed") else False
