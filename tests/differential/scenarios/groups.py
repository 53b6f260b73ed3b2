"""The classic group protocol: joining, syncing, heartbeats, leaving, static members, and the mistakes a client can make."""

from __future__ import annotations

import time
from typing import Any

from chronik.wire.apis import ApiKey
from tests.differential.scenarios import coordinate, latest, scenario, versions
from tests.differential.session import Pending, Session

MEMBER_ID_REQUIRED = 79


class Member:
    """One member of a group on a connection of its own."""

    def __init__(self, s: Session, group: str, name: str = "", version: int = 9, instance: str | None = None) -> None:
        self.s, self.group, self.name, self.version, self.instance = s, group, name, version, instance
        self.id, self.generation = "", -1

    def begin_join(self, label: str, **more: Any) -> Pending:
        body = {
            "group_id": self.group,
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 10_000,
            "member_id": self.id,
            "group_instance_id": self.instance,
            "protocol_type": "consumer",
            "protocols": [{"name": "range", "metadata": b"meta"}, {"name": "roundrobin", "metadata": b"other"}],
            **more,
        }
        return self.s.begin(label, ApiKey.JOIN_GROUP, self.version, body, on=self.name)

    def end_join(self, pending: Pending) -> Any:
        answer = self.s.read(pending)
        if answer is not None and (not answer.error_code or answer.error_code == MEMBER_ID_REQUIRED):
            self.id, self.generation = answer.member_id, answer.generation_id
        return answer

    def join(self, label: str, **more: Any) -> Any:
        """Join, and once more when the broker wants the id it gave."""
        answer = self.end_join(self.begin_join(label, **more))
        if answer is not None and answer.error_code == MEMBER_ID_REQUIRED:
            answer = self.end_join(self.begin_join(f"{label}, with the id", **more))
        return answer

    def begin_sync(self, label: str, assignments: dict[str, bytes] | None = None, **more: Any) -> Pending:
        shares = [{"member_id": member, "assignment": share} for member, share in (assignments or {}).items()]
        body = {
            "group_id": self.group,
            "generation_id": self.generation,
            "member_id": self.id,
            "group_instance_id": self.instance,
            "protocol_type": "consumer",
            "protocol_name": "range",
            "assignments": shares,
            **more,
        }
        return self.s.begin(label, ApiKey.SYNC_GROUP, min(self.version, 5), body, on=self.name)

    def sync(self, label: str, assignments: dict[str, bytes] | None = None, **more: Any) -> Any:
        return self.s.read(self.begin_sync(label, assignments, **more))

    def beat(self, label: str, **more: Any) -> Any:
        body = {"group_id": self.group, "generation_id": self.generation, "member_id": self.id}
        body.update({"group_instance_id": self.instance, **more})
        return self.s.ask(label, ApiKey.HEARTBEAT, min(self.version, 4), body, on=self.name)

    def leave(self, label: str, **more: Any) -> Any:
        identity = {"member_id": self.id, "group_instance_id": self.instance, **more}
        body = {"group_id": self.group, "member_id": identity["member_id"], "members": [identity]}
        return self.s.ask(label, ApiKey.LEAVE_GROUP, min(self.version, 5), body, on=self.name)


def describe(s: Session, label: str, *groups: str) -> None:
    s.ask(label, ApiKey.DESCRIBE_GROUPS, latest(ApiKey.DESCRIBE_GROUPS), {"groups": list(groups)})


@scenario
def find_coordinator(s: Session) -> None:
    coordinate(s, "sought")
    for version in versions(ApiKey.FIND_COORDINATOR):
        body = {"key": "sought", "key_type": 0, "coordinator_keys": ["sought"]}
        s.ask("group", ApiKey.FIND_COORDINATOR, version, body)
        if version >= 1:
            s.ask("kind 5", ApiKey.FIND_COORDINATOR, version, {**body, "key_type": 5})
        s.ask("empty name", ApiKey.FIND_COORDINATOR, version, {"key": "", "key_type": 0, "coordinator_keys": [""]})
        if version >= 4:
            s.ask("two", ApiKey.FIND_COORDINATOR, version, {"key_type": 0, "coordinator_keys": ["sought", "found"]})
            s.ask("not one", ApiKey.FIND_COORDINATOR, version, {"key_type": 0, "coordinator_keys": []})


@scenario
def group_alone_by_version(s: Session) -> None:
    for version in versions(ApiKey.JOIN_GROUP):
        group = f"alone-v{version}"
        coordinate(s, group)
        member = Member(s, group, version=version)
        member.join("joins")
        member.beat("beats before syncing")
        member.sync("syncs", {member.id: b"share"})
        member.sync("syncs again", {})
        member.beat("beats")
        for described in versions(ApiKey.DESCRIBE_GROUPS):
            body = {"groups": [group], "include_authorized_operations": described == 4}
            s.ask("described", ApiKey.DESCRIBE_GROUPS, described, body)
        member.join("joins again, the same")
        member.sync("syncs", {member.id: b"share"})
        member.leave("leaves")
        member.beat("beats after leaving")
        describe(s, "empty", group)


@scenario
def group_mistakes(s: Session) -> None:
    group = "mistaken"
    coordinate(s, group)
    stranger = Member(s, group)
    stranger.id, stranger.generation = "stranger", 1
    for label, call in (
        ("beats", stranger.beat),
        ("leaves", stranger.leave),
        ("syncs", stranger.sync),
        ("joins", stranger.join),
    ):
        call(f"a stranger {label} where no group is")
    member = Member(s, group)
    member.join("joins")
    member.sync("syncs", {member.id: b"share"})
    stranger.id = "stranger"
    for label, call in (
        ("beats", stranger.beat),
        ("leaves", stranger.leave),
        ("syncs", stranger.sync),
        ("joins", stranger.join),
    ):
        call(f"a stranger {label}")
    member.beat("generation 99", generation_id=99)
    member.beat("generation -1", generation_id=-1)
    member.sync("generation 99", {}, generation_id=99)
    member.sync("another protocol", {}, protocol_name="sticky")
    member.sync("another kind", {}, protocol_type="connect")
    member.beat("no group", group_id="")
    member.beat("still well")
    other = Member(s, group, "other")
    other.join("another kind", protocol_type="connect")
    other.id = ""
    other.join("no common protocol", protocols=[{"name": "sticky", "metadata": b""}])
    other.id = ""
    other.join("no protocol", protocols=[])
    other.id = ""
    other.join("empty kind", protocol_type="")
    for timeout in (1, 5_999, 1_800_001, 0, -1):
        other.id = ""
        other.join(f"session of {timeout} ms", session_timeout_ms=timeout)
    other.id = ""
    other.join("empty group", group_id="")
    member.leave("leaves")
    other.beat("where nobody is", group_id="nobody-here")


@scenario
def group_of_two(s: Session) -> None:
    group = "pair"
    coordinate(s, group)
    one, two = Member(s, group, "one"), Member(s, group, "two")
    one.join("one joins")
    one.sync("one syncs", {one.id: b"all"})
    answer = two.end_join(two.begin_join("two asks"))
    assert answer.error_code == MEMBER_ID_REQUIRED, answer
    joining = two.begin_join("two joins")
    time.sleep(0.3)
    one.beat("one is told")
    describe(s, "while rebalancing", group)
    one.end_join(one.begin_join("one rejoins"))
    two.end_join(joining)
    waiting = two.begin_sync("two waits for its share")
    time.sleep(0.2)
    one.sync("one hands out", {one.id: b"half", two.id: b"other half"})
    s.read(waiting)
    two.beat("two beats")
    describe(s, "stable", group)
    s.ask("delete while in use", ApiKey.DELETE_GROUPS, 2, {"groups_names": [group]})
    one.leave("one leaves")
    two.beat("two is told")
    two.join("two alone")
    two.sync("two has all", {two.id: b"all"})
    two.leave("two leaves")
    s.ask("deleted", ApiKey.DELETE_GROUPS, 2, {"groups_names": [group]})
    describe(s, "gone", group)


@scenario
def group_static_members(s: Session) -> None:
    group = "static"
    coordinate(s, group)
    first = Member(s, group, "first", instance="i-1")
    first.join("joins without a detour")
    first.sync("syncs", {first.id: b"share"})
    old = first.id
    again = Member(s, group, "again", instance="i-1")
    again.join("the same instance, restarted")
    again.sync("its share is kept", {})
    first.id = old
    first.beat("the old one is fenced")
    first.sync("the old one syncs", {})
    first.begin_join("the old one joins")
    s.drop("first")
    again.beat("the new one is well")
    describe(s, "described", group)
    stranger = Member(s, group, "again", instance="i-9")
    stranger.id, stranger.generation = again.id, again.generation
    stranger.beat("the id under another instance")
    by_instance = [{"member_id": "", "group_instance_id": name} for name in ("i-1", "i-9")]
    body = {"group_id": group, "members": by_instance}
    s.ask("an operator removes them", ApiKey.LEAVE_GROUP, 5, body)
    describe(s, "described after", group)


@scenario
def group_leaving_many(s: Session) -> None:
    group = "leaving"
    coordinate(s, group)
    member = Member(s, group)
    member.join("joins")
    member.sync("syncs", {member.id: b"share"})
    members = [{"member_id": member.id}, {"member_id": "stranger"}, {"member_id": ""}]
    for version in (3, 4, 5):
        s.ask("several", ApiKey.LEAVE_GROUP, version, {"group_id": group, "members": members})
    s.ask("nobody", ApiKey.LEAVE_GROUP, 5, {"group_id": group, "members": []})
    s.ask("of no group", ApiKey.LEAVE_GROUP, 5, {"group_id": "no-such-group", "members": members[1:2]})
    s.ask("of the empty group", ApiKey.LEAVE_GROUP, 5, {"group_id": "", "members": members[1:2]})


@scenario
def groups_listed(s: Session) -> None:
    before = s.ask("", ApiKey.LIST_GROUPS, 5, {}, unrecorded=True)
    for group in before.groups:
        s.ask("", ApiKey.DELETE_GROUPS, 2, {"groups_names": [group.group_id]}, unrecorded=True)
    s.wait_until(ApiKey.LIST_GROUPS, 5, {}, lambda answer: not answer.groups)
    coordinate(s, "listed-group")
    member = Member(s, "listed-group")
    member.join("joins")
    member.sync("syncs", {member.id: b"share"})
    for version in versions(ApiKey.LIST_GROUPS):
        s.ask("all", ApiKey.LIST_GROUPS, version, {})
    for states in (["Stable"], ["stable"], ["Empty"], ["Empty", "Stable"], ["Nonsense"], [""]):
        s.ask(f"in {states}", ApiKey.LIST_GROUPS, 4, {"states_filter": states})
    for kinds in (["classic"], ["Classic"], ["consumer"], ["nonsense"]):
        s.ask(f"of {kinds}", ApiKey.LIST_GROUPS, 5, {"types_filter": kinds})
    member.leave("leaves")
    s.ask("empty", ApiKey.LIST_GROUPS, 5, {})
    for version in versions(ApiKey.DELETE_GROUPS):
        names = {"groups_names": ["listed-group", "no-such-group", ""]}
        s.ask("deleted", ApiKey.DELETE_GROUPS, version, names)
        s.ask("not one", ApiKey.DELETE_GROUPS, version, {"groups_names": []})
    for version in versions(ApiKey.DESCRIBE_GROUPS):
        s.ask("none", ApiKey.DESCRIBE_GROUPS, version, {"groups": ["no-such-group", ""]})
        s.ask("not one", ApiKey.DESCRIBE_GROUPS, version, {"groups": []})
