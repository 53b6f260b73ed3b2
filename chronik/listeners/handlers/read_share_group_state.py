"""ReadShareGroupState: what is kept of share partitions, for their leaders; older leaders are fenced then (KIP-932)."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from chronik.listeners.handlers.share_states import ShareStateHandler
from chronik.model import SharePartitionKey, ShareState
from chronik.wire.apis import ApiKey
from chronik.wire.messages.read_share_group_state import (
    PartitionData,
    PartitionResult,
    ReadShareGroupStateResponse,
    ReadStateResult,
    StateBatch,
)


class ReadShareGroupStateHandler(ShareStateHandler):
    """Serves ReadShareGroupState."""

    api_key = ApiKey.READ_SHARE_GROUP_STATE
    response = ReadShareGroupStateResponse
    topic_result = ReadStateResult
    partition_result = PartitionResult

    def ask(self, key: SharePartitionKey, asked: PartitionData) -> Deferred[ShareState]:
        """Begin with one share partition."""
        return self._shares.read_now(key, asked.leader_epoch)

    def result(self, index: int, found: ShareState) -> PartitionResult:
        """All of it."""
        return PartitionResult(
            partition=index,
            state_epoch=found.state_epoch,
            start_offset=found.start_offset,
            state_batches=[
                StateBatch(first_offset=first, last_offset=last, delivery_state=state, delivery_count=deliveries)
                for first, last, state, deliveries in found.batches
            ],
        )
