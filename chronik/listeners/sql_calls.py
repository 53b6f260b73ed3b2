"""SQL on its way from an HTTP request to its answer: which topics, within which limits, and how all that is found is said.

`DESCRIBE topic` and `SHOW TOPICS` are understood here; all else goes to the processes that run SQL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct
from twisted.internet.interfaces import IReactorTime

from chronik.analytics.messages import Form, Limits, SqlFault, Told
from chronik.analytics.service import Answer, SqlService
from chronik.interfaces import IClusterMetadata
from chronik.listeners.http import Refusal
from chronik.listeners.search_catalog import Catalog
from chronik.model import INTERNAL_TOPICS, Topic

Wanted = Literal["json", "csv", "arrow", "ndjson"]
KINDS: dict[str, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=UTF-8; header=present",
    "arrow": "application/vnd.apache.arrow.stream",
    "ndjson": "application/x-ndjson",
}
"""The content types of answers, by the names of forms."""
SUMMARY = "chronik-sql"
"""The header that has what JSON has beside the rows, in the forms that have rows only."""
_MAX_SUMMARY = 4000
_MAX_PARTITIONS_TOLD = 200
_SHOW = re.compile(r"\s*SHOW\s+TOPICS\s*;?\s*", re.IGNORECASE)
_DESCRIBE = re.compile(r'\s*DESC(?:RIBE)?\s+(?:"([^"]+)"|([a-zA-Z0-9_][a-zA-Z0-9._-]*))\s*;?\s*', re.IGNORECASE)
_NOTHING_SERVED = (
    "SQL is not served by this node: sql_workers is 0, or its data is in memory, where no other process can read it"
)


class SqlBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A statement. Limits are at most those of the node's options, and these where they are left out."""

    query: str
    format: Wanted | None = None
    max_rows: Annotated[int, Meta(ge=1)] | None = None
    timeout_ms: Annotated[int, Meta(ge=1)] | None = None
    memory_bytes: Annotated[int, Meta(ge=32 << 20)] | None = None
    threads: Annotated[int, Meta(ge=1)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlParts:
    """Whom SQL asks. `sql` is None where it isn't served; `limits` are the greatest."""

    sql: SqlService | None
    metadata: IClusterMetadata
    catalog: Catalog
    clock: IReactorTime
    limits: Limits


class Written(NamedTuple):
    """An answer as it is sent: its pieces, and the header that goes with those that are rows only."""

    pieces: list[bytes]
    summary: str


class SqlCalls:
    """Carries out what the listener is asked in SQL."""

    def __init__(self, parts: SqlParts) -> None:
        self._parts = parts

    def body(self, content: bytes) -> SqlBody:
        """The request. Raises Refusal."""
        if not content.strip():
            raise Refusal(400, 'the body is missing: {"query": "SELECT ..."}')
        try:
            return msgspec.json.decode(content, type=SqlBody)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
            raise Refusal(400, f"the body is no statement: {problem}", "parsing_exception") from None

    async def answer(
        self, body: SqlBody, form: Wanted, progress: Callable[[Told], object] = lambda told: None
    ) -> Written:
        """Carry out a statement. Raises Refusal, KafkaError."""
        if self._parts.sql is None:
            raise Refusal(501, _NOTHING_SERVED, "not_served")
        began = self._parts.clock.seconds()
        rows_as: Form = "json" if form == "ndjson" else form
        try:
            answer = await self._carried_out(self._parts.sql, body, rows_as, progress)
        except SqlFault as problem:
            fault = problem.fault
            raise Refusal(fault.status, fault.reason, fault.code) from None
        took = round((self._parts.clock.seconds() - began) * 1000)
        return _written(answer, rows_as, took)

    async def _carried_out(
        self, sql: SqlService, body: SqlBody, form: Form, progress: Callable[[Told], object]
    ) -> Answer:
        limits = self._limits(body)
        if _SHOW.fullmatch(body.query):
            return await self._show_topics(sql, form)
        if described := _DESCRIBE.fullmatch(body.query):
            return await sql.describe(self._topic(described[1] or described[2]), limits, form)
        planned = await sql.plan(body.query)
        topics = [self._topic(name) for name in planned.topics]
        topics += [topic for name in planned.perhaps if (topic := self._found(name)) is not None]
        return await sql.run(body.query, topics, limits, form, progress)

    def _limits(self, body: SqlBody) -> Limits:
        """The limits of a request, none of them above the node's. Raises Refusal."""
        most = self._parts.limits
        for name, given, allowed, option in (
            ("max_rows", body.max_rows, most.rows, "sql_max_rows"),
            ("timeout_ms", body.timeout_ms, round(most.seconds * 1000), "sql_timeout_ms"),
            ("memory_bytes", body.memory_bytes, most.memory_bytes, "sql_memory_bytes"),
            ("threads", body.threads, most.threads, "sql_threads"),
        ):
            if given is not None and given > allowed:
                raise Refusal(400, f"{name} is at most {allowed} here ({option})")
        return Limits(
            rows=body.max_rows or most.rows,
            seconds=most.seconds if body.timeout_ms is None else body.timeout_ms / 1000,
            memory_bytes=body.memory_bytes or most.memory_bytes,
            threads=body.threads or most.threads,
        )

    def _found(self, name: str) -> Topic | None:
        """The users' topic of this name, that has a log."""
        topic = self._parts.metadata.topic(name)
        return None if topic is None or topic.name in INTERNAL_TOPICS or topic.search is not None else topic

    def _topic(self, name: str) -> Topic:
        """The topic of this name. Raises SqlFault."""
        topic = self._found(name)
        if topic is not None:
            return topic
        known = self._parts.metadata.topic(name)
        if known is not None and known.search is not None:
            raise SqlFault("unknown_topic", f"{name} is a saved search: query the topic that it is a view of", 404)
        raise SqlFault(
            "unknown_topic", f"no topic {name[:249]!r}; SHOW TOPICS lists them. Names are case-sensitive", 404
        )

    async def _show_topics(self, sql: SqlService, form: Form) -> Answer:
        topics = [
            topic
            for topic in self._parts.metadata.topics()
            if topic.name not in INTERNAL_TOPICS and topic.search is None
        ]
        rows: list[tuple[str | int | None, ...]] = [
            (row["index"], int(row["pri"] or 0), int(row["docs.count"] or 0), int(row["store.size"] or 0))
            for row in await self._parts.catalog.rows(topics)
        ]
        return await sql.show(("topic", "partitions", "offsets", "bytes"), rows, form)


def _written(answer: Answer, form: Form, took: int) -> Written:
    """The answer as it is sent."""
    ran = answer.ran
    about: dict[str, Any] = {
        "row_count": ran.rows,
        "truncated": ran.truncated,
        "took": took,
        "statistics": ran.counts,
        "snapshot": {
            topic: {str(partition): list(offsets) for partition, offsets in partitions.items()}
            for topic, partitions in answer.snapshot.items()
        },
    }
    if form == "json":
        head, tail = msgspec.json.encode({"columns": ran.columns}), msgspec.json.encode(about)
        return Written([head[:-1], b',"rows":[', *answer.pieces, b"],", tail[1:]], "")
    return Written(answer.pieces, _summary(about, sum(map(len, answer.snapshot.values()))))


def _summary(about: dict[str, Any], partitions: int) -> str:
    """What is about the rows, in ASCII, as much of it as a header may have."""
    if partitions > _MAX_PARTITIONS_TOLD:
        about = {name: value for name, value in about.items() if name != "snapshot"}
    whole: dict[str, Any] = msgspec.to_builtins(about)
    for left_out in ((), ("snapshot",), ("snapshot", "statistics")):
        text = json.dumps({name: value for name, value in whole.items() if name not in left_out}, separators=(",", ":"))
        if len(text) <= _MAX_SUMMARY:
            break
    return text


def form_of(body: SqlBody, accept: str) -> Wanted:
    """The form of the answer: the one that the body names, else the first that the caller accepts. Raises Refusal."""
    if body.format is not None:
        return body.format
    wanted = [each.partition(";")[0].strip() for each in accept.lower().split(",")]
    forms: Sequence[tuple[Wanted, tuple[str, ...]]] = (
        ("json", ("", "*/*", "application/*", "application/json")),
        ("csv", ("text/csv", "text/*")),
        ("arrow", ("application/vnd.apache.arrow.stream",)),
        ("ndjson", ("application/x-ndjson",)),
    )
    for each in wanted:
        for form, kinds in forms:
            if each in kinds:
                return form
    raise Refusal(406, f"Accept header [{accept[:80]}] is not supported; answers are {', '.join(KINDS.values())}")
