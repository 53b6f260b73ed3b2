"""IncrementalAlterConfigs: set, delete, append to and subtract from single configs."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from chronik.controller.commands import AlterConfigs, ConfigOperation, Operation
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IController
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.altering import CONFIG_TIMEOUT_MS, alterable, repeated
from chronik.listeners.handlers.proposing import propose
from chronik.wire.apis import ApiKey
from chronik.wire.messages.incremental_alter_configs import (
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

_OPERATIONS = frozenset(Operation)


class IncrementalAlterConfigsHandler:
    """Serves IncrementalAlterConfigs through `controller`, for topics, for this broker and for all brokers together."""

    api_key = ApiKey.INCREMENTAL_ALTER_CONFIGS
    min_version = 0
    max_version = 1

    def __init__(self, controller: IController, node_id: int, clock: IReactorTime) -> None:
        self._controller = controller
        self._node_id = node_id
        self._clock = clock

    async def handle(
        self, request: IncrementalAlterConfigsRequest, context: RequestContext
    ) -> IncrementalAlterConfigsResponse:
        """A result for each resource, in the order asked; each is changed whole or not at all."""
        errors: dict[int, KafkaError | None] = dict(repeated(request.resources))
        changes = {}
        for position, resource in enumerate(request.resources):
            if position in errors:
                continue
            try:
                owner = alterable(resource.resource_type, resource.resource_name, self._node_id)
                changes[position] = (owner, _operations(resource))
            except KafkaError as error:
                errors[position] = error
        command = AlterConfigs(tuple(changes.values()), request.validate_only)
        answers = await propose(self._controller, command, CONFIG_TIMEOUT_MS, self._clock)
        errors.update(zip(changes, answers, strict=True))
        return IncrementalAlterConfigsResponse(
            responses=[_result(resource, errors[position]) for position, resource in enumerate(request.resources)]
        )

    def refuse(
        self, request: IncrementalAlterConfigsRequest, version: int, error: KafkaError
    ) -> IncrementalAlterConfigsResponse:
        """`error` for every resource."""
        return IncrementalAlterConfigsResponse(responses=[_result(resource, error) for resource in request.resources])


def _operations(resource: AlterConfigsResource) -> tuple[ConfigOperation, ...]:
    for config in resource.configs:
        if config.config_operation not in _OPERATIONS:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                f"operation {config.config_operation} on config {config.name[:80]!r} is unknown; it is 0 (set) to 3 (subtract)",
            )
    return tuple(
        ConfigOperation(config.name, Operation(config.config_operation), config.value) for config in resource.configs
    )


def _result(resource: AlterConfigsResource, error: KafkaError | None) -> AlterConfigsResourceResponse:
    return AlterConfigsResourceResponse(
        error_code=ErrorCode.NONE if error is None else error.code,
        error_message=None if error is None else error.message,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
    )
