"""The search listener: messages are searched by HTTP, in the words of Elasticsearch, where topics are indices.

Routes are made from `OPERATIONS`, so the document at `/v1/openapi.json` cannot drift from what is served. Every operation gets
a `Call`; refusals are raised, and become Elasticsearch's error documents at the one error wall. The searches themselves are in
`chronik.listeners.search_calls`, what is known of topics in `search_catalog`.

The paths `v1`, `tail` and all that begin with an underscore are taken: a topic of such a name is searched by a pattern, such
as `*schemas`.

Importing this module imports Klein, which installs the reactor: import it late.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from klein import Klein
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Site
from werkzeug.exceptions import MethodNotAllowed, NotFound

import chronik
from chronik.analytics.messages import Limits
from chronik.analytics.runner import QueryRunner
from chronik.analytics.service import SqlService
from chronik.errors import ChronikError, KafkaError
from chronik.interfaces import IClusterMetadata, ICommittedReader, IController
from chronik.listeners import search_schema as schema
from chronik.listeners.http import QuietSite, Refusal, check_caller, send_answer
from chronik.listeners.query_calls import QueryCalls
from chronik.listeners.search_calls import NAME_PARAMETERS, Searches, SearchParts, has_splits
from chronik.listeners.search_catalog import COLUMNS, SPLIT_COLUMNS, Catalog, shown_size, table
from chronik.listeners.search_field_caps import field_caps
from chronik.listeners.search_http import (
    JSON,
    Call,
    SearchHttpRequest,
    answer_type,
    content_of,
    error_document,
    indented,
    parameters_of,
    refusal_of,
    set_product,
    switch,
    write_error,
)
from chronik.listeners.search_multiple import multiple
from chronik.listeners.sql import route_sql
from chronik.listeners.sql_calls import SqlParts
from chronik.model import TopicPartition
from chronik.search.names import RESERVED, NamesError

_AT_A_TIME = 5
"""Searches of one `_msearch`."""
_TEXT = "text/plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchServices:
    """Whom the search listener asks. `sizes` tells bytes on disk by partition; `sql` is None where it isn't served."""

    parts: SearchParts
    metadata: IClusterMetadata
    controller: IController
    reader: ICommittedReader
    sizes: Callable[[], Iterable[tuple[TopicPartition, int]]]
    clock: IReactorTime
    node_id: int
    loopback: bool
    tail: Any
    """The resource of live tails."""
    sql: SqlService | None
    sql_limits: Limits
    queries: QueryRunner | None


def make_search_site(services: SearchServices) -> Site:
    """The HTTP factory of the search listener."""
    return QuietSite(SearchApi(services).app.resource(), requestFactory=SearchHttpRequest, reactor=services.clock)


class SearchApi:
    """The operations, each a method named as in `OPERATIONS`. They return a value to be written as JSON, or pieces of it."""

    log = Logger()

    def __init__(self, services: SearchServices) -> None:
        self._clock = services.clock
        self._loopback = services.loopback
        self._searches = Searches(services.parts)
        self._catalog = Catalog(
            services.metadata,
            services.controller,
            services.reader,
            services.sizes,
            services.clock,
            services.node_id,
        )
        self._queries = QueryCalls(services.queries, services.metadata, services.controller)
        self.app = Klein()
        for operation in schema.OPERATIONS:
            if operation.name != "sql":  # it has answers of several kinds: see `route_sql`
                self._route(operation)
        self._serve("/v1/openapi.json", ("GET",), "openapi", self.openapi)
        self.app.route("/tail", methods=["GET"], endpoint="tail")(lambda request: services.tail)
        sql = SqlParts(
            sql=services.sql,
            metadata=services.metadata,
            catalog=self._catalog,
            clock=services.clock,
            limits=services.sql_limits,
        )
        route_sql(self.app, sql, services.loopback)
        self.app.handle_errors(NotFound)(self._not_found)
        self.app.handle_errors(MethodNotAllowed)(self._method_not_allowed)
        self.app.handle_errors(Refusal)(lambda request, failure: write_error(request, failure.value))
        self.app.handle_errors(NamesError, ChronikError, KafkaError)(
            lambda request, failure: write_error(request, refusal_of(failure.value))
        )
        self.app.handle_errors(Exception)(self._defect)

    # -- searching ----------------------------------------------------------------------------------------------------

    async def search(self, call: Call) -> list[bytes]:
        """Search."""
        return await self._searches.search(call)

    async def count(self, call: Call) -> list[bytes]:
        """Count."""
        return await self._searches.count(call)

    async def explain(self, call: Call) -> list[bytes]:
        """Search, and say what was pruned and what it cost."""
        return await self._searches.explain(call)

    async def msearch(self, call: Call) -> list[bytes]:
        """Several searches, some at a time. What is wrong with one is in its place in the answer."""
        began = self._clock.seconds()
        turns = DeferredSemaphore(_AT_A_TIME)

        def one(each: Call | Refusal) -> Deferred[list[bytes]]:
            return Deferred.fromCoroutine(self._one_of_many(each))

        answers = await gatherResults([turns.run(one, each) for each in multiple(call)], consumeErrors=True)
        took = round((self._clock.seconds() - began) * 1000)
        pieces = [b'{"took":%d,"responses":[' % took]
        for number, answer in enumerate(answers):
            if number:
                pieces.append(b",")
            pieces += answer
        pieces.append(b"]}")
        return pieces

    async def _one_of_many(self, call: Call | Refusal) -> list[bytes]:
        try:
            if isinstance(call, Refusal):
                raise call
            pieces = await self._searches.search(call)
        except Refusal as refusal:
            return [msgspec.json.encode(error_document(refusal))]
        except (NamesError, ChronikError, KafkaError) as error:
            return [msgspec.json.encode(error_document(refusal_of(error)))]
        return [*pieces[:-1], b',"status":200}']

    async def field_caps(self, call: Call) -> Any:
        """Which fields there are."""
        return await field_caps(self._searches, call, self._clock)

    # -- topics -------------------------------------------------------------------------------------------------------

    async def info(self, call: Call) -> Any:
        """What this is."""
        _expect_no_more(call, ())
        return self._catalog.info()

    async def cluster_health(self, call: Call) -> Any:
        """How the cluster is, now: it is as well as it gets."""
        rest = _expect_no_more(call, ("wait_for_status", "timeout", "level"))
        if rest.get("wait_for_status", "red") not in ("green", "yellow", "red"):
            raise Refusal(400, "wait_for_status is green, yellow or red")
        if rest.get("level", "cluster") != "cluster":
            raise Refusal(400, "level is cluster: see _cat/indices for topics")
        return self._catalog.health()

    async def index(self, call: Call) -> Any:
        """Topics with mappings and settings."""
        return self._catalog.described(await self._named(call))

    async def get_mapping(self, call: Call) -> Any:
        """The mappings of topics."""
        return self._catalog.mappings(await self._named(call))

    async def put_mapping(self, call: Call) -> Any:
        """Add to the mappings of topics."""
        await self._catalog.extend_mappings(await self._named(call), call.content)
        return schema.Acknowledged(True)

    async def cat_indices(self, call: Call) -> Any:
        """A row for each topic."""
        about_names, rest = call.split(*NAME_PARAMETERS)
        rest = _expect_no_more(call._replace(parameters=rest), ("format", "v", "h", "s", "bytes"))
        columns = rest["h"].split(",") if "h" in rest else list(COLUMNS)
        order = rest.get("s", "index")
        by, _, direction = order.partition(":")
        if rest.get("format", "text") not in ("text", "json"):
            raise Refusal(400, "format is json or text")
        if rest.get("bytes", "b") != "b":
            raise Refusal(400, "bytes is b: sizes in plain bytes")
        if direction not in ("", "asc", "desc"):
            raise Refusal(400, f"s is a column, with :desc for the greatest first, not {order[:80]!r}")
        every = (*COLUMNS, *SPLIT_COLUMNS)
        for name in (*columns, by):
            if name not in every:
                raise Refusal(400, f"there is no column {name[:80]!r}: {', '.join(every)}")
        topics = await self._searches.topics(call.names, about_names)
        about_splits = any(name in SPLIT_COLUMNS for name in (*columns, by))
        states = await self._searches.states([each for each in topics if has_splits(each)]) if about_splits else []
        rows = await self._catalog.rows(topics, states)
        rows.sort(key=lambda row: _sortable(row[by]), reverse=direction == "desc")
        if "bytes" not in rest:
            rows = [
                {name: shown_size(text or "0") if "size" in name else text for name, text in row.items()}
                for row in rows
            ]
        if rest.get("format", "text" if call.kind == _TEXT else "json") == "json":
            return [{name: row[name] for name in columns} for row in rows]
        return table(rows, columns, switch(rest, "v"))

    # -- continuous queries -------------------------------------------------------------------------------------------

    async def list_queries(self, call: Call) -> Any:
        """All of them."""
        _expect_no_more(call, ())
        return self._queries.all()

    async def create_query(self, call: Call) -> Any:
        """Another one."""
        _expect_no_more(call, ())
        return await self._queries.create(call.content)

    async def get_query(self, call: Call) -> Any:
        """One."""
        _expect_no_more(call, ())
        return self._queries.get(call.names)

    async def drop_query(self, call: Call) -> Any:
        """One less."""
        _expect_no_more(call, ())
        return await self._queries.drop(call.names)

    async def pause_query(self, call: Call) -> Any:
        """One rests."""
        _expect_no_more(call, ())
        return await self._queries.pause(call.names, True)

    async def resume_query(self, call: Call) -> Any:
        """One goes on."""
        _expect_no_more(call, ())
        return await self._queries.pause(call.names, False)

    async def query_windows(self, call: Call) -> Any:
        """What one has at hand."""
        return await self._queries.windows(call.names, _expect_no_more(call, ("key", "from", "to", "size")))

    async def explain_query(self, call: Call) -> Any:
        """What is in a window of one."""
        return await self._queries.explain(call.names, _expect_no_more(call, ("key", "start")))

    async def openapi(self, call: Call) -> Any:
        """The document of all this."""
        return schema.openapi_document(chronik.__version__)

    async def _named(self, call: Call) -> Any:
        about_names, rest = call.split(*NAME_PARAMETERS)
        _expect_no_more(call._replace(parameters=rest), ())
        return await self._searches.topics(call.names, about_names)

    # -- HTTP -----------------------------------------------------------------------------------------------------------

    def _route(self, operation: schema.Operation) -> None:
        path = operation.path.replace("{names}", "<names>")
        self._serve(path, operation.methods, operation.name, getattr(self, operation.name))

    def _serve(self, path: str, methods: tuple[str, ...], name: str, method: Callable[[Call], Any]) -> None:
        async def serve(request: Any, names: str = "") -> bytes:
            check_caller(request, self._loopback)
            _expect_free(names)
            kind = answer_type(request, _TEXT if name == "cat_indices" else JSON)
            parameters = parameters_of(request)
            pretty = switch(parameters, "pretty")
            parameters.pop("pretty", None)
            result = method(Call(names, parameters, content_of(request), kind))
            if inspect.isawaitable(result):
                result = await result
            set_product(request)
            if isinstance(result, bytes):
                request.setHeader("content-type", f"{_TEXT}; charset=UTF-8")
                return result
            pieces = result if _is_pieces(result) else [msgspec.json.encode(result)]
            if pretty:
                pieces = indented(pieces)
            request.setHeader("content-type", kind if kind != _TEXT else JSON)
            await send_answer(request, pieces, self._clock)
            return b""

        self.app.route(path, methods=list(methods), endpoint=f"{path} {methods[0]}")(serve)

    def _not_found(self, request: Any, failure: Failure) -> bytes:
        where = f"uri [{request.uri[:200].decode('ascii', 'replace')}] and method [{request.method.decode('ascii', 'replace')}]"
        return write_error(request, Refusal(400, f"no handler found for {where}; see /v1/openapi.json"))

    def _method_not_allowed(self, request: Any, failure: Failure) -> bytes:
        allowed = ", ".join(sorted(failure.value.valid_methods or ()))  # type: ignore[union-attr]
        reason = f"the methods here are {allowed}; messages are produced, and topics changed, by Kafka's protocol"
        return write_error(request, Refusal(405, reason, headers={"allow": allowed}))

    def _defect(self, request: Any, failure: Failure) -> bytes:
        self.log.failure("{method} {path} failed", failure, method=request.method, path=request.path)
        return write_error(request, Refusal(500, "the node failed on this request; its log says why"))


def _is_pieces(result: Any) -> bool:
    return isinstance(result, list) and all(isinstance(piece, bytes) for piece in result) and bool(result)


def _expect_free(names: str) -> None:
    """Refuse a path that has a meaning of its own, or will have."""
    if names in RESERVED or (names.startswith("_") and names != "_all"):
        raise Refusal(
            400, f"the path {names[:80]!r} is taken; a topic of this name is searched by a pattern, such as *name"
        )


def _expect_no_more(call: Call, names: tuple[str, ...]) -> dict[str, str]:
    """The parameters, none of which may be another than these."""
    for name in call.parameters:
        if name not in names:
            raise Refusal(400, f"unrecognized parameter `{name:.50}`")
    return call.parameters


_NUMBER = re.compile(r"[0-9]+")


def _sortable(text: str | None) -> tuple[int, str]:
    return (int(text), "") if text and _NUMBER.fullmatch(text) else (-1, text or "")
