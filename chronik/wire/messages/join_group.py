"""JoinGroup (key 11): enter a classic group, or enter it again when it rebalances.

Version 1 adds a rebalance timeout of its own (KIP-62), 4 the first answer that only hands out a member id (KIP-394),
5 static members (KIP-345), 7 the protocol type in the answer (KIP-559), 8 the reason for joining (KIP-800), 9 the
order to a static leader to leave the assignment as it is (KIP-814).
"""

from chronik.wire.codec import Request, Response
from chronik.wire.schema import Struct, array, boolean, int16, int32, octets, string


class JoinGroupRequestProtocol(Struct):
    name: str = string()
    metadata: bytes = octets()


class JoinGroupRequest(Request, api_key=11, versions="0-9", flexible="6+"):
    MAX_ELEMENTS = 1000  # a member has one protocol for each of its assignors

    group_id: str = string()
    session_timeout_ms: int = int32()
    rebalance_timeout_ms: int = int32("1+", default=-1, ignorable=True)
    member_id: str = string()
    group_instance_id: str | None = string("5+", nullable="5+", default=None)
    protocol_type: str = string()
    protocols: list[JoinGroupRequestProtocol] = array(JoinGroupRequestProtocol)
    reason: str | None = string("8+", nullable="8+", default=None, ignorable=True)


class JoinGroupResponseMember(Struct):
    member_id: str = string()
    group_instance_id: str | None = string("5+", nullable="5+", default=None, ignorable=True)
    metadata: bytes = octets()


class JoinGroupResponse(Response, api_key=11, versions="0-9", flexible="6+"):
    throttle_time_ms: int = int32("2+", ignorable=True)
    error_code: int = int16()
    generation_id: int = int32(default=-1)
    protocol_type: str | None = string("7+", nullable="7+", default=None, ignorable=True)
    protocol_name: str | None = string(nullable="7+")
    leader: str = string()
    skip_assignment: bool = boolean("9+")
    member_id: str = string()
    members: list[JoinGroupResponseMember] = array(JoinGroupResponseMember)
