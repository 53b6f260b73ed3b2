"""InitializeShareGroupState: keep share partitions from now on, from an offset each (KIP-932)."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from chronik.listeners.handlers.share_states import ShareStateHandler
from chronik.model import SharePartitionKey
from chronik.wire.apis import ApiKey
from chronik.wire.messages.initialize_share_group_state import (
    InitializeShareGroupStateResponse,
    InitializeStateResult,
    PartitionData,
    PartitionResult,
)


class InitializeShareGroupStateHandler(ShareStateHandler):
    """Serves InitializeShareGroupState."""

    api_key = ApiKey.INITIALIZE_SHARE_GROUP_STATE
    response = InitializeShareGroupStateResponse
    topic_result = InitializeStateResult
    partition_result = PartitionResult

    def ask(self, key: SharePartitionKey, asked: PartitionData) -> Deferred[None]:
        """Begin with one share partition."""
        return self._shares.initialise_now(key, asked.state_epoch, asked.start_offset)
