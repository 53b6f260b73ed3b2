"""DescribeTransactions: state, producer and partitions of transactional ids."""

from __future__ import annotations

from itertools import groupby

from chronik.coordinator.transactions import TransactionCoordinator
from chronik.errors import KafkaError
from chronik.listeners.context import RequestContext
from chronik.steps import Steps, each
from chronik.wire.apis import ApiKey
from chronik.wire.messages.describe_transactions import (
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
    TopicData,
    TransactionState,
)


class DescribeTransactionsHandler:
    """Serves DescribeTransactions."""

    api_key = ApiKey.DESCRIBE_TRANSACTIONS
    min_version = 0
    max_version = 0

    def __init__(self, transactions: TransactionCoordinator) -> None:
        self._transactions = transactions

    def handle(
        self, request: DescribeTransactionsRequest, context: RequestContext
    ) -> Steps[DescribeTransactionsResponse]:
        """Each id, or why it cannot be described."""
        states = yield from each(dict.fromkeys(request.transactional_ids), self._describe)
        return DescribeTransactionsResponse(transaction_states=states)

    def _describe(self, transactional_id: str) -> TransactionState:
        try:
            state = self._transactions.describe(transactional_id)
        except KafkaError as error:
            return TransactionState(transactional_id=transactional_id, error_code=error.code)
        by_topic = groupby(sorted(state.partitions), key=lambda place: place.topic)
        return TransactionState(
            transactional_id=transactional_id,
            transaction_state=state.state.text,
            transaction_timeout_ms=state.timeout_ms,
            transaction_start_time_ms=state.start_ms,
            producer_id=state.producer_id,
            producer_epoch=state.producer_epoch,
            topics=[
                TopicData(topic=topic, partitions=[place.partition for place in places]) for topic, places in by_topic
            ],
        )

    def refuse(
        self, request: DescribeTransactionsRequest, version: int, error: KafkaError
    ) -> Steps[DescribeTransactionsResponse]:
        """The error for each id."""
        states = yield from each(
            request.transactional_ids,
            lambda transactional_id: TransactionState(transactional_id=transactional_id, error_code=error.code),
        )
        return DescribeTransactionsResponse(transaction_states=states)
