"""Offsets of groups: committed, fetched and deleted, by members and by nobody."""

from __future__ import annotations

from typing import Any

from chronik.wire.apis import ApiKey
from tests.differential.scenarios import coordinate, create, scenario, versions, wait_until_gone
from tests.differential.scenarios.groups import Member
from tests.differential.session import Session


def _commit(topic: str, *partitions: tuple[int, int, str | None], **more: Any) -> dict[str, Any]:
    items = [
        {"partition_index": index, "committed_offset": offset, "committed_leader_epoch": 0, "committed_metadata": text}
        for index, offset, text in partitions
    ]
    return {"topics": [{"name": topic, "partitions": items}], **more}


def _fetch(group: str, topics: dict[str, list[int]] | None, **more: Any) -> dict[str, Any]:
    listed = (
        None if topics is None else [{"name": name, "partition_indexes": indexes} for name, indexes in topics.items()]
    )
    return {"group_id": group, "topics": listed, "groups": [{"group_id": group, "topics": listed}], **more}


@scenario
def offsets_without_members(s: Session) -> None:
    create(s, "committed", 3)
    for version in versions(ApiKey.OFFSET_COMMIT):
        group = f"committer-v{version}"
        coordinate(s, group)
        good = _commit("committed", (0, 5, "note"), (1, 0, None), (2, -1, ""), group_id=group)
        s.ask("good", ApiKey.OFFSET_COMMIT, version, good)
        mixed = _commit("committed", (0, 6, ""), (9, 1, ""), group_id=group)
        s.ask("partition 9", ApiKey.OFFSET_COMMIT, version, mixed)
        s.ask("unknown topic", ApiKey.OFFSET_COMMIT, version, _commit("nowhere", (0, 1, ""), group_id=group))
        s.ask("long note", ApiKey.OFFSET_COMMIT, version, _commit("committed", (0, 7, "n" * 5000), group_id=group))
        s.ask("as a member", ApiKey.OFFSET_COMMIT, version,
              _commit("committed", (0, 8, ""), group_id=group, member_id="m", generation_id_or_member_epoch=1))  # fmt: skip
        s.ask("not one", ApiKey.OFFSET_COMMIT, version, {"group_id": group, "topics": []})
        s.ask("of the empty group", ApiKey.OFFSET_COMMIT, version, _commit("committed", (0, 5, ""), group_id=""))
    for version in versions(ApiKey.OFFSET_FETCH):
        group = "committer-v9"
        s.ask("some", ApiKey.OFFSET_FETCH, version, _fetch(group, {"committed": [0, 1, 2, 9], "nowhere": [0]}))
        if version >= 2:
            s.ask("all", ApiKey.OFFSET_FETCH, version, _fetch(group, None))
        s.ask("not one", ApiKey.OFFSET_FETCH, version, _fetch(group, {}))
        s.ask("unknown group", ApiKey.OFFSET_FETCH, version, _fetch("no-such-group", {"committed": [0]}))
        if version >= 7:
            s.ask("stable ones", ApiKey.OFFSET_FETCH, version, _fetch(group, None, require_stable=True))
    groups = [{"group_id": name, "topics": None} for name in ("committer-v2", "committer-v3", "no-such-group")]
    s.ask("three groups", ApiKey.OFFSET_FETCH, 8, {"groups": groups})
    s.ask("no groups", ApiKey.OFFSET_FETCH, 8, {"groups": []})
    s.ask("described", ApiKey.DESCRIBE_GROUPS, 5, {"groups": ["committer-v9"]})
    member = {"group_id": "committer-v9", "member_id": "m", "member_epoch": 3, "topics": None}
    s.ask("as a member", ApiKey.OFFSET_FETCH, 9, {"groups": [member]})


@scenario
def offsets_of_a_member(s: Session) -> None:
    create(s, "member-committed", 2)
    group = "member-commits"
    coordinate(s, group)
    member = Member(s, group)
    member.join("joins")

    def commit(label: str, offset: int, version: int = 9, **more: Any) -> None:
        identity = {"group_id": group, "member_id": member.id, "generation_id_or_member_epoch": member.generation}
        body = _commit("member-committed", (0, offset, ""), **{**identity, **more})
        s.ask(label, ApiKey.OFFSET_COMMIT, version, body)

    commit("before syncing", 1)
    member.sync("syncs", {member.id: b"share"})
    for version in versions(ApiKey.OFFSET_COMMIT):
        commit("good", 2, version)
    commit("wrong generation", 3, generation_id_or_member_epoch=99)
    commit("unknown member", 3, member_id="stranger")
    commit("no member", 3, member_id="", generation_id_or_member_epoch=-1)
    commit("unknown instance", 3, group_instance_id="i-1")
    s.ask("fetched", ApiKey.OFFSET_FETCH, 8, _fetch(group, None))
    body = {"group_id": group, "topics": [{"name": "member-committed", "partitions": [{"partition_index": 0}]}]}
    s.ask("delete while subscribed", ApiKey.OFFSET_DELETE, 0, body)
    member.leave("leaves")
    commit("after leaving", 4)
    commit("by nobody", 4, member_id="", generation_id_or_member_epoch=-1)
    s.ask("fetched then", ApiKey.OFFSET_FETCH, 8, _fetch(group, None))


@scenario
def offset_delete(s: Session) -> None:
    create(s, "offset-deleted", 3)
    group = "deleter"
    coordinate(s, group)
    s.ask("committed", ApiKey.OFFSET_COMMIT, 9, _commit("offset-deleted", (0, 1, ""), (1, 2, ""), group_id=group))

    def delete(label: str, topic: str, *indexes: int, group: str = group) -> None:
        partitions = [{"partition_index": index} for index in indexes]
        s.ask(
            label, ApiKey.OFFSET_DELETE, 0, {"group_id": group, "topics": [{"name": topic, "partitions": partitions}]}
        )

    delete("one", "offset-deleted", 0)
    delete("again", "offset-deleted", 0)
    delete("one without an offset, one that isn't", "offset-deleted", 2, 9)
    delete("unknown topic", "nowhere", 0)
    delete("unknown group", "offset-deleted", 0, group="no-such-group")
    delete("no partition", "offset-deleted")
    s.ask("no topic", ApiKey.OFFSET_DELETE, 0, {"group_id": group, "topics": []})
    s.ask("left", ApiKey.OFFSET_FETCH, 8, _fetch(group, None))
    delete("the last", "offset-deleted", 1)
    s.ask("nothing left", ApiKey.OFFSET_FETCH, 8, _fetch(group, None))


@scenario
def offsets_of_a_deleted_topic(s: Session) -> None:
    create(s, "soon-gone")
    group = "of-the-gone"
    coordinate(s, group)
    s.ask("committed", ApiKey.OFFSET_COMMIT, 9, _commit("soon-gone", (0, 3, ""), group_id=group))
    s.ask("deleted", ApiKey.DELETE_TOPICS, 6, {"topics": [{"name": "soon-gone"}], "timeout_ms": 5000})
    wait_until_gone(s, "soon-gone")
    s.wait_until(ApiKey.OFFSET_FETCH, 8, _fetch(group, None), lambda answer: not answer.groups[0].topics)
    s.ask("offsets went too", ApiKey.OFFSET_FETCH, 8, _fetch(group, {"soon-gone": [0]}))
