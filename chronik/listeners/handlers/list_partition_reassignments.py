"""ListPartitionReassignments: the moves of replicas that are under way (KIP-455). On one node there are none."""

from __future__ import annotations

from chronik.errors import KafkaError
from chronik.listeners.context import RequestContext
from chronik.wire.apis import ApiKey
from chronik.wire.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)


class ListPartitionReassignmentsHandler:
    """Serves ListPartitionReassignments."""

    api_key = ApiKey.LIST_PARTITION_REASSIGNMENTS
    min_version = 0
    max_version = 0

    def handle(
        self, request: ListPartitionReassignmentsRequest, context: RequestContext
    ) -> ListPartitionReassignmentsResponse:
        """Nothing is being moved, whatever is asked about; as in Kafka, unknown topics are no fault."""
        return ListPartitionReassignmentsResponse(error_message=None)

    def refuse(
        self, request: ListPartitionReassignmentsRequest, version: int, error: KafkaError
    ) -> ListPartitionReassignmentsResponse:
        """`error` for the whole."""
        return ListPartitionReassignmentsResponse(error_code=error.code, error_message=error.message)
