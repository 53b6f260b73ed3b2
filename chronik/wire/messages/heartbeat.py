"""Heartbeat (key 12): a member of a classic group says that it is alive, and hears of a rebalance.

Version 3 adds static members (KIP-345).
"""

from chronik.wire.codec import Request, Response
from chronik.wire.schema import int16, int32, string


class HeartbeatRequest(Request, api_key=12, versions="0-4", flexible="4+"):
    group_id: str = string()
    generation_id: int = int32()
    member_id: str = string()
    group_instance_id: str | None = string("3+", nullable="3+", default=None)


class HeartbeatResponse(Response, api_key=12, versions="0-4", flexible="4+"):
    throttle_time_ms: int = int32("1+", ignorable=True)
    error_code: int = int16()
