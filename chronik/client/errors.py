"""What can go wrong between this client and a cluster, apart from a broker's own refusal (`chronik.errors.KafkaError`).

Every text is one line that names the address and says what happened; the callers that talk to people add what to do.
"""

from __future__ import annotations

from chronik.errors import ChronikError, ErrorCode, KafkaError


class ClientError(ChronikError):
    """The client could not get an answer, or could not use the one it got."""


class Unreachable(ClientError):
    """No connection could be made to an address, or to any of the bootstrap addresses."""


class ConnectionClosed(ClientError):
    """The connection ended before the response came. Whether the broker carried out the request is unknown."""


class RequestTimedOut(ClientError):
    """The broker accepted the request but did not answer in time. Whether it carried it out is unknown."""


class UnsupportedApi(ClientError):
    """The broker does not serve the API, or no version of it that this client speaks."""


class BadResponse(ClientError):
    """The bytes that came back are not the response that was waited for."""


class DeliveryTimedOut(ClientError):
    """A record could not be delivered within the producer's delivery timeout."""


def error_code(number: int) -> ErrorCode:
    """The named code for `number`; one that this release doesn't know counts as UNKNOWN_SERVER_ERROR."""
    try:
        return ErrorCode(number)
    except ValueError:
        return ErrorCode.UNKNOWN_SERVER_ERROR


def check(number: int, message: str | None = None) -> None:
    """Raise KafkaError for an error code other than 0; `message` is the broker's, or says what was asked."""
    if number:
        raise KafkaError(error_code(number), message)
