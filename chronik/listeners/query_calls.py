"""Continuous queries by HTTP: created, listed, paused, dropped, and looked at."""

from __future__ import annotations

from typing import Any

import msgspec

from chronik.analytics.runner import QueryFailed, QueryRunner
from chronik.controller.commands import CreateTopics, DropQuery, NewTopic, PauseQuery, SaveQuery
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata, IController
from chronik.listeners import search_schema as schema
from chronik.listeners.http import Refusal
from chronik.model import ContinuousQuery, Topic, topic_name_fault

MAX_WINDOWS = 10_000
_LATE_SUFFIX = "-late"
_EARLIEST, _LATEST = -(2**63), 2**63 - 1
_NOTHING_SERVED = (
    "continuous queries are not run by this node: query_workers is 0, or its data is in memory, where no other process can"
    " read it"
)


class QueryCalls:
    """Carries out what the search listener is asked about queries."""

    def __init__(self, runner: QueryRunner | None, metadata: IClusterMetadata, controller: IController) -> None:
        self._runner = runner
        self._metadata = metadata
        self._controller = controller

    def all(self) -> schema.QueryList:
        """All queries."""
        return schema.QueryList([self._detail(query) for query in self._metadata.queries()])

    def get(self, name: str) -> schema.Query:
        """One. Raises Refusal."""
        return self._detail(self._query(name))

    async def create(self, content: bytes) -> schema.Query:
        """Create a query, and the topics that it writes to where they are missing. Raises Refusal, KafkaError."""
        runner = self._expect_runner()
        try:
            body = msgspec.json.decode(content, type=schema.NewQuery)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
            raise Refusal(400, f"the body is no query: {problem}", "parsing_exception") from None
        try:
            names = await runner.names(body.query)
            source = self._topic(names.source)
            checked = await runner.check(body.query, source)
        except QueryFailed as problem:
            raise Refusal(400, str(problem), "parsing_exception") from None
        late = body.late or names.into + _LATE_SUFFIX
        if any(query.name == names.name for query in self._metadata.queries()):
            raise Refusal(409, f"query {names.name!r} already exists", "resource_already_exists_exception")
        compact = (("cleanup.policy", "compact"),) if checked.windowed else ()
        for topic, configs in ((names.into, compact), (late, ())):
            await self._ensure(topic, len(source.partitions), configs)
        query = await self._decide(SaveQuery(names.name, body.query, checked.columns, source.name, names.into, late))
        runner.look()
        return self._detail(query)

    async def _ensure(self, name: str, partitions: int, configs: tuple[tuple[str, str], ...]) -> None:
        """Have the topic, created if it isn't there."""
        if self._metadata.topic(name) is not None:
            return
        fault = topic_name_fault(name)
        if fault is not None:
            raise Refusal(400, f"topic {name[:249]!r} cannot be created: {fault}")
        (creation,) = await self._decide(CreateTopics((NewTopic(name, partitions, configs=configs),)))
        if creation.error is not None:
            raise creation.error

    async def drop(self, name: str) -> schema.Query:
        """Drop a query. Raises Refusal."""
        detail = self._detail(self._query(name))
        await self._decide(DropQuery(name))
        if self._runner is not None:
            self._runner.look()
        return detail

    async def pause(self, name: str, paused: bool) -> schema.Query:
        """Let a query rest, or go on. Raises Refusal."""
        self._query(name)
        query = await self._decide(PauseQuery(name, paused))
        if self._runner is not None:
            self._runner.look()
        return self._detail(query)

    async def windows(self, name: str, parameters: dict[str, str]) -> list[bytes]:
        """The open windows of a query: of one key or of all, that begin from one time to another. Raises Refusal."""
        runner, query = self._expect_runner(), self._query(name)
        first, last = _number(parameters, "from", _EARLIEST), _number(parameters, "to", _LATEST)
        most = _number(parameters, "size", 1000)
        if not 0 <= most <= MAX_WINDOWS:
            raise Refusal(400, f"size is 0 to {MAX_WINDOWS}")
        key = parameters.get("key")
        if key is not None:
            _check_key(key)
        try:
            found = await runner.look_up(query, key, first, last, most)
        except QueryFailed as problem:
            raise Refusal(503, str(problem)) from None
        return [b'{"windows":', found.windows, b',"more":' + (b"true}" if found.more else b"false}")]

    async def _decide(self, command: object) -> Any:
        return await self._controller.propose(command)

    async def explain(self, name: str, parameters: dict[str, str]) -> schema.QueryExplained:
        """The records that are in a window, and what they come to. Raises Refusal, KafkaError."""
        runner, query = self._expect_runner(), self._query(name)
        key, start = parameters.get("key", "[]"), parameters.get("start")
        if start is None:
            raise Refusal(400, "start is missing: the window_start of the window")
        _check_key(key)
        try:
            found = await runner.explain(query, key, _number(parameters, "start", 0))
        except QueryFailed as problem:
            raise Refusal(400, str(problem)) from None
        if found.unknown:
            raise Refusal(404, "no records are in such a window, as far as the log still has them")
        offsets = {str(partition): numbers for partition, numbers in found.offsets.items()}
        return schema.QueryExplained(msgspec.json.decode(found.recomputed), found.records, offsets)

    def _expect_runner(self) -> QueryRunner:
        if self._runner is None:
            raise Refusal(501, _NOTHING_SERVED, "not_served")
        return self._runner

    def _query(self, name: str) -> ContinuousQuery:
        for query in self._metadata.queries():
            if query.name == name:
                return query
        raise Refusal(404, f"there is no query {name[:249]!r}")

    def _topic(self, name: str) -> Topic:
        topic = self._metadata.topic(name)
        if topic is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name[:249]!r} to read")
        if topic.search is not None or topic.internal:
            raise Refusal(
                400, f"{name} is a saved search or the node's own: a continuous query reads a topic with a log"
            )
        return topic

    def _detail(self, query: ContinuousQuery) -> schema.Query:
        source, into, late = (
            self._metadata.topic_by_id(topic_id) for topic_id in (query.source_id, query.into_id, query.late_id)
        )
        assert source is not None and into is not None and late is not None  # they can't be deleted while this is there
        status = None if self._runner is None else self._runner.status(query)
        return schema.Query(
            query.name,
            query.text,
            source.name,
            into.name,
            late.name,
            ("paused" if query.paused else "not run here") if status is None else status.state,
            "" if status is None else status.fault,
            None if status is None else status.watermark,
            {} if status is None else status.counts,
            {} if status is None else {str(partition): offset for partition, offset in status.offsets.items()},
            None if self._runner is None else self._runner.lag(query),
        )


def _check_key(key: str) -> None:
    try:
        msgspec.json.decode(key, type=list[Any])
    except msgspec.MsgspecError:
        raise Refusal(400, 'key is a JSON array with the values of the GROUP BY, such as ["/index.html"]') from None


def _number(parameters: dict[str, str], name: str, otherwise: int) -> int:
    text = parameters.get(name)
    if text is None:
        return otherwise
    try:
        return int(text)
    except ValueError:
        raise Refusal(400, f"{name} is a whole number, not {text[:80]!r}") from None
