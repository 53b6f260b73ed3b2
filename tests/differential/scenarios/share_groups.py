"""Share groups (KIP-932): members, sessions, records given out and what is said of them, state, start offsets, mistakes."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from chronik.wire.apis import ApiKey
from tests.differential.batches import Batch
from tests.differential.scenarios import append, coordinate, create, produce_body, scenario
from tests.differential.session import Session

GAP, ACCEPT, RELEASE, REJECT = range(4)
GROUP_RESOURCE = 32
SHARES = "share.version"


def member_id(name: str) -> str:
    """A UUID as Kafka writes them, always the same for a name. It begins with a letter: some take a dash for an option."""
    return "m" + base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()[:16]).decode().rstrip("=")[1:]


class Sharer:
    """A member of a share group: its heartbeats, its session with the node, on a connection of its own."""

    def __init__(self, s: Session, group: str, name: str, topics: list[str]) -> None:
        self.s, self.group, self.name, self.topics = s, group, name, topics
        self.member_id = member_id(f"{group}/{name}")
        self.epoch = 0
        self.session_epoch = 0

    # Membership.

    def beat(self, label: str, unrecorded: bool = False, **more: Any) -> Any:
        """A heartbeat; a full one where the member joins."""
        body: dict[str, Any] = {"group_id": self.group, "member_id": self.member_id, "member_epoch": self.epoch}
        if self.epoch == 0:
            body["subscribed_topic_names"] = self.topics
        answer = self.s.ask(
            label, ApiKey.SHARE_GROUP_HEARTBEAT, 1, {**body, **more}, on=self.name, unrecorded=unrecorded
        )
        if answer is not None and not answer.error_code and "member_epoch" not in more:
            self.epoch = answer.member_epoch
        return answer

    def join(self, *topic_ids: bytes) -> Any:
        """Join without a record, until something of each of these topics is assigned; the last answer."""

        def settled(answer: Any) -> bool:
            if answer.error_code:
                return False
            self.epoch = answer.member_epoch
            found = {each.topic_id for each in answer.assignment.topic_partitions} if answer.assignment else set()
            return found >= set(topic_ids)

        first = self.beat("", unrecorded=True)
        if first is not None and settled(first):
            return first
        names = {"subscribed_topic_names": self.topics}
        while True:
            body = {"group_id": self.group, "member_id": self.member_id, "member_epoch": self.epoch, **names}
            answer = self.s.wait_until(ApiKey.SHARE_GROUP_HEARTBEAT, 1, body, lambda answer: not answer.error_code)
            if settled(answer):
                return answer

    # Records.

    def fetch(self, label: str, topics: dict[bytes, Any] | None = None, unrecorded: bool = False, **more: Any) -> Any:
        """ShareFetch. `topics` has the partitions of each, or what is said of each partition: (first, last, types) triples."""
        body = {
            "group_id": self.group,
            "member_id": self.member_id,
            "share_session_epoch": self.session_epoch,
            "max_wait_ms": 200,
            "min_bytes": 1,
            "max_records": 1000,
            "batch_size": 1000,
            "topics": _topics(topics or {}),
        }
        answer = self.s.ask(label, ApiKey.SHARE_FETCH, 1, {**body, **more}, on=self.name, unrecorded=unrecorded)
        self._next(answer, more)
        return answer

    def takes(self) -> list[tuple[int, int, int]]:
        """The next records that are given out, of one partition, unrecorded: as soon as there are any."""
        for _ in range(20):
            topics = self.fetch("", unrecorded=True, max_wait_ms=500).responses
            if topics and topics[0].partitions[0].acquired_records:
                given = topics[0].partitions[0].acquired_records
                return [(each.first_offset, each.last_offset, each.delivery_count) for each in given]
        return []

    def acknowledge(self, label: str, topics: dict[bytes, Any], unrecorded: bool = False, **more: Any) -> Any:
        """ShareAcknowledge."""
        body = {
            "group_id": self.group,
            "member_id": self.member_id,
            "share_session_epoch": self.session_epoch,
            "topics": _topics(topics),
        }
        answer = self.s.ask(label, ApiKey.SHARE_ACKNOWLEDGE, 1, {**body, **more}, on=self.name, unrecorded=unrecorded)
        self._next(answer, more)
        return answer

    def _next(self, answer: Any, more: dict[str, Any]) -> None:
        if answer is not None and not answer.error_code and "share_session_epoch" not in more:
            self.session_epoch += 1

    def opens(self, *partitions: tuple[bytes, int]) -> None:
        """Begin a session, unrecorded, and wait until the partitions can be read: they are loaded at the first look."""
        topics: dict[bytes, Any] = {}
        for topic_id, partition in partitions:
            topics.setdefault(topic_id, {})[partition] = []
        self.session_epoch = 0
        self.fetch("", topics, unrecorded=True, max_records=0, max_wait_ms=500)


def _topics(topics: dict[bytes, Any]) -> list[dict[str, Any]]:
    return [
        {
            "topic_id": topic_id,
            "partitions": [
                {
                    "partition_index": partition,
                    "acknowledgement_batches": [
                        {"first_offset": first, "last_offset": last, "acknowledge_types": list(types)}
                        for first, last, *types in said
                    ],
                }
                for partition, said in partitions.items()
            ],
        }
        for topic_id, partitions in topics.items()
    ]


def serve(s: Session) -> None:
    """Have share groups served, from now on."""
    client = {"client_software_name": "differential", "client_software_version": "1.0"}

    def served(answer: Any) -> bool:
        return any(each.name == SHARES and each.max_version_level == 1 for each in answer.finalized_features)

    if not served(s.ask("", ApiKey.API_VERSIONS, 4, client, unrecorded=True)):
        update = {"feature": SHARES, "max_version_level": 1, "upgrade_type": 1}
        s.ask("", ApiKey.UPDATE_FEATURES, 2, {"timeout_ms": 10_000, "feature_updates": [update]}, unrecorded=True)
        s.wait_until(ApiKey.API_VERSIONS, 4, client, served)


def earliest(s: Session, group: str, **configs: str) -> None:
    """Have a group begin at the beginning, and have it coordinated; have share groups served."""
    serve(s)
    values = {"share.auto.offset.reset": "earliest", **configs}
    body = {
        "resources": [
            {
                "resource_type": GROUP_RESOURCE,
                "resource_name": group,
                "configs": [{"name": name, "config_operation": 0, "value": value} for name, value in values.items()],
            }
        ]
    }
    s.wait_until(
        ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, body, lambda answer: not any(each.error_code for each in answer.responses)
    )
    coordinate(s, group)


def records(s: Session, topic: str, *counts: int, partition: int = 0) -> None:
    """Append a batch of so many records for each count."""
    for count in counts:
        append(s, topic, Batch([b"%d" % number for number in range(count)]), partition=partition)


# -- scenarios ---------------------------------------------------------------------------------------------------------


@scenario
def share_groups_without_their_version(s: Session) -> None:
    """At level 0, where all clusters begin, members are refused. It comes first: the others raise the level."""
    group, topic_id = "sharing-not-yet", bytes(15) + b"x"
    member = Sharer(s, group, "member", ["sharing-nowhere"])
    member.beat("joins")
    member.beat("beats", member_epoch=1)
    s.ask("described", ApiKey.SHARE_GROUP_DESCRIBE, 1, {"group_ids": [group, ""]})
    member.fetch("fetches", {topic_id: {0: []}}, max_wait_ms=50)
    member.acknowledge("acknowledges", {topic_id: {0: [(0, 0, ACCEPT)]}}, share_session_epoch=1)
    _described(s, "where it starts", group)
    _alter(s, "to start elsewhere", group, ("sharing-nowhere", {0: 1}))
    body = {"group_id": group, "topics": [{"topic_name": "sharing-nowhere"}]}
    s.ask("to start anywhere", ApiKey.DELETE_SHARE_GROUP_OFFSETS, 0, body)


@scenario
def share_group_life(s: Session) -> None:
    group, topic = "sharing", "sharing-topic"
    topic_id = create(s, topic, 4)
    earliest(s, group)
    first, second = Sharer(s, group, "first", [topic]), Sharer(s, group, "second", [topic])
    first.beat("first joins")
    first.join(topic_id)
    first.beat("first beats")
    first.beat("first says it again", subscribed_topic_names=[topic])
    s.ask("one member", ApiKey.SHARE_GROUP_DESCRIBE, 1, {"group_ids": [group]})
    s.ask(
        "with operations", ApiKey.SHARE_GROUP_DESCRIBE, 1, {"group_ids": [group], "include_authorized_operations": True}
    )
    answer = second.beat("", unrecorded=True)
    s.note("second joins", {"epoch": answer.member_epoch, "error": answer.error_code})
    answer = first.beat("", unrecorded=True)
    s.note("first is told", {"epoch": answer.member_epoch, "assigned": answer.assignment is not None})
    for states, types in (([], ["Share"]), ([], ["classic"]), (["stable"], ["share"]), (["empty"], ["share"])):
        body = {"states_filter": states, "types_filter": types}
        answer = s.ask("", ApiKey.LIST_GROUPS, 5, body, unrecorded=True)
        found = [
            (g.group_id, g.protocol_type, g.group_state, g.group_type) for g in answer.groups if g.group_id == group
        ]
        s.note(f"listed by {states} and {types}", {"found": found})
    second.beat("second leaves", member_epoch=-1)
    first.beat("first gets all")
    first.beat("first leaves", member_epoch=-1)
    s.ask("empty", ApiKey.SHARE_GROUP_DESCRIBE, 1, {"group_ids": [group]})
    s.ask("deleted", ApiKey.DELETE_GROUPS, 2, {"groups_names": [group]})
    s.ask("gone", ApiKey.SHARE_GROUP_DESCRIBE, 1, {"group_ids": [group, ""]})


@scenario
def share_group_mistakes(s: Session) -> None:
    group, topic = "sharing-mistaken", "sharing-mistaken-topic"
    topic_id = create(s, topic, 1)
    earliest(s, group)
    stranger = Sharer(s, group, "stranger", [topic])
    stranger.beat("beats where no group is", member_epoch=1)
    stranger.beat("leaves where no group is", member_epoch=-1)
    member = Sharer(s, group, "member", [topic])
    for label, more in (
        ("without an id", {"member_id": ""}),
        ("without a group", {"group_id": ""}),
        ("with an empty rack", {"rack_id": " "}),
        ("without topics", {"subscribed_topic_names": None}),
        ("with no topics", {"subscribed_topic_names": []}),
        ("with epoch -2", {"member_epoch": -2}),
    ):
        member.beat(f"joins {label}", **more)
    member.join(topic_id)
    for epoch in (7, 0, -2):
        member.beat(f"epoch {epoch}", member_epoch=epoch)
    stranger.beat("a stranger beats", member_epoch=1)
    stranger.beat("a stranger leaves", member_epoch=-1)
    member.beat("a topic that there is not", subscribed_topic_names=["sharing-nowhere"])
    member.beat("leaves", member_epoch=-1)
    member.beat("beats after that", member_epoch=2)


@scenario
def share_groups_and_others(s: Session) -> None:
    group, topic, modern, classic = "sharing-id", "sharing-id-topic", "sharing-modern", "sharing-classic"
    topic_id = create(s, topic, 1)
    earliest(s, group)
    member = Sharer(s, group, "member", [topic])
    member.join(topic_id)
    full = {"rebalance_timeout_ms": 60_000, "subscribed_topic_names": [topic], "topic_partitions": []}
    consumer = {"group_id": group, "member_id": "consumer", "member_epoch": 0, **full}
    s.ask("a consumer joins", ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, consumer)
    s.ask(
        "a consumer beats",
        ApiKey.CONSUMER_GROUP_HEARTBEAT,
        1,
        {**consumer, "member_epoch": 1, "topic_partitions": None},
    )
    s.ask("described as consumers", ApiKey.CONSUMER_GROUP_DESCRIBE, 1, {"group_ids": [group]})
    for version in (5, 6):
        s.ask("described as classic", ApiKey.DESCRIBE_GROUPS, version, {"groups": [group]})
    join = {
        "group_id": group,
        "session_timeout_ms": 10_000,
        "rebalance_timeout_ms": 10_000,
        "member_id": "",
        "protocol_type": "consumer",
        "protocols": [{"name": "range", "metadata": b"\0\0\0\0\0\0\xff\xff\xff\xff"}],
    }
    s.ask("classic join", ApiKey.JOIN_GROUP, 9, join)
    s.ask("classic heartbeat", ApiKey.HEARTBEAT, 4, {"group_id": group, "generation_id": 1, "member_id": "member"})
    s.ask("classic sync", ApiKey.SYNC_GROUP, 5, {"group_id": group, "generation_id": 1, "member_id": "member"})
    commit = {
        "group_id": group,
        "generation_id_or_member_epoch": -1,
        "member_id": "",
        "topics": [{"name": topic, "partitions": [{"partition_index": 0, "committed_offset": 1}]}],
    }
    for version in (8, 9):
        s.ask("commit", ApiKey.OFFSET_COMMIT, version, commit)
    fetch = {"groups": [{"group_id": group, "topics": [{"name": topic, "partition_indexes": [0]}]}]}
    s.ask("committed", ApiKey.OFFSET_FETCH, 9, fetch)
    forget = {"group_id": group, "topics": [{"name": topic, "partitions": [{"partition_index": 0}]}]}
    s.ask("offsets deleted", ApiKey.OFFSET_DELETE, 0, forget)
    s.ask("deleted with a member", ApiKey.DELETE_GROUPS, 2, {"groups_names": [group]})
    coordinate(s, modern)
    s.ask("a consumer group", ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, {**consumer, "group_id": modern})
    other = Sharer(s, modern, "other", [topic])
    other.beat("joins a consumer group")
    other.beat("beats in a consumer group", member_epoch=1)
    other.beat("leaves a consumer group", member_epoch=-1)
    s.ask("a consumer group as shares", ApiKey.SHARE_GROUP_DESCRIBE, 1, {"group_ids": [modern]})
    coordinate(s, classic)
    s.ask("a classic group", ApiKey.OFFSET_COMMIT, 9, {**commit, "group_id": classic})
    Sharer(s, classic, "other", [topic]).beat("joins an empty classic group")


@scenario
def share_fetch(s: Session) -> None:
    group, topic = "sharing-fetch", "sharing-fetch-topic"
    topic_id = create(s, topic, 1)
    earliest(s, group)
    records(s, topic, 3, 4, 5)
    first, second = Sharer(s, group, "first", [topic]), Sharer(s, group, "second", [topic])
    first.join(topic_id)
    second.join()
    everything: dict[bytes, Any] = {topic_id: {0: []}}
    first.opens((topic_id, 0))
    second.opens((topic_id, 0))
    first.fetch("up to two records", max_records=2)
    second.fetch("in pieces of four", max_records=100, batch_size=4)
    first.fetch("nothing is left", max_wait_ms=50)
    first.fetch("accepting what came", {topic_id: {0: [(0, 2, ACCEPT)]}}, max_wait_ms=50)
    second.acknowledge("each of its own", {topic_id: {0: [(3, 6, ACCEPT, RELEASE, REJECT, GAP)]}})
    first.fetch("what was released", max_wait_ms=500)
    for number in range(3):
        first.acknowledge(f"released {number}", {topic_id: {0: [(4, 4, RELEASE)]}})
        first.fetch(f"given out again {number}", max_wait_ms=500)
    first.acknowledge("released for the last time", {topic_id: {0: [(4, 4, RELEASE)]}})
    first.fetch("given up", max_wait_ms=50)
    records(s, topic, 2)
    first.fetch("more came", max_wait_ms=500)
    first.fetch("no records", max_records=0, max_wait_ms=50)
    first.fetch("closed", {topic_id: {0: [(12, 12, ACCEPT)]}}, share_session_epoch=-1)
    s.note("what the other had", {"given": second.takes()})
    second.acknowledge("all of it", {topic_id: {0: [(7, 13, ACCEPT)]}})
    second.fetch("at rest", max_wait_ms=50)
    second.acknowledge("closed too", everything, share_session_epoch=-1)


@scenario
def share_sessions(s: Session) -> None:
    group, topic, other = "sharing-sessions", "sharing-sessions-topic", "sharing-sessions-other"
    topic_id, other_id = create(s, topic, 2), create(s, other, 1)
    earliest(s, group)
    records(s, topic, 2)
    member = Sharer(s, group, "member", [topic, other])
    member.join(topic_id, other_id)
    target: dict[bytes, Any] = {topic_id: {0: []}}
    quick: dict[str, Any] = {"max_wait_ms": 50}
    member.fetch("an epoch without a session", target, share_session_epoch=1, **quick)
    member.fetch("closing what is not there", share_session_epoch=-1, **quick)
    member.acknowledge("acknowledging without a session", target, share_session_epoch=1)
    member.acknowledge("acknowledging at first", target, share_session_epoch=0)
    member.acknowledge("acknowledging at last", target, share_session_epoch=-1)
    member.fetch(
        "acknowledging in the first request", {topic_id: {0: [(0, 0, ACCEPT)]}}, share_session_epoch=0, **quick
    )
    member.opens((other_id, 0))
    member.fetch("an empty partition at first", {other_id: {0: []}}, share_session_epoch=0, **quick)
    member.opens((topic_id, 0))
    for epoch in (2, 7, -2):
        member.fetch(f"epoch {epoch}", share_session_epoch=epoch, **quick)
        member.acknowledge(f"acknowledging at {epoch}", target, share_session_epoch=epoch)
    member.fetch("in order", max_wait_ms=500)
    member.fetch("a partition more", {other_id: {0: []}}, **quick)
    records(s, other, 1)
    member.fetch("which has records", max_wait_ms=500)
    member.fetch("one forgotten", forgotten_topics_data=[{"topic_id": other_id, "partitions": [0]}], **quick)
    records(s, other, 1)
    member.fetch("and not read", **quick)
    member.fetch("a partition that there is not", {topic_id: {7: []}}, **quick)
    member.fetch("and no longer", forgotten_topics_data=[{"topic_id": topic_id, "partitions": [7]}], **quick)
    member.fetch("a topic that there is not", {bytes(15) + b"x": {0: []}}, **quick)
    for label, who in (
        ("without a group", {"group_id": None}),
        ("with an empty group", {"group_id": ""}),
    ):
        member.fetch(label, share_session_epoch=0, **who, **quick)
    member.opens((topic_id, 0))
    member.fetch("a session anew keeps what was given out", **quick)


@scenario
def share_acknowledge(s: Session) -> None:
    group, topic = "sharing-acks", "sharing-acks-topic"
    topic_id = create(s, topic, 1)
    earliest(s, group)
    records(s, topic, 10)
    member, stranger = Sharer(s, group, "member", [topic]), Sharer(s, group, "stranger", [topic])
    member.join(topic_id)
    member.opens((topic_id, 0))
    stranger.opens((topic_id, 0))
    member.acknowledge("before anything was given out", {topic_id: {0: [(0, 3, ACCEPT)]}})
    member.fetch("given out", max_wait_ms=500)
    for label, *said in (
        ("backwards", (5, 4, ACCEPT)),
        ("no types", (0, 1)),
        ("too many types", (0, 1, ACCEPT, ACCEPT, ACCEPT)),
        ("a type that there is not", (0, 1, 4)),
        ("type -1", (0, 1, -1)),
        ("overlapping", (0, 5, ACCEPT), (3, 7, ACCEPT)),
        ("touching", (0, 5, ACCEPT), (5, 7, ACCEPT)),
        ("out of order", (5, 7, ACCEPT), (0, 3, ACCEPT)),
        ("beyond the end", (8, 12, ACCEPT)),
        ("all beyond the end", (20, 22, ACCEPT)),
    ):
        member.acknowledge(label, {topic_id: {0: said}})
    stranger.acknowledge("of another member", {topic_id: {0: [(0, 9, ACCEPT)]}})
    member.acknowledge("some", {topic_id: {0: [(2, 3, ACCEPT)]}})
    member.acknowledge("twice", {topic_id: {0: [(2, 3, ACCEPT)]}})
    member.acknowledge("some of it twice", {topic_id: {0: [(0, 3, ACCEPT)]}})
    member.acknowledge("nothing", {topic_id: {0: []}})
    member.acknowledge(
        "partitions that there are not", {topic_id: {4: [(0, 1, ACCEPT)]}, bytes(15) + b"x": {0: [(0, 1, ACCEPT)]}}
    )
    member.acknowledge("the first", {topic_id: {0: [(0, 1, ACCEPT)]}})
    member.acknowledge("what is below the start", {topic_id: {0: [(0, 1, ACCEPT)]}})
    member.acknowledge("the rest", {topic_id: {0: [(4, 9, ACCEPT)]}})
    member.acknowledge("when nothing is left", {topic_id: {0: [(9, 10, ACCEPT)]}})
    stranger.fetch("nothing is left", max_wait_ms=50)


@scenario
def share_transactions(s: Session) -> None:
    """A group that sees committed records alone begins behind the aborted ones."""
    topic = "sharing-txn-topic"
    topic_id = create(s, topic, 1)
    records(s, topic, 2)
    for transactional_id, commit in (("sharing-aborts", False), ("sharing-commits", True)):
        _transaction(s, transactional_id, topic, commit)
    for group, level in (("sharing-txn-all", "read_uncommitted"), ("sharing-txn-committed", "read_committed")):
        earliest(s, group, **{"share.isolation.level": level})
        member = Sharer(s, group, "member", [topic])
        member.join(topic_id)
        member.opens((topic_id, 0))
        given = []
        while answer := member.fetch("", unrecorded=True, max_wait_ms=500).responses:
            given += [(each.first_offset, each.last_offset) for each in answer[0].partitions[0].acquired_records]
        s.note(f"given with {level}", {"offsets": sorted({n for low, high in given for n in range(low, high + 1)})})


def _transaction(s: Session, transactional_id: str, topic: str, commit: bool) -> None:
    """Two records, committed or aborted; what ends it has been written when this returns."""
    find = {"key_type": 1, "coordinator_keys": [transactional_id]}
    s.wait_until(ApiKey.FIND_COORDINATOR, 4, find, lambda answer: not answer.coordinators[0].error_code)
    begin = {"transactional_id": transactional_id, "transaction_timeout_ms": 60_000}
    answer = s.wait_until(ApiKey.INIT_PRODUCER_ID, 4, begin, lambda answer: not answer.error_code)
    producer = {"producer_id": answer.producer_id, "producer_epoch": answer.producer_epoch}

    def added(answer: Any) -> bool:
        (topic,) = answer.results_by_topic_v3_and_below
        return not any(partition.partition_error_code for partition in topic.results_by_partition)

    body: dict[str, Any] = {
        "v3_and_below_transactional_id": transactional_id,
        "v3_and_below_producer_id": answer.producer_id,
        "v3_and_below_producer_epoch": answer.producer_epoch,
        "v3_and_below_topics": [{"name": topic, "partitions": [0]}],
    }
    s.wait_until(ApiKey.ADD_PARTITIONS_TO_TXN, 3, body, added)
    batch = Batch([b"x", b"y"], attributes=0x10, base_sequence=0, **producer)
    body = {**produce_body(topic, batch.encode()), "transactional_id": transactional_id}
    answer = s.ask("", ApiKey.PRODUCE, 9, body, unrecorded=True)
    end = answer.responses[0].partition_responses[0].base_offset + 3  # with the marker
    body = {"transactional_id": transactional_id, **producer, "committed": commit}
    s.wait_until(ApiKey.END_TXN, 3, body, lambda answer: not answer.error_code)
    latest = {"partition_index": 0, "current_leader_epoch": -1, "timestamp": -1}
    body = {"replica_id": -1, "isolation_level": 1, "topics": [{"name": topic, "partitions": [latest]}]}
    s.wait_until(ApiKey.LIST_OFFSETS, 7, body, lambda answer: answer.topics[0].partitions[0].offset >= end)


@scenario
def share_state(s: Session) -> None:
    group, topic = "sharing-state", "sharing-state-topic"
    topic_id = create(s, topic, 2)
    serve(s)
    key = f"{group}:{base64.urlsafe_b64encode(topic_id).decode().rstrip('=')}"
    for partition in (0, 1, 5):
        body = {"key_type": 2, "coordinator_keys": [f"{key}:{partition}"]}
        s.wait_until(ApiKey.FIND_COORDINATOR, 6, body, lambda answer: not answer.coordinators[0].error_code)
    topic_part = key.partition(":")[2]
    for label, bad in (
        ("a group alone", group),
        ("no topic id", f"{group}:x:0"),
        ("no partition", f"{key}:x"),
        ("no group", f":{topic_part}:0"),
        ("a part too many", f"{key}:0:1"),
        ("nothing", ""),
    ):
        answer = s.ask("", ApiKey.FIND_COORDINATOR, 6, {"key_type": 2, "coordinator_keys": [bad]}, unrecorded=True)
        s.note(f"found by {label}", {"error": None if answer is None else answer.coordinators[0].error_code})
    answer = s.ask("", ApiKey.FIND_COORDINATOR, 5, {"key_type": 2, "coordinator_keys": [f"{key}:0"]}, unrecorded=True)
    s.note("found in an old version", {"error": None if answer is None else answer.coordinators[0].error_code})

    def ask(
        label: str, api: ApiKey, partition: int = 0, topic_id: bytes = topic_id, group: str = group, **fields: Any
    ) -> Any:
        data = {"topic_id": topic_id, "partitions": [{"partition": partition, **fields}]}
        return s.ask(label, api, 0, {"group_id": group, "topics": [data]})

    def batch(first: int, last: int, state: int, deliveries: int) -> dict[str, int]:
        return {"first_offset": first, "last_offset": last, "delivery_state": state, "delivery_count": deliveries}

    initialise, read, write = (
        ApiKey.INITIALIZE_SHARE_GROUP_STATE,
        ApiKey.READ_SHARE_GROUP_STATE,
        ApiKey.WRITE_SHARE_GROUP_STATE,
    )
    delete, summary = ApiKey.DELETE_SHARE_GROUP_STATE, ApiKey.READ_SHARE_GROUP_STATE_SUMMARY
    settled = {
        "group_id": group,
        "topics": [{"topic_id": topic_id, "partitions": [{"partition": 0, "leader_epoch": 0}]}],
    }
    s.wait_until(summary, 0, settled, lambda answer: not answer.results[0].partitions[0].error_code)
    ask("summary of nothing", summary, leader_epoch=0)
    ask("read of nothing", read, leader_epoch=0)
    ask("write of nothing", write, state_epoch=0, leader_epoch=0, start_offset=0, state_batches=[])
    ask("delete of nothing", delete)
    for label, more in (
        ("partition -1", {"partition": -1}),
        ("partition 5", {"partition": 5}),
        ("an unknown topic", {"topic_id": bytes(15) + b"x"}),
        ("no group", {"group": ""}),
    ):
        if "-1" not in label:
            ask(f"summary, {label}", summary, leader_epoch=0, **more)
            ask(f"delete, {label}", delete, **more)
        ask(f"initialise, {label}", initialise, state_epoch=1, start_offset=0, **more)
    ask("initialise", initialise, state_epoch=2, start_offset=5)
    ask("read", read, leader_epoch=0)
    ask("summary", summary, leader_epoch=0)
    ask(
        "write",
        write,
        state_epoch=2,
        leader_epoch=1,
        start_offset=5,
        state_batches=[batch(5, 9, 0, 1), batch(10, 14, 2, 1)],
    )
    ask("read what was written", read, leader_epoch=1)
    ask("an older leader reads", read, leader_epoch=0)
    ask("an older leader writes", write, state_epoch=2, leader_epoch=0, start_offset=5, state_batches=[])
    ask("no leader reads", read, leader_epoch=-1)
    ask("an older state", write, state_epoch=1, leader_epoch=1, start_offset=5, state_batches=[])
    ask("older again", initialise, state_epoch=1, start_offset=0)
    ask("a newer leader reads", read, leader_epoch=3)
    ask("fenced", write, state_epoch=2, leader_epoch=2, start_offset=5, state_batches=[])
    for number, batches in enumerate((
        [batch(6, 7, 2, 1)],
        [batch(5, 9, 0, 2), batch(12, 20, 4, 2)],
        [batch(8, 8, 0, 1), batch(21, 22, 4, 2)],
        [batch(0, 6, 2, 3)],
        [batch(30, 39, 0, 1), batch(32, 33, 2, 1), batch(32, 36, 4, 1)],
    )):  # fmt: skip
        ask(f"write {number}", write, state_epoch=2, leader_epoch=3, start_offset=-1, state_batches=batches)
        ask(f"read after {number}", read, leader_epoch=3)
    ask("the start moves", write, state_epoch=2, leader_epoch=3, start_offset=8, state_batches=[])
    ask("read behind it", read, leader_epoch=3)
    ask("initialise anew", initialise, state_epoch=3, start_offset=-1)
    ask("read anew", read, leader_epoch=3)
    ask("summary anew", summary, leader_epoch=0)
    s.ask("no partitions", read, 0, {"group_id": group, "topics": [{"topic_id": topic_id, "partitions": []}]})
    s.ask("no topics", write, 0, {"group_id": group, "topics": []})
    ask("delete", delete)
    ask("read after that", read, leader_epoch=3)


def _alter(s: Session, label: str, group: str, *topics: tuple[str, dict[int, int]]) -> None:
    body = [
        {"topic_name": name, "partitions": [{"partition_index": p, "start_offset": o} for p, o in offsets.items()]}
        for name, offsets in topics
    ]
    s.ask(label, ApiKey.ALTER_SHARE_GROUP_OFFSETS, 0, {"group_id": group, "topics": body})


def _described(s: Session, label: str, group: str, topics: Any = None) -> None:
    body = {"groups": [{"group_id": group, "topics": topics}]}
    s.ask(label, ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS, 0, body)


@scenario
def share_group_offsets(s: Session) -> None:
    group, topic = "sharing-offsets", "sharing-offsets-topic"
    topic_id = create(s, topic, 2)
    earliest(s, group)

    def delete(label: str, *topics: str, group: str = group) -> None:
        body = {"group_id": group, "topics": [{"topic_name": name} for name in topics]}
        s.ask(label, ApiKey.DELETE_SHARE_GROUP_OFFSETS, 0, body)

    _described(s, "of no group", group)
    delete("of no group", topic)
    member = Sharer(s, group, "member", [topic])
    member.join(topic_id)
    _described(s, "all", group)
    named = [{"topic_name": topic, "partitions": [0, 1, 7]}, {"topic_name": "sharing-nowhere", "partitions": [0]}]
    _described(s, "named", group, named)
    _described(s, "of no topics", group, [])
    records(s, topic, 3)
    member.opens((topic_id, 0))
    member.fetch("", unrecorded=True, max_wait_ms=500)
    for last in (0, 1):
        member.acknowledge("", {topic_id: {0: [(last, last, ACCEPT)]}}, unrecorded=True)
    _described(s, "of records that were accepted", group)
    delete("with a member", topic)
    member.beat("leaves", member_epoch=-1)
    delete("one", topic)
    delete("again, and what there is not", topic, "sharing-nowhere")
    delete("nothing")
    delete("without a group", topic, group="")
    _described(s, "forgotten", group)
    s.ask("the group", ApiKey.DELETE_GROUPS, 2, {"groups_names": [group]})
    _described(s, "gone", group)


@scenario
def share_group_start_offsets(s: Session) -> None:
    """AlterShareGroupOffsets, which Kafka 4.1 answers without doing anything."""
    group, topic, other = "sharing-starts", "sharing-starts-topic", "sharing-starts-other"
    topic_id = create(s, topic, 2)
    create(s, other, 1)
    earliest(s, group)
    _alter(s, "of no group", group, (topic, {0: 5}))
    member = Sharer(s, group, "member", [topic])
    member.join(topic_id)
    _alter(s, "with a member", group, (topic, {0: 5}))
    member.beat("leaves", member_epoch=-1)
    _alter(s, "two topics", group, (topic, {0: 5}), (other, {0: 7}))
    _alter(s, "what there is not", group, (topic, {1: 3, 9: 3}), ("sharing-nowhere", {0: 1}))
    _alter(s, "nothing", group)
    _alter(s, "without a group", "", (topic, {0: 5}))
    _described(s, "altered", group)
