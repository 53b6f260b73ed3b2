"""RenewDelegationToken (key 39): move the expiry of a delegation token forward (KIP-48)."""

from chronik.wire.codec import Request, Response
from chronik.wire.schema import int16, int32, int64, octets


class RenewDelegationTokenRequest(Request, api_key=39, versions="1-2", flexible="2+"):
    hmac: bytes = octets()
    renew_period_ms: int = int64()


class RenewDelegationTokenResponse(Response, api_key=39, versions="1-2", flexible="2+"):
    error_code: int = int16()
    expiry_timestamp_ms: int = int64()
    throttle_time_ms: int = int32()
