"""ListGroups (key 16): the groups that this broker coordinates.

Version 4 adds the state and a filter by it (KIP-518), 5 the same for the type of the group (KIP-848).
"""

from chronik.wire.codec import Request, Response
from chronik.wire.schema import Struct, array, int16, int32, string


class ListGroupsRequest(Request, api_key=16, versions="0-5", flexible="3+"):
    MAX_ELEMENTS = 1000  # there are less than ten states and types

    states_filter: list[str] = array(string(), "4+")
    types_filter: list[str] = array(string(), "5+")


class ListedGroup(Struct):
    group_id: str = string()
    protocol_type: str = string()
    group_state: str = string("4+", ignorable=True)
    group_type: str = string("5+", ignorable=True)


class ListGroupsResponse(Response, api_key=16, versions="0-5", flexible="3+"):
    throttle_time_ms: int = int32("1+", ignorable=True)
    error_code: int = int16()
    groups: list[ListedGroup] = array(ListedGroup)
