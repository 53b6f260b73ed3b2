"""SaslHandshake (key 17): choose a SASL mechanism.

After version 0 the tokens follow as bare frames outside the protocol; after version 1 they travel in SaslAuthenticate
(KIP-152).
"""

from chronik.wire.codec import Request, Response
from chronik.wire.schema import array, int16, string


class SaslHandshakeRequest(Request, api_key=17, versions="0-1"):
    mechanism: str = string()


class SaslHandshakeResponse(Response, api_key=17, versions="0-1"):
    error_code: int = int16()
    mechanisms: list[str] = array(string())
