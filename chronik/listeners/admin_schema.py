"""What the REST API takes and gives, and its operations: the one table that routes and the OpenAPI document are made from."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

_PartitionCount = Annotated[int, Meta(ge=1, le=10_000, description="How many; unset: the node's num.partitions.")]
_ReplicaCount = Annotated[
    int, Meta(ge=1, le=32_767, description="How many; unset: the node's default.replication.factor.")
]


class Listener(Struct, frozen=True):
    """One listener and the address that it is bound to."""

    name: str
    host: str
    port: int


class Health(Struct, frozen=True):
    """How the node is. `ready` is false while it starts and stops."""

    live: bool
    ready: bool
    node_id: int
    cluster_id: str
    version: str
    role: str
    listeners: list[Listener]
    uptime_seconds: float


class TopicSummary(Struct, frozen=True):
    """A topic in a list."""

    name: str
    topic_id: str
    internal: bool
    partitions: int
    replication_factor: int


class TopicList(Struct, frozen=True):
    """Topics by name. `next` is the `after` of the following page, null on the last one."""

    topics: list[TopicSummary]
    next: str | None


class Partition(Struct, frozen=True):
    """One partition; offsets and size in bytes are null where this node does not hold it."""

    partition: int
    leader: int
    leader_epoch: int
    replicas: list[int]
    isr: list[int]
    log_start_offset: int | None
    high_watermark: int | None
    size_bytes: int | None


class TopicDetail(Struct, frozen=True):
    """A topic with its partitions and the configs that it overrides."""

    name: str
    topic_id: str
    internal: bool
    configs: dict[str, str]
    partitions: list[Partition]


class NewTopic(Struct, frozen=True, forbid_unknown_fields=True):
    """A topic to create."""

    name: Annotated[str, Meta(min_length=1, max_length=249, pattern="^[a-zA-Z0-9._-]+$")]
    partitions: _PartitionCount | None = None
    replication_factor: _ReplicaCount | None = None
    configs: dict[str, str] = {}


class TopicChange(Struct, frozen=True, forbid_unknown_fields=True):
    """Configs to override, by name; null gives one back to its default. The others stay."""

    configs: dict[str, str | None]


class GroupSummary(Struct, frozen=True):
    """A group in a list."""

    group_id: str
    state: str
    type: str
    protocol_type: str


class GroupList(Struct, frozen=True):
    """The groups that this node coordinates, by id. `next` is the `after` of the following page, null on the last one."""

    groups: list[GroupSummary]
    next: str | None


class GroupMember(Struct, frozen=True):
    """A member of a group."""

    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str


class GroupOffset(Struct, frozen=True):
    """A committed offset. `lag` counts from it to the high watermark; null where this node does not hold the partition."""

    topic: str
    partition: int
    committed_offset: int
    high_watermark: int | None
    lag: int | None
    metadata: str | None


class GroupDetail(Struct, frozen=True):
    """A group with its members and committed offsets."""

    group_id: str
    state: str
    protocol_type: str
    protocol: str
    members: list[GroupMember]
    offsets: list[GroupOffset]


class NewSearch(Struct, frozen=True, forbid_unknown_fields=True):
    """A search to save: the records of topic `source` that match `query`, as a topic of that name.

    `mapping` says how the query reads the fields of `source`, as Elasticsearch has it: {"properties": {...}}. Without one, the
    source's is taken as it is now; the search keeps it.
    """

    name: Annotated[str, Meta(min_length=1, max_length=249, pattern="^[a-zA-Z0-9._-]+$")]
    source: Annotated[str, Meta(min_length=1, max_length=249)]
    query: Annotated[str, Meta(min_length=1, max_length=16_384)]
    mapping: dict[str, Any] | None = None


class SavedSearch(Struct, frozen=True):
    """A saved search, which is a topic that can only be read."""

    name: str
    topic_id: str
    source: str
    query: str
    mapping: dict[str, Any] | None
    partitions: int


class SearchList(Struct, frozen=True):
    """Saved searches by name. `next` is the `after` of the following page, null on the last one."""

    searches: list[SavedSearch]
    next: str | None


class IndexedPartition(Struct, frozen=True):
    """How far the index of a partition has come: offsets up to which records are signed, and in blocks that can be left out.

    `undecodable` batches were passed over; `damage` says why indexing has ended, where the log is damaged.
    """

    partition: int
    log_start_offset: int
    end_offset: int
    signed_to: int
    indexed_to: int
    blocks: int
    undecodable: int
    damage: str | None


class SearchIndex(Struct, frozen=True):
    """The index of a topic. Partitions without a record have none. `done`: all that there was when it was asked is signed."""

    topic: str
    done: bool
    partitions: list[IndexedPartition]


_Over = Annotated[int, Meta(ge=0, le=2**53, description="It tells of windows with more matches than this.")]
_PerMs = Annotated[int, Meta(ge=1000, le=31 * 86_400_000, description="How long a window is.")]


class NewAlert(Struct, frozen=True, forbid_unknown_fields=True):
    """An alert to save: more than `over` records of the saved search in a window of `per_ms` are told in topic `to`."""

    name: Annotated[str, Meta(min_length=1, max_length=249, pattern="^[a-zA-Z0-9._-]+$")]
    search: Annotated[str, Meta(min_length=1, max_length=249)]
    over: _Over
    per_ms: _PerMs
    to: Annotated[str, Meta(min_length=1, max_length=249)]


class Alert(Struct, frozen=True):
    """An alert. Its state is the group `chronik-alert-<name>`, whose lag says how far it has come."""

    name: str
    search: str
    over: int
    per_ms: int
    to: str


class AlertList(Struct, frozen=True):
    """Alerts by name. `next` is the `after` of the following page, null on the last one."""

    alerts: list[Alert]
    next: str | None


class NewDryRun(Struct, frozen=True, forbid_unknown_fields=True):
    """An alert to try on the past: on windows that begin from `from_ms` on and before `to_ms`, ms since 1970."""

    search: Annotated[str, Meta(min_length=1, max_length=249)]
    over: _Over
    per_ms: _PerMs
    from_ms: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    to_ms: Annotated[int, Meta(ge=0, le=2**53)] | None = None


class Window(Struct, frozen=True):
    """A window of time, in ms since 1970, and how many records match in it."""

    start: int
    end: int
    count: int


class DryRun(Struct, frozen=True):
    """What an alert would have told: the first 10,000 windows, and of how many it would have told.

    `complete` is false where time ran out; then all below the offsets in `reached`, by partition, was counted.
    """

    windows: list[Window]
    total: int
    matches: int
    complete: bool
    reached: dict[str, int]


class Problem(Struct, frozen=True):
    """A refusal (RFC 9457). `code` is Kafka's name of the error, where it has one."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    code: str | None = None


class Operation(NamedTuple):
    """One operation. Its `name` is the method of AdminApi that serves it; paths are OpenAPI's, `{name}` for a parameter."""

    method: str
    path: str
    name: str
    summary: str
    answer: type[Struct] | None
    status: int = 200
    body: type[Struct] | None = None
    problems: tuple[int, ...] = ()
    paged: bool = False


_TOPIC, _GROUP, _SEARCH = "/v1/topics/{name}", "/v1/groups/{group_id}", "/v1/searches/{name}"
_ALERT, _INDEX = "/v1/alerts/{name}", "/v1/topics/{name}/index"

OPERATIONS = (
    Operation("GET", "/v1/health", "health", "Whether the node lives and serves", Health, problems=(503,)),
    Operation("GET", "/v1/topics", "list_topics", "All topics", TopicList, paged=True, problems=(400,)),
    Operation(
        "POST", "/v1/topics", "create_topic", "Create a topic", TopicDetail, 201, NewTopic, (400, 409, 413, 415, 503, 504)
    ),
    Operation("GET", _TOPIC, "get_topic", "One topic", TopicDetail, problems=(404,)),
    Operation(
        "PATCH", _TOPIC, "change_topic", "Change configs of a topic", TopicDetail, 200, TopicChange,
        (400, 404, 413, 415, 503, 504),
    ),
    Operation("DELETE", _TOPIC, "delete_topic", "Delete a topic and its data", None, 204, None, (400, 404, 503, 504)),
    Operation("GET", _INDEX, "get_index", "How far the search index of a topic is", SearchIndex, problems=(400, 404, 503, 504)),
    Operation(
        "POST", _INDEX + "/rebuild", "rebuild_index", "Make the search index of a topic anew", SearchIndex, 202, None,
        (400, 404, 503, 504),
    ),
    Operation("GET", "/v1/searches", "list_searches", "All saved searches", SearchList, paged=True, problems=(400,)),
    Operation(
        "POST", "/v1/searches", "save_search", "Save a search as a topic", SavedSearch, 201, NewSearch,
        (400, 404, 409, 413, 415, 503, 504),
    ),
    Operation("GET", _SEARCH, "get_search", "One saved search", SavedSearch, problems=(404,)),
    Operation("DELETE", _SEARCH, "delete_search", "Delete a saved search", None, 204, None, (400, 404, 503, 504)),
    Operation("GET", "/v1/alerts", "list_alerts", "All alerts", AlertList, paged=True, problems=(400,)),
    Operation(
        "POST", "/v1/alerts", "save_alert", "Save an alert over a saved search", Alert, 201, NewAlert,
        (400, 404, 409, 413, 415, 503, 504),
    ),
    Operation(
        "POST", "/v1/alert-dry-runs", "dry_run_alert", "What an alert would have said over the past", DryRun, 200, NewDryRun,
        (400, 404, 413, 415, 500, 503),
    ),
    Operation("GET", _ALERT, "get_alert", "One alert", Alert, problems=(404,)),
    Operation("DELETE", _ALERT, "delete_alert", "Delete an alert", None, 204, None, (400, 404, 503, 504)),
    Operation("GET", "/v1/groups", "list_groups", "All groups", GroupList, paged=True, problems=(400, 503)),
    Operation("GET", _GROUP, "get_group", "One group, its members and lag", GroupDetail, problems=(400, 404, 503)),
    Operation("DELETE", _GROUP, "delete_group", "Delete an empty group", None, 204, None, (400, 404, 409, 503)),
)  # fmt: skip

_PAGE = [
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1000}},
    {"name": "after", "in": "query", "schema": {"type": "string"}, "description": "Begin behind this one."},
]


def openapi_document(version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of `OPERATIONS`."""
    used: set[type[Struct]] = {Problem}
    for op in OPERATIONS:
        used.update(struct for struct in (op.answer, op.body) if struct is not None)
    structs = sorted(used, key=lambda struct: struct.__name__)
    schemas, components = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(structs, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for op in OPERATIONS:
        parameters = [
            {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for part in op.path.split("/")
            if part.startswith("{")
        ]
        responses: dict[str, Any] = {str(op.status): {"description": op.summary}}
        if op.answer is not None:
            responses[str(op.status)]["content"] = {"application/json": {"schema": schema_of[op.answer]}}
        for status in (*op.problems, 403):
            content = {"application/problem+json": {"schema": schema_of[Problem]}}
            if op.name == "health" and status == 503:
                content = {"application/json": {"schema": schema_of[Health]}}
            responses[str(status)] = {"description": "Refused" if status != 503 else "Not now", "content": content}
        item: dict[str, Any] = {"operationId": op.name, "summary": op.summary, "responses": responses}
        if parameters or op.paged:
            item["parameters"] = parameters + (_PAGE if op.paged else [])
        if op.body is not None:
            item["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema_of[op.body]}}}
        paths.setdefault(op.path, {})[op.method.lower()] = item
    return {
        "openapi": "3.1.0",
        "info": {"title": "Chronik Stream administration", "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }
