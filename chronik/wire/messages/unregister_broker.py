"""UnregisterBroker (key 64): take a broker that is gone out of the cluster (KIP-631)."""

from chronik.wire.codec import Request, Response
from chronik.wire.schema import int16, int32, string


class UnregisterBrokerRequest(Request, api_key=64, versions="0", flexible="0+"):
    broker_id: int = int32()


class UnregisterBrokerResponse(Response, api_key=64, versions="0", flexible="0+"):
    throttle_time_ms: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable="0+")
