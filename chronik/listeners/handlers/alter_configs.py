"""AlterConfigs: give resources exactly these configs; what is not named falls back to its default."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from chronik.controller.commands import ReplaceConfigs
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IController
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.altering import CONFIG_TIMEOUT_MS, alterable, repeated
from chronik.listeners.handlers.proposing import propose
from chronik.wire.apis import ApiKey
from chronik.wire.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)


class AlterConfigsHandler:
    """Serves AlterConfigs through `controller`, for topics, for this broker and for all brokers together."""

    api_key = ApiKey.ALTER_CONFIGS
    min_version = 0
    max_version = 2

    def __init__(self, controller: IController, node_id: int, clock: IReactorTime) -> None:
        self._controller = controller
        self._node_id = node_id
        self._clock = clock

    async def handle(self, request: AlterConfigsRequest, context: RequestContext) -> AlterConfigsResponse:
        """A result for each resource, in the order asked."""
        errors: dict[int, KafkaError | None] = dict(repeated(request.resources))
        changes = {}
        for position, resource in enumerate(request.resources):
            if position in errors:
                continue
            try:
                owner = alterable(resource.resource_type, resource.resource_name, self._node_id)
            except KafkaError as error:
                errors[position] = error
                continue
            changes[position] = (owner, tuple((config.name, config.value) for config in resource.configs))
        command = ReplaceConfigs(tuple(changes.values()), request.validate_only)
        answers = await propose(self._controller, command, CONFIG_TIMEOUT_MS, self._clock)
        errors.update(zip(changes, answers, strict=True))
        return AlterConfigsResponse(
            responses=[_result(resource, errors[position]) for position, resource in enumerate(request.resources)]
        )

    def refuse(self, request: AlterConfigsRequest, version: int, error: KafkaError) -> AlterConfigsResponse:
        """`error` for every resource."""
        return AlterConfigsResponse(responses=[_result(resource, error) for resource in request.resources])


def _result(resource: AlterConfigsResource, error: KafkaError | None) -> AlterConfigsResourceResponse:
    return AlterConfigsResourceResponse(
        error_code=ErrorCode.NONE if error is None else error.code,
        error_message=None if error is None else error.message,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
    )
