"""Elasticsearch's requests to search and to count, out of a URL's parameters and a body, as one value.

Every parameter and every key of the body has to be known: one that is not served is refused by its name, with the reason where
there is a better way. What only tunes Elasticsearch's own machinery and changes no answer is accepted (`TUNING`).

Reading a large request takes longer than the reactor may be held, so it is done where the searching is: a `SearchRequest`
travels. Its query is in msgpack already, and the node hands it on as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as AnyMapping
from decimal import Decimal

import msgspec

from chronik.search.aggregations.parse import parse_aggregations
from chronik.search.body import Body
from chronik.search.dates import parse_date
from chronik.search.elastic import parse_query
from chronik.search.elastic_context import Context
from chronik.search.query import ALL, Query, QueryError, encode
from chronik.search.rendering import Shape
from chronik.search.request_shape import SHAPE_PARAMETERS, shape_of
from chronik.search.sorting import After, Sort, parse_search_after, parse_sort

MAX_WINDOW = 10_000
"""`from` and `size` together."""
COUNT_TO = 10_000
"""Hits that are counted where the request doesn't say how many."""
ALL_HITS = -1

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode

TUNING = frozenset(
    {
        "batched_reduce_size", "ccs_minimize_roundtrips", "ignore_throttled", "max_concurrent_shard_requests",
        "pre_filter_shard_size", "preference", "request_cache",
    }
)  # fmt: skip
"""Parameters that change no answer."""

QUERY_PARAMETERS = ("q", "df", "default_operator", "analyze_wildcard")
SEARCH_PARAMETERS = (
    *QUERY_PARAMETERS, *SHAPE_PARAMETERS, "size", "from", "sort", "track_total_hits", "rest_total_hits_as_int", "timeout",
    "allow_partial_search_results",
)  # fmt: skip
"""What the URL of a search may say about it."""

SEARCHED_WITH = (
    "query", "size", "from", "sort", "_source", "fields", "docvalue_fields", "script_fields", "track_total_hits",
    "timeout", "search_after", "highlight", "aggs", "aggregations", "chronik",
)  # fmt: skip
"""Keys of a search's body that are acted on."""
_OFF = ("explain", "profile", "seq_no_primary_term", "track_scores", "version")
"""Keys and parameters that may be false."""
_NO_SCORES = "there are no scores"
_NOT_BUILT = "not served yet"
_REASONS = {
    "collapse": _NOT_BUILT, "indices_boost": _NO_SCORES, "knn": _NO_SCORES, "min_score": _NO_SCORES,
    "pit": "ask with the response's chronik.vector to search the same state again", "post_filter": "put it into the query",
    "rank": _NO_SCORES, "rescore": _NO_SCORES, "retriever": _NO_SCORES,
    "routing": "partitions are searched by a query: partition:3",
    "runtime_mappings": "fields are made by nobody but the producer",
    "scroll": "page with search_after, or search the state of chronik.vector again",
    "search_pipeline": _NOT_BUILT, "slice": "search partition by partition: partition:3",
    "stored_fields": "nothing is stored beside the record: ask for `fields`", "suggest": _NOT_BUILT,
    "terminate_after": "say how many hits are to be counted by track_total_hits",
    "typed_keys": "aggregations have the names that the request gave them",
}  # fmt: skip
_SWITCHES = {"true": True, "": True, "false": False}
_DURATION = re.compile(r"([0-9]{1,9})(nanos|micros|ms|s|m|h|d)")
_UNITS = {"nanos": 1e-6, "micros": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6, "d": 8.64e7}


class TopicState(msgspec.Struct, frozen=True):
    """A topic at a point in time: its id, and of each partition the first offset and the one after the last."""

    id: str
    partitions: dict[int, tuple[int, int]]


class Vector(msgspec.Struct, frozen=True):
    """The state that a search saw: what `now` was, and the topics."""

    now: int
    topics: dict[str, TopicState]


class SearchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A search. `count_to`: how many hits are counted, `ALL_HITS` for all of them, 0 for none.

    `skip` hits are left out of the `size` that are shown. Without a `sort` the newest are the first. `aggs` are aggregations,
    in JSON that was checked. `timeout_ms`: None where the request has no limit of its own.
    With `partial` an answer may lack parts, which it says. `wait_for`: offsets that must be readable first.
    """

    query: msgspec.Raw
    size: int = 10
    skip: int = 0
    count_to: int = COUNT_TO
    sort: Sort | None = None
    after: After | None = None
    aggs: bytes = b""
    shape: Shape = Shape()
    timeout_ms: int | None = None
    partial: bool = True
    total_as_int: bool = False
    vector: Vector | None = None
    wait_for: dict[str, dict[int, int]] = {}


def read_search(parameters: AnyMapping[str, str], content: bytes, context: Context) -> SearchRequest:
    """The search that is asked for. Raises QueryError."""
    for name in parameters:
        if name not in SEARCH_PARAMETERS:
            raise refused_parameter(name)
    url = Body(dict(parameters), "")
    body = json_body(content)
    _known(body)
    if body.has("script_fields") and body["script_fields"].names():
        raise body["script_fields"].error("scripts are not run")
    size, skip = _number(url, body, "size", 10), _number(url, body, "from", 0)
    if size + skip > MAX_WINDOW:
        raise QueryError(
            f"from and size are {skip + size} together, {MAX_WINDOW} are allowed; search further in parts of time or offset",
            path="from",
        )
    as_int = _flag(url, "rest_total_hits_as_int", False)
    count_to = _count_to(url, body, as_int)
    sort = _sort(url, body, context)
    vector, wait_for = _extension(body)
    timeout = _either(url, body, "timeout")
    return SearchRequest(
        query=msgspec.Raw(encode(_query(url, body, context))),
        size=size,
        skip=skip,
        count_to=count_to,
        sort=sort,
        after=_after(body, sort, skip),
        aggs=_aggs(body, context),
        shape=shape_of(url, body, sort is not None),
        timeout_ms=None if timeout is None else duration_ms(timeout),
        partial=_flag(url, "allow_partial_search_results", True),
        total_as_int=as_int,
        vector=vector,
        wait_for=wait_for,
    )


def read_count(parameters: AnyMapping[str, str], content: bytes, context: Context) -> SearchRequest:
    """The count that is asked for: a search that shows no hit and counts all. Raises QueryError."""
    for name in parameters:
        if name not in (*QUERY_PARAMETERS, "timeout"):
            raise refused_parameter(name)
    url = Body(dict(parameters), "")
    body = json_body(content)
    for name in body.names():
        if name not in ("query", "chronik"):
            raise QueryError("not supported in a count (query, chronik can stand here)", path=name)
    vector, wait_for = _extension(body)
    timeout = duration_ms(url["timeout"]) if url.has("timeout") else None
    return SearchRequest(
        query=msgspec.Raw(encode(_query(url, body, context))),
        size=0,
        count_to=ALL_HITS,
        timeout_ms=timeout,
        partial=False,
        vector=vector,
        wait_for=wait_for,
    )


def json_body(content: bytes) -> Body:
    """The JSON object that a body holds; an empty one where there is no body. Raises QueryError."""
    if not content.strip():
        return Body({}, "")
    try:
        value = _decode(content)
    except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError) as fault:
        raise QueryError(f"the body is no JSON: {fault}") from None
    body = Body(value, "")
    body.names()
    return body


def refused_parameter(name: str) -> QueryError:
    """Why a parameter is refused."""
    reason = _REASONS.get(name)
    if reason is None:
        return QueryError(f"unrecognized parameter `{name:.50}`")
    return QueryError(f"the parameter `{name}` is not served: {reason}")


def duration_ms(body: Body) -> int | None:
    """Milliseconds out of `500ms`, `10s`, `1m`; None for `-1`, which is no limit. Raises QueryError."""
    text = body.scalar()
    if text == "-1":
        return None
    found = _DURATION.fullmatch(text)
    if found is None:
        raise body.error("a time with its unit is expected, such as 500ms, 10s or 1m")
    return int(int(found[1]) * _UNITS[found[2]])


def _known(body: Body) -> None:
    for name in body.names():
        if name in _OFF:
            if body.has(name) and body[name].boolean():
                raise body[name].error(
                    f"not served: {_NO_SCORES if name in ('explain', 'track_scores') else _NOT_BUILT}"
                )
        elif name not in SEARCHED_WITH:
            reason = _REASONS.get(name)
            if reason is not None:
                raise QueryError(f"not served: {reason}", path=name)
            raise QueryError(f"unknown ({', '.join(SEARCHED_WITH)} can stand here)", path=name)


def _either(url: Body, body: Body, name: str) -> Body | None:
    """What the URL says under a name, or the body; None where neither says anything."""
    if not url.has(name):
        return body[name] if body.has(name) else None
    if body.has(name):
        raise body[name].error("it is in the URL too")
    return url[name]


def _number(url: Body, body: Body, name: str, otherwise: int) -> int:
    given = _either(url, body, name)
    return otherwise if given is None else given.integer(0, MAX_WINDOW)


def _flag(url: Body, name: str, otherwise: bool) -> bool:
    return otherwise if not url.has(name) else url[name].one_of("true", "false", "") != "false"


def _query(url: Body, body: Body, context: Context) -> Query:
    if not url.has("q"):
        for name in QUERY_PARAMETERS[1:]:
            if url.has(name):
                raise url[name].error("it goes with q")
        return parse_query(body["query"].value, context) if body.has("query") else ALL
    if body.has("query"):
        raise body["query"].error("there is q in the URL too")
    clause: dict[str, object] = {"query": url["q"].text()}
    if url.has("df"):
        clause["default_field"] = url["df"].text()
    if url.has("default_operator"):
        clause["default_operator"] = url["default_operator"].text()
    if url.has("analyze_wildcard"):
        clause["analyze_wildcard"] = _flag(url, "analyze_wildcard", False)
    try:
        return parse_query({"query_string": clause}, context)
    except QueryError as fault:
        raise QueryError(fault.reason, fault.position, "df" if fault.path.endswith("default_field") else "q") from None


def _count_to(url: Body, body: Body, as_int: bool) -> int:
    given = _either(url, body, "track_total_hits")
    if given is None:
        return ALL_HITS if as_int else COUNT_TO
    value = _SWITCHES.get(given.value, given.value) if isinstance(given.value, str) else given.value
    if isinstance(value, bool):
        count = ALL_HITS if value else 0
    elif value in (ALL_HITS, "-1"):
        count = ALL_HITS
    else:
        count = given.integer(1, (1 << 31) - 1)
    if as_int and count != ALL_HITS:
        raise given.error("with rest_total_hits_as_int all hits are counted")
    return count


def _sort(url: Body, body: Body, context: Context) -> Sort | None:
    """The order that is asked for."""
    given = _either(url, body, "sort")
    if given is None:
        return None
    wanted: list[object] = []
    if url.has("sort"):
        for part in given.text().split(","):
            name, colon, order = part.rpartition(":")
            wanted.append({name: order} if colon else order)
    else:
        for item in given.items():  # an object may name several fields, in the order of its keys
            several = isinstance(item.value, dict)
            wanted += [{name: item[name].value} for name in item.names()] if several else [item.value]
    return parse_sort(Body(wanted, "sort"), context)


def _after(body: Body, sort: Sort | None, skip: int) -> After | None:
    """The hit behind which to go on."""
    if not body.has("search_after"):
        return None
    given = body["search_after"]
    if sort is None:
        raise given.error("it goes with a sort")
    if skip:
        raise given.error("from is 0 with it")
    after = parse_search_after(given, sort)
    if not sort.by_time:
        return after
    (time,) = after.values
    if isinstance(time, str) and (instant := parse_date(time)) is not None:
        time = instant
    if time is not None and (isinstance(time, bool) or not isinstance(time, int)):
        raise given.error("milliseconds are expected, or an ISO date")
    return After((time,), after.place)


def _aggs(body: Body, context: Context) -> bytes:
    """The aggregations, in JSON again: who counts reads them anew."""
    names = [name for name in ("aggs", "aggregations") if body.has(name)]
    if not names:
        return b""
    if len(names) > 1:
        raise body["aggregations"].error("aggs is there too")
    given = body[names[0]]
    parse_aggregations(given, context)
    return _encode(given.value) if given.names() else b""


def _extension(body: Body) -> tuple[Vector | None, dict[str, dict[int, int]]]:
    """What is ours in a body: `{"chronik": {"vector": …, "wait_for": {topic: {partition: offset}}}}`."""
    if not body.has("chronik"):
        return None, {}
    given = body["chronik"].known("vector", "wait_for")
    vector = None
    wait_for: dict[str, dict[int, int]] = {}
    try:
        if given.has("vector"):
            vector = msgspec.convert(given["vector"].value, Vector, strict=False)
        if given.has("wait_for"):
            wait_for = msgspec.convert(given["wait_for"].value, dict[str, dict[int, int]], strict=False)
    except (msgspec.ValidationError, ValueError) as fault:
        raise given.error(str(fault)) from None
    if vector is not None and not all(
        0 <= start <= upper < 1 << 63 and partition >= 0
        for topic in vector.topics.values()
        for partition, (start, upper) in topic.partitions.items()
    ):
        raise given["vector"].error("no offsets of a response")
    if not all(0 <= offset < 1 << 63 for offsets in wait_for.values() for offset in offsets.values()):
        raise given["wait_for"].error("no offsets")
    return vector, wait_for
