"""A group as it is stored, and back: between a roster and the value of its record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chronik.coordinator.member import Member
from chronik.coordinator.records import GroupMetadataValue, MemberMetadata
from chronik.coordinator.roster import Roster


def value_of(roster: Roster, generation: int, assignments: Mapping[str, bytes]) -> GroupMetadataValue:
    """The group with these assignments; its timestamp is filled in where the record is made."""
    protocol = roster.protocol_name or ""
    return GroupMetadataValue(
        protocol_type=roster.protocol_type or "",
        generation=generation,
        protocol=roster.protocol_name,
        leader=roster.leader_id,
        members=[
            MemberMetadata(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                rebalance_timeout=member.rebalance_timeout_ms,
                session_timeout=member.session_timeout_ms,
                subscription=member.protocols.get(protocol, b""),
                assignment=assignments.get(member.member_id, b""),
            )
            for member in roster
        ],
    )


def members_of(value: GroupMetadataValue) -> Iterator[Member]:
    """The members of a stored group. Version 0 has no rebalance timeout: the session timeout stands for it."""
    for stored in value.members:
        yield Member(
            stored.member_id,
            stored.group_instance_id,
            stored.client_id,
            stored.client_host,
            stored.session_timeout if stored.rebalance_timeout == -1 else stored.rebalance_timeout,
            stored.session_timeout,
            value.protocol_type,
            {value.protocol or "": stored.subscription},
            stored.assignment,
        )
