"""PushTelemetry (key 72): a client hands in its metrics, as OpenTelemetry bytes (KIP-714)."""

from chronik.wire.codec import Request, Response
from chronik.wire.schema import boolean, int8, int16, int32, octets, uuid


class PushTelemetryRequest(Request, api_key=72, versions="0", flexible="0+"):
    client_instance_id: bytes = uuid()
    subscription_id: int = int32()
    terminating: bool = boolean()
    compression_type: int = int8()
    metrics: bytes = octets()


class PushTelemetryResponse(Response, api_key=72, versions="0", flexible="0+"):
    throttle_time_ms: int = int32()
    error_code: int = int16()
