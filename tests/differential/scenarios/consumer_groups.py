"""The consumer group protocol (KIP-848): joining, moving partitions, leaving, mistakes, offsets, and groups that change over.

Members name themselves, as clients of version 1 do. Patterns that are valid are left out: Kafka resolves them in its own time.
"""

from __future__ import annotations

from typing import Any

from chronik.coordinator.embedded import Subscription
from chronik.wire.apis import ApiKey
from tests.differential.scenarios import coordinate, create, scenario, versions
from tests.differential.session import Session


class Modern:
    """One member of a group of the consumer protocol."""

    def __init__(self, s: Session, group: str, member: str, topics: list[str], instance: str | None = None) -> None:
        self.s, self.group, self.member, self.topics, self.instance = s, group, member, topics, instance
        self.epoch = 0

    def beat(self, label: str, version: int = 1, **more: Any) -> Any:
        """A heartbeat with what has changed; a full one where the member joins."""
        body: dict[str, Any] = {
            "group_id": self.group,
            "member_id": self.member,
            "member_epoch": self.epoch,
            "instance_id": self.instance,
        }
        if body["member_epoch"] == 0:
            body |= {"rebalance_timeout_ms": 60_000, "subscribed_topic_names": self.topics, "topic_partitions": []}
        answer = self.s.ask(label, ApiKey.CONSUMER_GROUP_HEARTBEAT, version, {**body, **more}, on=self.member)
        if answer is not None and not answer.error_code and "member_epoch" not in more:
            self.epoch = answer.member_epoch
        return answer


def owned(topic_id: bytes, *partitions: int) -> list[dict[str, Any]]:
    return [{"topic_id": topic_id, "partitions": list(partitions)}]


def look(s: Session, label: str, *groups: str) -> None:
    """The groups by both APIs that describe."""
    for version in versions(ApiKey.CONSUMER_GROUP_DESCRIBE):
        s.ask(f"{label}, described", ApiKey.CONSUMER_GROUP_DESCRIBE, version, {"group_ids": list(groups)})
    for version in (0, 6):
        s.ask(f"{label}, described as classic", ApiKey.DESCRIBE_GROUPS, version, {"groups": list(groups)})


@scenario
def consumer_group_life(s: Session) -> None:
    group, topic = "modern", "modern-topic"
    topic_id = create(s, topic, 4)
    coordinate(s, group)
    first, second = Modern(s, group, "first", [topic]), Modern(s, group, "second", [topic])
    first.beat("first joins")
    first.beat("first beats")
    look(s, "one member", group)
    second.beat("second joins")
    second.beat("second waits")
    look(s, "two members", group)
    first.beat("first is told")
    first.beat("first has not given back", topic_partitions=owned(topic_id, 0, 1, 2, 3))
    first.beat("first gives back", topic_partitions=owned(topic_id, 0, 1))
    second.beat("second gets the rest")
    look(s, "at rest", group)
    for states, types in (([], []), ([], ["Consumer"]), ([], ["classic"]), (["stable"], ["consumer"]), (["empty"], [])):
        body = {"states_filter": states, "types_filter": types}
        answer = s.ask("", ApiKey.LIST_GROUPS, 5, body, unrecorded=True)
        found = [(g.group_id, g.group_state, g.group_type) for g in answer.groups if g.group_id == group]
        s.note(f"listed by {states} and {types}", {"found": found})
    second.beat("second says it again", rebalance_timeout_ms=60_000, subscribed_topic_names=[topic],
                topic_partitions=owned(topic_id, 2, 3))  # fmt: skip
    second.beat("second leaves", member_epoch=-1)
    first.beat("first gets all", topic_partitions=owned(topic_id, 0, 1))
    first.beat("first leaves", member_epoch=-1)
    look(s, "empty", group)
    s.ask("deleted", ApiKey.DELETE_GROUPS, 2, {"groups_names": [group]})
    look(s, "gone", group)


@scenario
def consumer_group_mistakes(s: Session) -> None:
    group, topic = "modern-mistaken", "modern-mistaken-topic"
    topic_id = create(s, topic, 2)
    coordinate(s, group)
    stranger = Modern(s, group, "stranger", [topic])
    stranger.beat("beats where no group is", member_epoch=1)
    stranger.beat("leaves where no group is", member_epoch=-1)
    member = Modern(s, group, "member", [topic])
    full = {"rebalance_timeout_ms": 60_000, "subscribed_topic_names": [topic], "topic_partitions": []}
    for label, more in (
        ("without an id", {"member_id": ""}),
        ("without a group", {"group_id": ""}),
        ("with an empty instance id", {"instance_id": ""}),
        ("with an empty rack", {"rack_id": " "}),
        ("without a rebalance timeout", {"rebalance_timeout_ms": -1}),
        ("with partitions", {"topic_partitions": owned(topic_id, 0)}),
        ("without partitions", {"topic_partitions": None}),
        ("without topics", {"subscribed_topic_names": None}),
        ("with an assignor that is not there", {"server_assignor": "sticky"}),
        ("with a broken pattern", {"subscribed_topic_names": None, "subscribed_topic_regex": "("}),
        ("with epoch -2", {"member_epoch": -2}),
        ("with epoch -3", {"member_epoch": -3}),
    ):
        member.beat(f"joins {label}", **{**full, **more})
    member.beat("version 0, without an id", version=0, member_id="", member_epoch=2)
    member.beat("joins")
    for epoch in (7, 0, -2):
        member.beat(f"epoch {epoch}", member_epoch=epoch)
    stranger.beat("a stranger beats", member_epoch=1)
    stranger.beat("a stranger leaves", member_epoch=-1)
    stranger.beat("a stranger leaves by instance", member_epoch=-1, instance_id="nobody")
    classic = {"group_id": group, "generation_id": 1, "member_id": "member"}
    s.ask("classic heartbeat", ApiKey.HEARTBEAT, 4, classic)
    s.ask("classic sync", ApiKey.SYNC_GROUP, 5, {**classic, "protocol_type": "consumer", "protocol_name": "range"})
    s.ask("classic leave", ApiKey.LEAVE_GROUP, 5, {"group_id": group, "members": [{"member_id": "member"}]})
    join = {
        "group_id": group,
        "session_timeout_ms": 10_000,
        "rebalance_timeout_ms": 10_000,
        "protocol_type": "connect",
        "protocols": [{"name": "v2", "metadata": b"x"}],
    }
    s.ask("classic join of another kind", ApiKey.JOIN_GROUP, 9, join)
    s.ask("deleted with members", ApiKey.DELETE_GROUPS, 2, {"groups_names": [group]})


@scenario
def consumer_group_offsets(s: Session) -> None:
    group, topic = "modern-offsets", "modern-offsets-topic"
    create(s, topic, 2)
    coordinate(s, group)
    member = Modern(s, group, "member", [topic])
    member.beat("joins")

    def commit(label: str, member_id: str, epoch: int, version: int = 9) -> None:
        partitions = [{"partition_index": 0, "committed_offset": 5, "committed_metadata": ""}]
        body = {
            "group_id": group,
            "generation_id_or_member_epoch": epoch,
            "member_id": member_id,
            "topics": [{"name": topic, "partitions": partitions}],
        }
        s.ask(label, ApiKey.OFFSET_COMMIT, version, body)

    def fetch(label: str, member_id: str | None, epoch: int) -> None:
        wanted = {"group_id": group, "member_id": member_id, "member_epoch": epoch}
        body = {"groups": [{**wanted, "topics": [{"name": topic, "partition_indexes": [0, 1]}]}]}
        s.ask(label, ApiKey.OFFSET_FETCH, 9, body)

    commit("commits", "member", 1)
    commit("commits, an epoch ahead", "member", 2)
    commit("commits, an epoch behind", "member", 0)
    commit("commits by version 8", "member", 1, 8)
    commit("a stranger commits", "stranger", 1)
    commit("an administrator commits", "", -1)
    fetch("fetches", "member", 1)
    fetch("fetches, an epoch ahead", "member", 2)
    fetch("a stranger fetches", "stranger", 1)
    fetch("an administrator fetches", None, -1)
    deleted = {"group_id": group, "topics": [{"name": topic, "partitions": [{"partition_index": 0}]}]}
    s.ask("offsets deleted in use", ApiKey.OFFSET_DELETE, 0, deleted)
    member.beat("leaves", member_epoch=-1)
    commit("commits after leaving", "member", 1)
    commit("an administrator commits to the empty group", "", -1)
    s.ask("offsets deleted", ApiKey.OFFSET_DELETE, 0, deleted)
    fetch("nothing is left", None, -1)


@scenario
def consumer_group_static(s: Session) -> None:
    group, topic = "modern-static", "modern-static-topic"
    create(s, topic, 2)
    coordinate(s, group)
    first = Modern(s, group, "first", [topic], "one")
    first.beat("first joins")
    second = Modern(s, group, "second", [topic], "one")
    second.beat("second wants the place")
    first.beat("first leaves for a while", member_epoch=-2)
    second.beat("second takes the place")
    first.beat("first is fenced")
    first.beat("first leaves, fenced", member_epoch=-1)
    look(s, "one member", group)
    second.beat("second leaves for good", member_epoch=-1)
    second.beat("second leaves again", member_epoch=-1)


@scenario
def consumer_group_changes_over(s: Session) -> None:
    """A classic group takes in a member of the consumer protocol, and is a classic one again when that has left."""
    group, topic = "changing", "changing-topic"
    topic_id = create(s, topic, 2)
    coordinate(s, group)
    wants = b"\x00\x01" + Subscription(topics=[topic]).encode(1)
    body = {
        "group_id": group,
        "session_timeout_ms": 10_000,
        "rebalance_timeout_ms": 10_000,
        "member_id": "",
        "group_instance_id": "old",
        "protocol_type": "consumer",
        "protocols": [{"name": "cooperative-sticky", "metadata": wants}],
    }
    joined = s.ask("the classic member joins", ApiKey.JOIN_GROUP, 9, body)
    identity = {"group_id": group, "generation_id": joined.generation_id, "member_id": joined.member_id}
    identity |= {"group_instance_id": "old"}
    names = {"protocol_type": "consumer", "protocol_name": "cooperative-sticky"}
    share = b"\x00\x01\x00\x00\x00\x01" + len(topic).to_bytes(2, "big") + topic.encode()
    share += b"\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff"
    handed_in = [{"member_id": joined.member_id, "assignment": share}]
    s.ask("it assigns itself everything", ApiKey.SYNC_GROUP, 5, {**identity, **names, "assignments": handed_in})
    modern = Modern(s, group, "modern", [topic])
    modern.beat("one that does not join", member_epoch=1)
    modern.beat("the modern member joins")
    look(s, "both", group)
    s.ask("the classic member is told", ApiKey.HEARTBEAT, 4, identity)
    rejoin = {**body, "member_id": joined.member_id, "protocols": [{"name": "cooperative-sticky", "metadata": wants}]}
    again = s.ask("it joins again, having given all back", ApiKey.JOIN_GROUP, 9, rejoin)
    identity["generation_id"] = again.generation_id
    s.ask("it syncs", ApiKey.SYNC_GROUP, 5, {**identity, **names})
    s.ask("it beats", ApiKey.HEARTBEAT, 4, identity)
    s.ask("it beats in the old generation", ApiKey.HEARTBEAT, 4, {**identity, "generation_id": joined.generation_id})
    modern.beat("the modern member gets its share")
    modern.beat("the modern member beats", topic_partitions=owned(topic_id, 1))
    look(s, "at rest", group)
    modern.beat("the modern member leaves", member_epoch=-1)
    s.ask("the group is classic", ApiKey.DESCRIBE_GROUPS, 6, {"groups": [group]})
    s.ask("it beats in the classic group", ApiKey.HEARTBEAT, 4, {**identity, "generation_id": again.generation_id + 1})
    s.ask("it leaves", ApiKey.LEAVE_GROUP, 5, {"group_id": group, "members": [
        {"member_id": joined.member_id, "group_instance_id": "old"}]})  # fmt: skip
    modern.epoch = 0
    modern.beat("a modern member joins the empty classic group")
    look(s, "changed over", group)


@scenario
def consumer_group_configs(s: Session) -> None:
    """Configs of a group that is not there."""
    group = {"resource_type": 32, "resource_name": "modern-configured"}
    session, heartbeat = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"

    def describe(label: str, name: str = "modern-configured") -> None:
        resource = {**group, "resource_name": name, "configuration_keys": [session, heartbeat]}
        body = {"resources": [resource], "include_synonyms": True, "include_documentation": False}
        s.ask(label, ApiKey.DESCRIBE_CONFIGS, 4, body)

    def alter(
        label: str, name: str, value: str | None, operation: int = 0, resource: str = "modern-configured"
    ) -> None:
        config = {"name": name, "config_operation": operation, "value": value}
        resources = [{**group, "resource_name": resource, "configs": [config]}]
        s.ask(label, ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, {"resources": resources, "validate_only": False})

    describe("at its defaults")
    describe("no name", "")
    alter("set", session, "50000")
    s.wait_until(
        ApiKey.DESCRIBE_CONFIGS,
        4,
        {"resources": [{**group, "configuration_keys": [session]}]},
        lambda answer: answer.results[0].configs[0].value == "50000",
    )
    describe("when set")
    for label, name, value in (
        ("too short", session, "44999"),
        ("too long", session, "60001"),
        ("too seldom", heartbeat, "15001"),
        ("no number", heartbeat, "often"),
        ("not there", "consumer.patience", "1"),
        ("of a topic", "retention.ms", "1"),
        ("null", session, None),
    ):
        alter(f"set, {label}", name, value)
    alter("appended to", session, "1", 2)
    alter("set, no name", session, "50000", resource="")
    alter("deleted", session, None, 1)
