"""InitProducerId (key 22): get a producer id and epoch, for idempotence alone or for a transactional id (KIP-98).

With a transactional id, what its last user left open is ended first. Version 3 lets a producer ask for the next epoch
of the id it has (KIP-360), 4 adds PRODUCER_FENCED (KIP-588), 5 TRANSACTION_ABORTABLE (KIP-890).
"""

from chronik.wire.codec import Request, Response
from chronik.wire.schema import int16, int32, int64, string


class InitProducerIdRequest(Request, api_key=22, versions="0-5", flexible="2+"):
    transactional_id: str | None = string(nullable="0+")
    transaction_timeout_ms: int = int32()
    producer_id: int = int64("3+", default=-1)
    producer_epoch: int = int16("3+", default=-1)


class InitProducerIdResponse(Response, api_key=22, versions="0-5", flexible="2+"):
    throttle_time_ms: int = int32(ignorable=True)
    error_code: int = int16()
    producer_id: int = int64(default=-1)
    producer_epoch: int = int16()
