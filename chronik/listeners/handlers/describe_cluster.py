"""DescribeCluster: the cluster's id, its controller and its brokers."""

from __future__ import annotations

from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.topology import CLUSTER_OPERATIONS, NOT_ASKED
from chronik.wire.apis import ApiKey
from chronik.wire.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)

_BROKERS, _CONTROLLERS = 1, 2


class DescribeClusterHandler:
    """Serves DescribeCluster from `metadata`; only brokers can be asked for on a listener for clients."""

    api_key = ApiKey.DESCRIBE_CLUSTER
    min_version = 0
    max_version = 2

    def __init__(self, metadata: IClusterMetadata) -> None:
        self._metadata = metadata

    def handle(self, request: DescribeClusterRequest, context: RequestContext) -> DescribeClusterResponse:
        """The brokers that the client's listener leads to."""
        if request.endpoint_type == _CONTROLLERS:
            raise KafkaError(ErrorCode.MISMATCHED_ENDPOINT_TYPE, "this listener is a broker's, not a controller's")
        if request.endpoint_type != _BROKERS:
            raise KafkaError(
                ErrorCode.UNSUPPORTED_ENDPOINT_TYPE,
                f"endpoints of type {request.endpoint_type} are unknown; brokers are 1",
            )
        shown = [broker for broker in self._metadata.brokers() if request.include_fenced_brokers or not broker.fenced]
        return DescribeClusterResponse(
            cluster_id=self._metadata.cluster_id,
            controller_id=self._metadata.controller_id,
            brokers=[
                DescribeClusterBroker(
                    broker_id=broker.node_id,
                    host=context.dialable(endpoint.host),
                    port=endpoint.port,
                    rack=broker.rack,
                    is_fenced=broker.fenced,
                )
                for broker in shown
                for endpoint in broker.endpoints
                if endpoint.listener == context.listener
            ],
            cluster_authorized_operations=CLUSTER_OPERATIONS
            if request.include_cluster_authorized_operations
            else NOT_ASKED,
        )

    def refuse(self, request: DescribeClusterRequest, version: int, error: KafkaError) -> DescribeClusterResponse:
        """`error`, and nothing else."""
        return DescribeClusterResponse(error_code=error.code, error_message=error.message)
