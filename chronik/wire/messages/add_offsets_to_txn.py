"""AddOffsetsToTxn (key 25): enter a group's offsets in a transaction, before TxnOffsetCommit writes them (KIP-98).

Version 2 adds PRODUCER_FENCED (KIP-588), 4 TRANSACTION_ABORTABLE (KIP-890).
"""

from chronik.wire.codec import Request, Response
from chronik.wire.schema import int16, int32, int64, string


class AddOffsetsToTxnRequest(Request, api_key=25, versions="0-4", flexible="3+"):
    transactional_id: str = string()
    producer_id: int = int64()
    producer_epoch: int = int16()
    group_id: str = string()


class AddOffsetsToTxnResponse(Response, api_key=25, versions="0-4", flexible="3+"):
    throttle_time_ms: int = int32()
    error_code: int = int16()
