"""EndTxn (key 26): commit or abort a transaction (KIP-98).

Version 2 adds PRODUCER_FENCED (KIP-588), 4 TRANSACTION_ABORTABLE; from 5 on every transaction ends with a new epoch,
which the answer carries (KIP-890).
"""

from chronik.wire.codec import Request, Response
from chronik.wire.schema import boolean, int16, int32, int64, string


class EndTxnRequest(Request, api_key=26, versions="0-5", flexible="3+"):
    transactional_id: str = string()
    producer_id: int = int64()
    producer_epoch: int = int16()
    committed: bool = boolean()


class EndTxnResponse(Response, api_key=26, versions="0-5", flexible="3+"):
    throttle_time_ms: int = int32()
    error_code: int = int16()
    producer_id: int = int64("5+", default=-1, ignorable=True)
    producer_epoch: int = int16("5+", default=-1, ignorable=True)
