"""What AlterConfigs and IncrementalAlterConfigs have in common: which resources may be altered here, and how it is done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

from twisted.internet.interfaces import IReactorTime

from chronik.controller.commands import ConfigResource, ResourceType
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IController
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.proposing import propose

CONFIG_TIMEOUT_MS = 30_000
"""These requests carry no timeout of their own; Kafka's brokers wait this long for the controller."""


class AlteringHandler(ABC):
    """Serves one of the two through `controller`, for topics, for this broker and for all brokers together."""

    command: ClassVar[Any]
    """Made of all resources with their changes, and whether to validate only."""
    response: ClassVar[Any]
    result: ClassVar[Any]

    def __init__(self, controller: IController, node_id: int, clock: IReactorTime) -> None:
        self._controller = controller
        self._node_id = node_id
        self._clock = clock

    @abstractmethod
    def changes(self, resource: Any) -> tuple[Any, ...]:
        """What the command wants to know of one resource. Raises KafkaError."""

    async def handle(self, request: Any, context: RequestContext) -> Any:
        """A result for each resource, in the order asked; each is changed whole or not at all."""
        errors: dict[int, KafkaError | None] = dict(_repeated(request.resources))
        changes = {}
        for position, resource in enumerate(request.resources):
            if position in errors:
                continue
            try:
                changes[position] = (self._alterable(resource), self.changes(resource))
            except KafkaError as error:
                errors[position] = error
        command = self.command(tuple(changes.values()), request.validate_only)
        answers = await propose(self._controller, command, CONFIG_TIMEOUT_MS, self._clock)
        errors.update(zip(changes, answers, strict=True))
        return self.response(
            responses=[self._result(resource, errors[position]) for position, resource in enumerate(request.resources)]
        )

    def refuse(self, request: Any, version: int, error: KafkaError) -> Any:
        """`error` for every resource."""
        return self.response(responses=[self._result(resource, error) for resource in request.resources])

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


def _repeated(resources: Sequence[Any]) -> dict[int, KafkaError]:
    """The refusals of resources that are in a request more than once, by their position."""
    times = Counter((each.resource_type, each.resource_name) for each in resources)
    error = KafkaError(ErrorCode.INVALID_REQUEST, "the resource is in the request more than once")
    return {
        position: error for position, each in enumerate(resources) if times[each.resource_type, each.resource_name] > 1
    }
