"""How the transactional APIs tell a fenced producer so: PRODUCER_FENCED came late (KIP-588)."""

from __future__ import annotations

from chronik.errors import ErrorCode

_PRODUCER_FENCED = ErrorCode.PRODUCER_FENCED
_INVALID_PRODUCER_EPOCH = ErrorCode.INVALID_PRODUCER_EPOCH


def fenced_code(code: ErrorCode, known: bool) -> ErrorCode:
    """`code` as a client can take it: one that does not know PRODUCER_FENCED is told INVALID_PRODUCER_EPOCH."""
    return _INVALID_PRODUCER_EPOCH if code is _PRODUCER_FENCED and not known else code
