"""IncrementalAlterConfigs: set, delete, append to and subtract from single configs."""

from __future__ import annotations

from chronik.controller.commands import AlterConfigs, ConfigOperation, Operation
from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.handlers.altering import AlteringHandler
from chronik.wire.apis import ApiKey
from chronik.wire.messages.alter_configs import AlterConfigsResourceResponse
from chronik.wire.messages.incremental_alter_configs import (
    AlterConfigsResource,
    IncrementalAlterConfigsResponse,
)

_OPERATIONS = frozenset(Operation)


class IncrementalAlterConfigsHandler(AlteringHandler):
    """Serves IncrementalAlterConfigs."""

    api_key = ApiKey.INCREMENTAL_ALTER_CONFIGS
    min_version = 0
    max_version = 1
    command = AlterConfigs
    response = IncrementalAlterConfigsResponse
    result = AlterConfigsResourceResponse

    def changes(self, resource: AlterConfigsResource) -> tuple[ConfigOperation, ...]:
        """The operations. Raises KafkaError(INVALID_REQUEST) for one that doesn't exist."""
        for config in resource.configs:
            if config.config_operation not in _OPERATIONS:
                raise KafkaError(
                    ErrorCode.INVALID_REQUEST,
                    f"operation {config.config_operation} on config {config.name[:80]!r} is unknown; "
                    "it is 0 (set) to 3 (subtract)",
                )
        return tuple(
            ConfigOperation(config.name, Operation(config.config_operation), config.value)
            for config in resource.configs
        )
