"""What AlterConfigs and IncrementalAlterConfigs have in common: which resources may be altered here, and how it is done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from chronik.controller.commands import ConfigResource, ResourceType
from chronik.controller.sizes import check_size
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.proposing import Proposing, in_parts
from chronik.steps import Steps, counted, each

CONFIG_TIMEOUT_MS = 30_000
"""These requests carry no timeout of their own; Kafka's brokers wait this long for the controller."""


MAX_CONFIGS = 500
"""Changes of one resource: more than there are configs."""


class AlteringHandler(ABC):
    """Serves one of the two by `proposing`, for topics, for this broker and for all brokers together."""

    command: ClassVar[Any]
    """Made of all resources with their changes, and whether to validate only."""
    response: ClassVar[Any]
    result: ClassVar[Any]

    def __init__(self, proposing: Proposing, node_id: int) -> None:
        self._proposing = proposing
        self._node_id = node_id

    @abstractmethod
    def changes(self, resource: Any) -> tuple[Any, ...]:
        """What the command wants to know of one resource. Raises KafkaError."""

    async def handle(self, request: Any, context: RequestContext) -> Any:
        """A result for each resource, in the order asked; each is changed whole or not at all."""
        take = self._proposing.slices.take
        changes, errors = await take(self._sorted(request.resources))
        check_size(self.command(tuple(changes.values()), request.validate_only), 0)
        commands = (
            self.command(some, request.validate_only)
            for some in in_parts(changes.values(), lambda change: 1 + len(change[1]) // 10)
        )
        answers = await self._proposing.each(commands, CONFIG_TIMEOUT_MS, [])
        errors.update(zip(changes, answers, strict=True))
        results = await take(each(enumerate(request.resources), lambda asked: self._result(asked[1], errors[asked[0]])))
        return self.response(responses=results)

    def _sorted(
        self, resources: Sequence[Any]
    ) -> Steps[tuple[dict[int, tuple[ConfigResource, tuple[Any, ...]]], dict[int, KafkaError | None]]]:
        """By their position, the changes to propose, and the refusals of the others."""
        changes: dict[int, tuple[ConfigResource, tuple[Any, ...]]] = {}
        errors: dict[int, KafkaError | None] = {}
        times = yield from counted((one.resource_type, one.resource_name) for one in resources)
        for position, resource in enumerate(resources):
            yield
            try:
                if times[resource.resource_type, resource.resource_name] > 1:
                    raise KafkaError(ErrorCode.INVALID_REQUEST, "the resource is in the request more than once")
                if len(resource.configs) > MAX_CONFIGS:
                    raise KafkaError(
                        ErrorCode.INVALID_REQUEST,
                        f"{len(resource.configs)} configs of one resource; none has more than {MAX_CONFIGS}",
                    )
                changes[position] = (self._alterable(resource), self.changes(resource))
            except KafkaError as error:
                errors[position] = error
        return changes, errors

    def refuse(self, request: Any, version: int, error: KafkaError) -> Steps[Any]:
        """`error` for every resource."""
        results = yield from each(request.resources, lambda resource: self._result(resource, error))
        return self.response(responses=results)

    def _alterable(self, resource: Any) -> ConfigResource:
        """What is to be altered. Raises KafkaError(INVALID_REQUEST) for what can't be altered through this broker."""
        kind, name = resource.resource_type, resource.resource_name
        if kind not in (ResourceType.TOPIC, ResourceType.BROKER, ResourceType.GROUP):
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"resources of type {kind} have no configs on this node")
        if kind == ResourceType.BROKER and name not in ("", str(self._node_id)):
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                f"this is broker {self._node_id}, and only that one or '' can be altered here, not {name[:80]!r}",
            )
        return ConfigResource(ResourceType(kind), name)

    def _result(self, resource: Any, error: KafkaError | None) -> Any:
        return self.result(
            error_code=ErrorCode.NONE if error is None else error.code,
            error_message=None if error is None else error.message,
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
        )
