"""SaslAuthenticate (key 36): one step of a SASL exchange (KIP-152).

Version 1 adds the lifetime of the session, after which the client authenticates again (KIP-368).
"""

from chronik.wire.codec import Request, Response
from chronik.wire.schema import int16, int64, octets, string


class SaslAuthenticateRequest(Request, api_key=36, versions="0-2", flexible="2+"):
    auth_bytes: bytes = octets()


class SaslAuthenticateResponse(Response, api_key=36, versions="0-2", flexible="2+"):
    error_code: int = int16()
    error_message: str | None = string(nullable="0+")
    auth_bytes: bytes = octets()
    session_lifetime_ms: int = int64("1+", ignorable=True)
