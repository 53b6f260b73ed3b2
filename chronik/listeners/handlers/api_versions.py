"""ApiVersions: which APIs and versions this node serves, and its features.

The answer is the listener's own table, so nothing can be advertised that isn't served. An unknown version is refused in
version 0 with this API's own range, and the connection stays open (KIP-511).
"""

from __future__ import annotations

from collections.abc import Callable

from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.dispatch import ApiTable
from chronik.wire.apis import ApiKey
from chronik.wire.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse


class ApiVersionsHandler:
    """Serves ApiVersions from the table that `table` returns: it is complete only once all handlers exist, this one too."""

    api_key = ApiKey.API_VERSIONS
    min_version = 0
    max_version = 4

    def __init__(self, table: Callable[[], ApiTable]) -> None:
        self._table = table

    def handle(self, request: ApiVersionsRequest, context: RequestContext) -> ApiVersionsResponse:
        """The table. From version 3 on, a client must name its software in Kafka's character set."""
        if context.api_version >= 3:
            for name in (request.client_software_name, request.client_software_version):
                if not _is_software_name(name):
                    raise KafkaError(ErrorCode.INVALID_REQUEST, f"client software name {name[:80]!r} is not acceptable")
        return ApiVersionsResponse(api_keys=self._keys(ErrorCode.NONE))

    def refuse(self, request: object, version: int, error: KafkaError) -> ApiVersionsResponse:
        """The error alone; for an unsupported version with the range that is supported."""
        return ApiVersionsResponse(error_code=error.code, api_keys=self._keys(error.code))

    def _keys(self, error: ErrorCode) -> list[ApiVersion]:
        if error == ErrorCode.UNSUPPORTED_VERSION:
            return [ApiVersion(api_key=self.api_key, min_version=self.min_version, max_version=self.max_version)]
        if error != ErrorCode.NONE:
            return []
        return [ApiVersion(api_key=key, min_version=low, max_version=high) for key, low, high in self._table().ranges()]


def _is_software_name(name: str) -> bool:
    """Kafka's pattern: letters, digits, '-' and '.', beginning and ending with a letter or digit."""
    return (
        name.isascii()
        and bool(name)
        and name[0].isalnum()
        and name[-1].isalnum()
        and all(c.isalnum() or c in "-." for c in name)
    )
