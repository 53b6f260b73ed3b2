"""What goes in and out of a group's state machine beside requests and responses: states, effects and their reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.coordinator.member import Member
from chronik.coordinator.records import Entry, GroupMetadataValue
from chronik.errors import ErrorCode, KafkaError
from chronik.model import Uuid
from chronik.wire.messages.join_group import JoinGroupResponse

if TYPE_CHECKING:
    from chronik.coordinator.rounds import Rounds
    from chronik.coordinator.share_group import Kept


class GroupState(Enum):
    """The states, by the names that ListGroups and DescribeGroups give them."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


class Joiner(NamedTuple):
    """Who joins, beside what the request says. `fresh_id` is a new random text, for a member that has no id yet."""

    client_id: str
    client_host: str
    api_version: int
    fresh_id: str


class Answer(NamedTuple):
    """The request of `token` is answered."""

    token: Any
    response: Any


def join_refused(member_id: str, error: ErrorCode) -> JoinGroupResponse:
    """The answer to a join that fails: no generation, and no protocol."""
    return JoinGroupResponse(member_id=member_id, protocol_name=None, error_code=error)


@dataclass(frozen=True, slots=True)
class Store:
    """Write `value` to the log, then tell `group.stored(self, error, now)`. `reason` is what it was decided for."""

    group: Rounds
    value: GroupMetadataValue
    reason: Assigned | StaticRejoined | None


class Refuse(NamedTuple):
    """The request of `token` fails."""

    token: Any
    error: KafkaError


class Append(NamedTuple):
    """Append `entries` as one batch, then tell `shard.written(group_id, error, now)`."""

    group_id: str
    entries: list[Entry]


class Initialise(NamedTuple):
    """Have the share coordinator keep state of partitions, then tell `shard.shares.settled(group_id, ...)`."""

    group_id: str
    state_epoch: int
    topics: Mapping[Uuid, Kept]


Effect = Answer | Store | Refuse | Append | Initialise
Effects = list[Effect]
"""To be carried out in order."""


class Assigned(NamedTuple):
    """The leader of `generation` handed in these assignments."""

    generation: int
    assignments: Mapping[str, bytes]


class StaticRejoined(NamedTuple):
    """A static member came back as `new_id`; `old` is what it was as `old_id`, for when that cannot be stored."""

    token: Any
    api_version: int
    new_id: str
    old_id: str
    old: Member
    old_leader: str | None
