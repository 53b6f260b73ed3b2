"""AlterConfigs: give resources exactly these configs; what is not named falls back to its default."""

from __future__ import annotations

from chronik.controller.commands import ReplaceConfigs
from chronik.listeners.handlers.altering import AlteringHandler
from chronik.wire.apis import ApiKey
from chronik.wire.messages.alter_configs import AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse


class AlterConfigsHandler(AlteringHandler):
    """Serves AlterConfigs."""

    api_key = ApiKey.ALTER_CONFIGS
    min_version = 0
    max_version = 2
    command = ReplaceConfigs
    response = AlterConfigsResponse
    result = AlterConfigsResourceResponse

    def changes(self, resource: AlterConfigsResource) -> tuple[tuple[str, str | None], ...]:
        """All configs with their values."""
        return tuple((config.name, config.value) for config in resource.configs)
