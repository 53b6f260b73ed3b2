"""The admin listener: the REST API under `/v1`, its OpenAPI document, and `/metrics`, on Klein.

Routes are made from `OPERATIONS`, so the document cannot drift from what is served. Every handler gets (request, path
parameters) and returns a struct; refusals are raised, and become RFC 9457 problem documents at the one error wall. It reads
the cluster as last replayed, changes it by the controller's commands, and asks the coordinator for groups.

Importing this module imports Klein, which installs the reactor: import it late.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Site
from werkzeug.exceptions import MethodNotAllowed, NotFound

import chronik
from chronik.controller.commands import (
    AlterConfigs,
    ConfigOperation,
    ConfigResource,
    CreateTopics,
    DeleteTopics,
    NewTopic,
    Operation,
    ResourceType,
    TopicReference,
)
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata, IController
from chronik.listeners import admin_schema as schema
from chronik.listeners.admin_alerts import AlertAdministration
from chronik.listeners.admin_http import AdminRequest, read_json, refusal_of, write_problem
from chronik.listeners.admin_indexes import IndexAdministration
from chronik.listeners.admin_searches import SearchAdministration
from chronik.listeners.handlers.proposing import propose
from chronik.listeners.http import QuietSite, Refusal, check_caller
from chronik.listeners.metrics import CONTENT_TYPE, metrics_page
from chronik.listeners.paging import page_of
from chronik.model import OFFSETS_TOPIC, Topic, TopicPartition, uuid_to_text
from chronik.search.alerting import Alerting
from chronik.search.service import SearchService
from chronik.telemetry.metrics import NodeMetrics

_DECIDE_MS = 30_000


class GroupAdministration(Protocol):
    """What is asked of the group coordinator; `chronik.coordinator.runtime.Coordinator` answers it."""

    async def list(self) -> Sequence[Any]:
        """The ListedGroup of every group that is coordinated here."""

    def summary(self, group_id: str) -> Any:
        """The DescribedGroup, of either protocol; None when there is none."""

    async def fetch_offsets(
        self, group_id: str, wanted: Sequence[TopicPartition] | None, require_stable: bool
    ) -> Sequence[tuple[TopicPartition, Any, bool]]:
        """(partition, Committed) of all that the group committed, for `wanted` None."""

    def delete(self, group_id: str) -> Awaitable[None]:
        """Delete an empty group. Fails with KafkaError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminServices:
    """Whom the admin listener asks.

    `bounds` tells log start and high watermark, `sizes` bytes of a topic by partition; `listeners` those of Kafka as bound.
    `alerting` and `search` are None on a node that doesn't search.
    """

    metadata: IClusterMetadata
    controller: IController
    groups: GroupAdministration
    bounds: Callable[[TopicPartition], tuple[int, int]]
    sizes: Callable[[str], Mapping[int, int]]
    metrics: NodeMetrics
    clock: IReactorTime
    node_id: int
    role: str
    listeners: Callable[[], Sequence[tuple[str, str, int]]]
    ready: Callable[[], bool]
    loopback: bool
    alerting: Alerting | None
    search: SearchService | None


def make_site(services: AdminServices) -> Site:
    """The HTTP factory of the admin listener."""
    return QuietSite(AdminApi(services).app.resource(), requestFactory=AdminRequest, reactor=services.clock)


class AdminApi:
    """The operations, each a method named as in `OPERATIONS`; those about searches, indexes and alerts are others'."""

    log = Logger()

    def __init__(self, services: AdminServices) -> None:
        self._services = services
        self._started = services.clock.seconds()
        self._others = (
            SearchAdministration(services.metadata, self._decide, services.alerting is not None),
            AlertAdministration(services.metadata, self._decide, services.alerting),
            IndexAdministration(services.metadata, services.search),
        )
        self.app = Klein()
        for operation in schema.OPERATIONS:
            self._route(operation)
        self._page("/v1/openapi.json", self._openapi, "application/json")
        self._page("/metrics", self._metrics, CONTENT_TYPE)
        self.app.handle_errors(NotFound)(self._not_found)
        self.app.handle_errors(MethodNotAllowed)(self._method_not_allowed)
        self.app.handle_errors(Refusal)(lambda request, failure: write_problem(request, failure.value))
        self.app.handle_errors(KafkaError)(lambda request, failure: write_problem(request, refusal_of(failure.value)))
        self.app.handle_errors(Exception)(self._defect)

    # -- topics ---------------------------------------------------------------------------------------------------------

    def list_topics(self, request: Any) -> schema.TopicList:
        """All topics, paged."""
        page, following = page_of(request, self._services.metadata.topics(), lambda topic: topic.name)
        return schema.TopicList([_summary(topic) for topic in page], following)

    async def create_topic(self, request: Any) -> schema.TopicDetail:
        """Create what the body says; the new topic."""
        body = read_json(request, schema.NewTopic)
        new = NewTopic(body.name, body.partitions or -1, body.replication_factor or -1, (), tuple(body.configs.items()))
        (created,) = await self._decide(CreateTopics((new,)))
        if created.error is not None:
            raise created.error
        request.setHeader("location", f"/v1/topics/{created.topic.name}")
        return self._detail(created.topic)

    def get_topic(self, request: Any, name: str) -> schema.TopicDetail:
        """One topic."""
        return self._detail(self._topic(name))

    async def change_topic(self, request: Any, name: str) -> schema.TopicDetail:
        """Override configs, or give them back to their defaults; the topic after it."""
        body = read_json(request, schema.TopicChange)
        self._topic(name)
        operations = tuple(
            ConfigOperation(config, Operation.DELETE if value is None else Operation.SET, value)
            for config, value in body.configs.items()
        )
        (error,) = await self._decide(AlterConfigs(((ConfigResource(ResourceType.TOPIC, name), operations),)))
        if error is not None:
            raise error
        return self._detail(self._topic(name))

    async def delete_topic(self, request: Any, name: str) -> None:
        """Delete a topic."""
        (deletion,) = await self._decide(DeleteTopics((TopicReference(name),)))
        if deletion.error is not None:
            raise deletion.error

    def _topic(self, name: str) -> Topic:
        topic = self._services.metadata.topic(name)
        if topic is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name[:249]!r}")
        return topic

    def _detail(self, topic: Topic) -> schema.TopicDetail:
        sizes = self._services.sizes(topic.name)
        partitions = []
        for state in topic.partitions:
            place = TopicPartition(topic.name, state.partition)
            start, high_watermark = self._bounds(place)
            partitions.append(
                schema.Partition(
                    state.partition,
                    state.leader,
                    state.leader_epoch,
                    list(state.replicas),
                    list(state.isr),
                    start,
                    high_watermark,
                    sizes.get(state.partition),
                )
            )
        return schema.TopicDetail(
            topic.name, uuid_to_text(topic.topic_id), topic.internal, dict(topic.configs), partitions
        )

    def _bounds(self, place: TopicPartition) -> tuple[int, int] | tuple[None, None]:
        """(log start, high watermark), or Nones for a partition that isn't here (yet)."""
        try:
            return self._services.bounds(place)
        except KafkaError:
            return None, None

    async def _decide(self, command: object) -> Any:
        return await propose(self._services.controller, command, _DECIDE_MS, self._services.clock)

    # -- groups -------------------------------------------------------------------------------------------------------

    async def list_groups(self, request: Any) -> schema.GroupList:
        """The groups coordinated here, paged."""
        groups = sorted(await self._services.groups.list(), key=lambda group: str(group.group_id))
        page, following = page_of(request, groups, lambda group: str(group.group_id))
        found = [schema.GroupSummary(g.group_id, g.group_state, g.group_type, g.protocol_type) for g in page]
        return schema.GroupList(found, following)

    async def get_group(self, request: Any, group_id: str) -> schema.GroupDetail:
        """One group, with its lag."""
        self._expect_groups(group_id)
        group = self._services.groups.summary(group_id)
        if group is None:
            raise _no_group(group_id)
        offsets = []
        for place, committed, _ in sorted(await self._services.groups.fetch_offsets(group_id, None, False)):
            _, high_watermark = self._bounds(place)
            lag = None if high_watermark is None else max(0, high_watermark - committed.offset)
            offsets.append(
                schema.GroupOffset(*place, committed.offset, high_watermark, lag, committed.metadata or None)
            )
        members = [
            schema.GroupMember(m.member_id, m.group_instance_id, m.client_id, m.client_host) for m in group.members
        ]
        return schema.GroupDetail(
            group.group_id, group.group_state, group.protocol_type, group.protocol_data, members, offsets
        )

    async def delete_group(self, request: Any, group_id: str) -> None:
        """Delete an empty group."""
        self._expect_groups(group_id)
        await self._services.groups.delete(group_id)

    def _expect_groups(self, group_id: str) -> None:
        """Until the first group there is no coordinator of any: then none is here, rather than none now."""
        if self._services.metadata.topic(OFFSETS_TOPIC) is None:
            raise _no_group(group_id)

    # -- the node -------------------------------------------------------------------------------------------------------

    def health(self, request: Any) -> schema.Health:
        """Live always; 503 while it is not ready."""
        services = self._services
        ready = services.ready()
        if not ready:
            request.setResponseCode(503)
        return schema.Health(
            True,
            ready,
            services.node_id,
            services.metadata.cluster_id,
            chronik.__version__,
            services.role,
            [schema.Listener(*listener) for listener in services.listeners()],
            round(services.clock.seconds() - self._started, 3),
        )

    def _openapi(self) -> bytes:
        return msgspec.json.encode(schema.openapi_document(chronik.__version__))

    async def _metrics(self) -> bytes:
        return await metrics_page(self._services.metrics, self._services.clock)

    # -- HTTP -----------------------------------------------------------------------------------------------------------

    def _route(self, operation: schema.Operation) -> None:
        method = next(getattr(each, operation.name) for each in (self, *self._others) if hasattr(each, operation.name))
        # A group's name may hold slashes; its path parameter takes all that follows.
        path = operation.path.replace("{name}", "<name>").replace("{group_id}", "<path:group_id>")

        async def serve(request: Any, **parameters: str) -> bytes:
            check_caller(request, self._services.loopback)
            request.setResponseCode(operation.status)
            result = method(request, **parameters)
            if inspect.isawaitable(result):
                result = await result
            if result is None:
                return b""
            request.setHeader("content-type", "application/json")
            return msgspec.json.encode(result)

        self.app.route(path, methods=[operation.method], endpoint=operation.name)(serve)

    def _page(self, path: str, content: Callable[[], Any], content_type: str) -> None:
        async def serve(request: Any) -> bytes:
            check_caller(request, self._services.loopback)
            request.setHeader("content-type", content_type)
            result = content()
            body: bytes = await result if inspect.isawaitable(result) else result
            return body

        self.app.route(path, methods=["GET"], endpoint=path)(serve)

    def _not_found(self, request: Any, failure: Failure) -> bytes:
        return write_problem(request, Refusal(404, "nothing is served at this path; see /v1/openapi.json"))

    def _method_not_allowed(self, request: Any, failure: Failure) -> bytes:
        allowed = ", ".join(sorted(failure.value.valid_methods or ()))  # type: ignore[union-attr]
        refusal = Refusal(405, f"the methods here are {allowed}", headers={"allow": allowed})
        return write_problem(request, refusal)

    def _defect(self, request: Any, failure: Failure) -> bytes:
        self.log.failure("{method} {path} failed", failure, method=request.method, path=request.path)
        return write_problem(request, Refusal(500, "the node failed on this request; its log says why"))


def _no_group(group_id: str) -> KafkaError:
    return KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"there is no group {group_id[:249]!r}")


def _summary(topic: Topic) -> schema.TopicSummary:
    replicas = len(topic.partitions[0].replicas) if topic.partitions else 0
    return schema.TopicSummary(
        topic.name, uuid_to_text(topic.topic_id), topic.internal, len(topic.partitions), replicas
    )
