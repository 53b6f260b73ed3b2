"""DeleteShareGroupState: keep share partitions no longer (KIP-932)."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from chronik.listeners.handlers.share_states import ShareStateHandler
from chronik.model import SharePartitionKey
from chronik.wire.apis import ApiKey
from chronik.wire.messages.delete_share_group_state import (
    DeleteShareGroupStateResponse,
    DeleteStateResult,
    PartitionData,
    PartitionResult,
)


class DeleteShareGroupStateHandler(ShareStateHandler):
    """Serves DeleteShareGroupState."""

    api_key = ApiKey.DELETE_SHARE_GROUP_STATE
    response = DeleteShareGroupStateResponse
    topic_result = DeleteStateResult
    partition_result = PartitionResult

    def ask(self, key: SharePartitionKey, asked: PartitionData) -> Deferred[None]:
        """Begin with one share partition."""
        return self._shares.delete_now(key)
