"""WriteShareGroupState: what became of records of share partitions, told by their leaders (KIP-932)."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from chronik.listeners.handlers.share_states import ShareStateHandler
from chronik.model import SharePartitionKey, StateBatch
from chronik.wire.apis import ApiKey
from chronik.wire.messages.write_share_group_state import (
    PartitionData,
    PartitionResult,
    WriteShareGroupStateResponse,
    WriteStateResult,
)

_AT_ONCE = 500
"""Stretches of records that are written in one piece: some milliseconds."""


class WriteShareGroupStateHandler(ShareStateHandler):
    """Serves WriteShareGroupState."""

    api_key = ApiKey.WRITE_SHARE_GROUP_STATE
    response = WriteShareGroupStateResponse
    topic_result = WriteStateResult
    partition_result = PartitionResult

    def ask(self, key: SharePartitionKey, asked: PartitionData) -> Deferred[None]:
        """Begin with one share partition."""
        return Deferred.fromCoroutine(self._write(key, asked))

    async def _write(self, key: SharePartitionKey, asked: PartitionData) -> None:
        pace = self._slices.pace()
        for start in range(0, max(1, len(asked.state_batches)), _AT_ONCE):
            batches = [
                StateBatch(each.first_offset, each.last_offset, each.delivery_state, each.delivery_count)
                for each in asked.state_batches[start : start + _AT_ONCE]
            ]
            await self._shares.write_now(key, asked.state_epoch, asked.leader_epoch, asked.start_offset, batches)
            await pace.turn()
