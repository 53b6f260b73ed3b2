"""ApiVersions: which APIs and versions this node serves, and its features.

The answer is the listener's own table, so nothing can be advertised that isn't served. An unknown version is refused in
version 0 with this API's own range, and the connection stays open (KIP-511). Features come with version 3; below version 4
supported ones whose lowest level is 0 are left out, since older clients take a 0 for an error (KAFKA-17492).
"""

from __future__ import annotations

from collections.abc import Callable

from chronik.errors import ErrorCode, KafkaError
from chronik.features import SUPPORTED
from chronik.interfaces import IClusterMetadata
from chronik.listeners.context import RequestContext
from chronik.listeners.dispatch import ApiTable
from chronik.wire.apis import ApiKey
from chronik.wire.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)

_LOWEST_LEVEL_MAY_BE_0 = 4


class ApiVersionsHandler:
    """Serves ApiVersions from the table that `table` returns: it is complete only once all handlers exist, this one too.

    The levels of features that are in force are those of `metadata`, and as new.
    """

    api_key = ApiKey.API_VERSIONS
    min_version = 0
    max_version = 4

    def __init__(self, table: Callable[[], ApiTable], metadata: IClusterMetadata) -> None:
        self._table = table
        self._metadata = metadata

    def handle(self, request: ApiVersionsRequest, context: RequestContext) -> ApiVersionsResponse:
        """The table. From version 3 on, a client must name its software in Kafka's character set."""
        if context.api_version >= 3:
            for name in (request.client_software_name, request.client_software_version):
                if not _is_software_name(name):
                    raise KafkaError(ErrorCode.INVALID_REQUEST, f"client software name {name[:80]!r} is not acceptable")
            software = context.peer.software
            software.name, software.version = request.client_software_name, request.client_software_version
        with_zero = context.api_version >= _LOWEST_LEVEL_MAY_BE_0
        return ApiVersionsResponse(
            api_keys=self._keys(ErrorCode.NONE),
            supported_features=[
                SupportedFeatureKey(name=name, min_version=feature.min_level, max_version=feature.max_level)
                for name, feature in SUPPORTED.items()
                if with_zero or feature.min_level > 0
            ],
            finalized_features_epoch=self._metadata.version,
            finalized_features=[
                FinalizedFeatureKey(name=name, max_version_level=level, min_version_level=level)
                for name in SUPPORTED
                if (level := self._metadata.feature_level(name))
            ],
        )

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
