"""ExpireDelegationToken (key 40): set when a delegation token expires, at once included (KIP-48)."""

from chronik.wire.codec import Request, Response
from chronik.wire.schema import int16, int32, int64, octets


class ExpireDelegationTokenRequest(Request, api_key=40, versions="1-2", flexible="2+"):
    hmac: bytes = octets()
    expiry_time_period_ms: int = int64()


class ExpireDelegationTokenResponse(Response, api_key=40, versions="1-2", flexible="2+"):
    error_code: int = int16()
    expiry_timestamp_ms: int = int64()
    throttle_time_ms: int = int32()
