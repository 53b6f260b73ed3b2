"""Classic groups seen from outside: how they are listed and described. Pure."""

from __future__ import annotations

from chronik.coordinator.effects import GroupState
from chronik.coordinator.group import Group
from chronik.wire.messages.describe_groups import DescribedGroup, DescribedGroupMember
from chronik.wire.messages.list_groups import ListedGroup

CLASSIC = "classic"


def classic_listing(group: Group) -> ListedGroup:
    """The group as ListGroups has it."""
    return ListedGroup(
        group_id=group.group_id,
        protocol_type=group.roster.protocol_type or "",
        group_state=group.state.value,
        group_type=CLASSIC,
    )


def describe_classic_group(group: Group) -> DescribedGroup:
    """The group as DescribeGroups has it. Metadata is shown of stable groups only."""
    protocol = (group.roster.protocol_name or "") if group.state is GroupState.STABLE else ""
    return DescribedGroup(
        group_id=group.group_id,
        group_state=group.state.value,
        protocol_type=group.roster.protocol_type or "",
        protocol_data=protocol,
        members=[
            DescribedGroupMember(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=member.protocols.get(protocol, b""),
                member_assignment=member.assignment,
            )
            for member in group.roster
        ],
    )
