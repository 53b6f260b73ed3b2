"""ReadShareGroupStateSummary: where share partitions start; -1 for those that are not kept (KIP-932)."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed

from chronik.coordinator.share_shard import Summary
from chronik.listeners.handlers.share_states import ShareStateHandler
from chronik.model import SharePartitionKey
from chronik.wire.apis import ApiKey
from chronik.wire.messages.read_share_group_state_summary import (
    PartitionData,
    PartitionResult,
    ReadShareGroupStateSummaryResponse,
    ReadStateSummaryResult,
)


class ReadShareGroupStateSummaryHandler(ShareStateHandler):
    """Serves ReadShareGroupStateSummary."""

    api_key = ApiKey.READ_SHARE_GROUP_STATE_SUMMARY
    response = ReadShareGroupStateSummaryResponse
    topic_result = ReadStateSummaryResult
    partition_result = PartitionResult

    def ask(self, key: SharePartitionKey, asked: PartitionData) -> Deferred[Summary]:
        """Look at one share partition."""
        return succeed(self._shares.summary_now(key))

    def result(self, index: int, found: Summary) -> PartitionResult:
        """The start, and both epochs."""
        return PartitionResult(
            partition=index,
            state_epoch=found.state_epoch,
            leader_epoch=found.leader_epoch,
            start_offset=found.start_offset,
        )
