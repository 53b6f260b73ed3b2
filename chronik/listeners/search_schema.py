"""The operations of the search listener: the one table that routes and the OpenAPI document are made from."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from chronik.analytics.messages import ColumnAnswer, Counts
from chronik.listeners.sql_calls import KINDS, SqlBody

_Object = dict[str, Any]


class ErrorAnswer(Struct, frozen=True):
    """A refusal, as Elasticsearch writes it. `error` has its type and reason, and where in the request it is."""

    error: _Object
    status: int


class Shards(Struct, frozen=True):
    """Partitions that were searched."""

    total: int
    successful: int
    skipped: int
    failed: int
    failures: list[_Object] = []


class Hits(Struct, frozen=True):
    """The hits that are shown. `total` is missing where it was not wanted."""

    hits: list[_Object]
    max_score: float | None
    total: int | _Object | None = None


class SearchAnswer(Struct, frozen=True):
    """What was found. `chronik` has the vector that repeats the search, and its costs."""

    took: int
    timed_out: bool
    _shards: Shards
    hits: Hits
    chronik: _Object
    aggregations: _Object = {}


class CountAnswer(Struct, frozen=True):
    """How many messages match."""

    count: int
    _shards: Shards
    chronik: _Object


class MultiSearchAnswer(Struct, frozen=True):
    """The answers of several searches, in their order; each with a status of its own."""

    took: int
    responses: list[_Object]


class ExplainAnswer(Struct, frozen=True):
    """What a search is pruned by, and what it cost."""

    took: int
    timed_out: bool
    _shards: Shards
    explanations: list[_Object]
    hits: _Object
    chronik: _Object


class FieldCapsAnswer(Struct, frozen=True):
    """Which fields there are; `chronik.sampled` says how many messages of which topic were looked at."""

    indices: list[str]
    fields: dict[str, _Object]
    chronik: _Object


class Acknowledged(Struct, frozen=True):
    """It is done."""

    acknowledged: bool


class SqlAnswer(Struct, frozen=True):
    """Rows, and what was read for them. `snapshot` has for each topic and partition the offsets that were read."""

    columns: list[ColumnAnswer]
    rows: list[list[Any]]
    row_count: int
    truncated: bool
    took: int
    statistics: Counts
    snapshot: _Object


class NewQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """A CREATE CONTINUOUS QUERY. Late records go to topic `late`, by default the name of the results with `-late` behind it."""

    query: str
    late: str | None = None


class Query(Struct, frozen=True):
    """A continuous query, and how it is doing. Counts are of records since it began; `watermark` is event time, in ms."""

    name: str
    query: str
    source: str
    into: str
    late: str
    state: str
    fault: str
    watermark: int | None
    counts: dict[str, int]
    offsets: dict[str, int]
    lag: int | None


class QueryList(Struct, frozen=True):
    """All continuous queries, by name."""

    queries: list[Query]


class QueryWindows(Struct, frozen=True):
    """Open windows of a query, as they are now, by start. `more`: some were left out."""

    windows: list[_Object]
    more: bool


class QueryExplained(Struct, frozen=True):
    """A window, recomputed from the log: null where HAVING leaves it out. `offsets` has the first 10,000 of its records."""

    window: _Object | None
    records: int
    offsets: dict[str, list[int]]


class SearchBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A search in Elasticsearch's JSON."""

    query: _Object | None = None
    size: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    skip: Annotated[int, Meta(ge=0, le=10_000)] | None = msgspec.field(name="from", default=None)
    source: bool | str | list[str] | _Object | None = msgspec.field(name="_source", default=None)
    sort: str | list[Any] | _Object | None = None
    track_scores: bool | None = None
    track_total_hits: bool | Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    timeout: str | None = None
    fields: list[Any] | None = None
    docvalue_fields: list[Any] | None = None
    search_after: list[Any] | None = None
    highlight: _Object | None = None
    aggs: _Object | None = None
    aggregations: _Object | None = None
    chronik: _Object | None = None


class CountBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A query whose hits are counted."""

    query: _Object | None = None


class FieldCapsBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Which fields are asked for."""

    fields: str | list[str] | None = None


class MappingBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Types of fields, by their names."""

    properties: dict[str, _Object]


class Operation(NamedTuple):
    """One operation. Its `name` is the method of SearchApi that serves it; paths are OpenAPI's, `{names}` for topics.

    Every method is one of the document; `parameters` are those of the URL that the document tells of.
    """

    methods: tuple[str, ...]
    path: str
    name: str
    summary: str
    answer: type[Struct] | None = None
    body: type[Struct] | None = None
    parameters: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()


_NAMES = ("ignore_unavailable", "allow_no_indices")
_SEARCH = (
    *_NAMES, "q", "df", "default_operator", "size", "from", "sort", "_source", "track_scores", "track_total_hits",
    "timeout", "rest_total_hits_as_int",
)  # fmt: skip
_GET, _BOTH = ("GET",), ("GET", "POST")
_RUN = (400, 404, 406, 408, 413, 415, 429, 503)
_LOOK = (400, 404, 406)
_QUERY = (400, 404, 406, 409, 413, 415, 501, 503)

OPERATIONS = (
    Operation(_GET, "/", "info", "What this is"),
    Operation(_GET, "/_cluster/health", "cluster_health", "Whether all partitions have a leader", None, None,
              ("wait_for_status", "timeout"), (400, 406)),
    Operation(_BOTH, "/_search", "search", "Search all topics", SearchAnswer, SearchBody, _SEARCH, _RUN),
    Operation(_BOTH, "/{names}/_search", "search", "Search topics", SearchAnswer, SearchBody, _SEARCH, _RUN),
    Operation(_BOTH, "/_count", "count", "Count in all topics", CountAnswer, CountBody, (*_NAMES, "q"), _RUN),
    Operation(_BOTH, "/{names}/_count", "count", "Count messages", CountAnswer, CountBody, (*_NAMES, "q"), _RUN),
    Operation(_BOTH, "/_msearch", "msearch", "Several searches", MultiSearchAnswer, None, (), _RUN),
    Operation(_BOTH, "/{names}/_msearch", "msearch", "Several searches", MultiSearchAnswer, None, (), _RUN),
    Operation(_BOTH, "/{names}/_explain", "explain", "What a search is pruned by, and costs", ExplainAnswer, SearchBody,
              _SEARCH, _RUN),
    Operation(_BOTH, "/_field_caps", "field_caps", "Fields of all topics", FieldCapsAnswer, FieldCapsBody,
              (*_NAMES, "fields"), _RUN),
    Operation(_BOTH, "/{names}/_field_caps", "field_caps", "Fields, of a mapping and a sample", FieldCapsAnswer,
              FieldCapsBody, (*_NAMES, "fields"), _RUN),
    Operation(_GET, "/_mapping", "get_mapping", "All mappings", None, None, _NAMES, _LOOK),
    Operation(_GET, "/{names}/_mapping", "get_mapping", "Mappings", None, None, _NAMES, _LOOK),
    Operation(("PUT", "POST"), "/{names}/_mapping", "put_mapping", "Add to mappings", Acknowledged, MappingBody, _NAMES,
              (400, 404, 406, 413, 415, 503)),
    Operation(_GET, "/_cat/indices", "cat_indices", "A list of all topics", None, None,
              (*_NAMES, "format", "v", "h", "s", "bytes"), _LOOK),
    Operation(_GET, "/_cat/indices/{names}", "cat_indices", "A list of topics", None, None,
              (*_NAMES, "format", "v", "h", "s", "bytes"), _LOOK),
    Operation(("POST",), "/v1/sql", "sql", "Run a SELECT over topics, DESCRIBE a topic, SHOW TOPICS", SqlAnswer, SqlBody, (),
              (*_RUN, 501)),
    Operation(_GET, "/v1/queries", "list_queries", "Continuous queries", QueryList, None, (), _QUERY),
    Operation(("POST",), "/v1/queries", "create_query", "Create a continuous query", Query, NewQuery, (), _QUERY),
    Operation(_GET, "/v1/queries/{names}", "get_query", "A continuous query", Query, None, (), _QUERY),
    Operation(("DELETE",), "/v1/queries/{names}", "drop_query", "Drop a query; its topics stay", Query, None, (), _QUERY),
    Operation(("POST",), "/v1/queries/{names}/pause", "pause_query", "Let a query rest", Query, None, (), _QUERY),
    Operation(("POST",), "/v1/queries/{names}/resume", "resume_query", "Let a query go on", Query, None, (), _QUERY),
    Operation(_GET, "/v1/queries/{names}/windows", "query_windows", "Its open windows", QueryWindows, None,
              ("key", "from", "to", "size"), _QUERY),
    Operation(_GET, "/v1/queries/{names}/explain", "explain_query", "The records of a window, and what they come to",
              QueryExplained, None, ("key", "start"), _QUERY),
    Operation(_GET, "/{names}", "index", "Topics, their mappings and settings", None, None, _NAMES, _LOOK),
)  # fmt: skip

_NAMES_SCHEMA = {"type": "string", "pattern": "^[a-zA-Z0-9.*-][a-zA-Z0-9._*-]{0,100}(,[a-zA-Z0-9._*-]{1,100}){0,9}$"}
_TYPES: dict[str, _Object] = {
    "size": {"type": "integer", "minimum": 0, "maximum": 10_000},
    "from": {"type": "integer", "minimum": 0, "maximum": 10_000},
    "default_operator": {"enum": ["and", "or", "AND", "OR"]},
    "format": {"enum": ["json", "text"]},
    "bytes": {"enum": ["b"]},
    "wait_for_status": {"enum": ["green", "yellow", "red"]},
    **{
        name: {"enum": ["true", "false", ""]}
        for name in ("ignore_unavailable", "allow_no_indices", "v", "rest_total_hits_as_int", "track_scores")
    },
}


def openapi_document(version: str) -> _Object:
    """The OpenAPI 3.1 document of `OPERATIONS`."""
    used: set[type[Struct]] = {ErrorAnswer}
    for op in OPERATIONS:
        used.update(struct for struct in (op.answer, op.body) if struct is not None)
    structs = sorted(used, key=lambda struct: struct.__name__)
    schemas, components = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(structs, schemas, strict=True))
    error = {"application/json": {"schema": schema_of[ErrorAnswer]}}
    paths: dict[str, dict[str, Any]] = {}
    for op in OPERATIONS:
        for method in op.methods:
            paths.setdefault(op.path, {})[method.lower()] = _item(op, method, schema_of, error)
    paths["/tail"] = {"get": _tail(error)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Chronik Stream search", "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }


def _tail(error: _Object) -> _Object:
    """The WebSocket of live tails, as far as OpenAPI has words for one."""
    refused = {"description": "Refused", "content": error}
    return {
        "operationId": "tail",
        "summary": "A WebSocket that sends what matches a query, as it is committed: see docs/tail.md",
        "parameters": [
            {"name": name, "in": "query", "schema": {"type": "string"}} for name in ("topic", "query", "from")
        ],
        "responses": {"101": {"description": "The WebSocket is open"}, "403": refused, "426": refused},
    }


def _item(op: Operation, method: str, schema_of: dict[type[Struct], _Object], error: _Object) -> _Object:
    answer: _Object = {"schema": {"type": "object"} if op.answer is None else schema_of[op.answer]}
    kinds = {"application/json": answer}
    if op.name == "cat_indices":
        kinds = {"application/json": {"schema": {"type": "array"}}, "text/plain": {"schema": {"type": "string"}}}
    if op.name == "sql":
        kinds = {"application/json": answer}
        kinds |= {
            kind.partition(";")[0]: {"schema": {"type": "string"}} for form, kind in KINDS.items() if form != "json"
        }
    responses: _Object = {"200": {"description": op.summary, "content": kinds}}
    for status in (*op.statuses, 403):
        responses[str(status)] = {"description": "Refused", "content": error}
    whole = "{names}" in op.path
    item: _Object = {
        "operationId": f"{op.name}_{'topics' if whole else 'all'}_{method.lower()}",
        "summary": op.summary,
        "responses": responses,
    }
    parameters: list[_Object] = [{"name": "names", "in": "path", "required": True, "schema": _NAMES_SCHEMA}] * whole
    parameters += [
        {"name": name, "in": "query", "schema": _TYPES.get(name, {"type": "string"})} for name in op.parameters
    ]
    if parameters:
        item["parameters"] = parameters
    if op.body is not None:
        item["requestBody"] = {
            "required": method == "PUT" or op.name in ("sql", "create_query"),
            "content": {"application/json": {"schema": schema_of[op.body]}},
        }
    elif op.name == "msearch":
        item["requestBody"] = {"required": True, "content": {"application/x-ndjson": {"schema": {"type": "string"}}}}
    return item
