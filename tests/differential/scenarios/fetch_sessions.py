"""Incremental fetch sessions (KIP-227)."""

from __future__ import annotations

from typing import Any

from chronik.wire.apis import ApiKey
from tests.differential.batches import Batch
from tests.differential.scenarios import append, create, scenario, wait_until_gone
from tests.differential.session import Session


def _body(session: int, epoch: int, topics: list[dict[str, Any]], forgotten: Any = (), **more: Any) -> dict[str, Any]:
    return {
        "max_wait_ms": 0,
        "min_bytes": 0,
        "max_bytes": 1 << 20,
        "session_id": session,
        "session_epoch": epoch,
        "topics": topics,
        "forgotten_topics_data": list(forgotten),
        **more,
    }


def _partition(index: int, offset: int) -> dict[str, Any]:
    return {"partition": index, "fetch_offset": offset, "partition_max_bytes": 1 << 20}


def _run(s: Session, version: int, name: str) -> None:
    topic_id = create(s, name, 3)
    append(s, name, Batch([b"a"]))

    def topic(*partitions: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"topic": name, "topic_id": topic_id, "partitions": list(partitions)}]

    answer = s.ask("opened", ApiKey.FETCH, version, _body(0, 0, topic(*(_partition(n, 0) for n in range(3)))))
    session = answer.session_id
    s.ask("the same again", ApiKey.FETCH, version, _body(session, 1, []))
    s.ask("position moved", ApiKey.FETCH, version, _body(session, 2, topic(_partition(0, 1))))
    s.ask("nothing new", ApiKey.FETCH, version, _body(session, 3, []))
    append(s, name, Batch([b"b"]), partition=1)
    s.ask("news in one", ApiKey.FETCH, version, _body(session, 4, []))
    s.ask("not moved, so again", ApiKey.FETCH, version, _body(session, 5, []))
    s.ask("wrong epoch", ApiKey.FETCH, version, _body(session, 9, []))
    s.ask("epoch 6 nonetheless", ApiKey.FETCH, version, _body(session, 6, []))
    forgotten = [{"topic": name, "topic_id": topic_id, "partitions": [1]}]
    s.ask("one forgotten", ApiKey.FETCH, version, _body(session, 7, [], forgotten))
    s.ask("out of range", ApiKey.FETCH, version, _body(session, 8, topic(_partition(2, 77))))
    s.ask("still out of range", ApiKey.FETCH, version, _body(session, 9, []))
    s.ask("partition that isn't", ApiKey.FETCH, version, _body(session, 10, topic(_partition(66, 0))))
    stranger = [{"topic": "nowhere", "topic_id": b"\x03" * 16, "partitions": [_partition(0, 0)]}]
    s.ask("topic that isn't", ApiKey.FETCH, version, _body(session, 11, stranger))
    s.ask("after that", ApiKey.FETCH, version, _body(session, 12, []))
    s.ask("unknown session", ApiKey.FETCH, version, _body(session + 12345, 1, []))
    s.ask("unknown session, epoch -1", ApiKey.FETCH, version, _body(session + 12345, -1, topic(_partition(0, 0))))
    s.ask("unknown session, epoch 0", ApiKey.FETCH, version, _body(session + 12345, 0, topic(_partition(0, 0))))
    s.ask("no session, epoch 5", ApiKey.FETCH, version, _body(0, 5, topic(_partition(0, 0))))
    s.ask("closed", ApiKey.FETCH, version, _body(session, -1, topic(_partition(0, 0))))
    s.ask("after closing", ApiKey.FETCH, version, _body(session, 13, []))
    s.ask("opened empty", ApiKey.FETCH, version, _body(0, 0, []))


@scenario
def fetch_session_by_name(s: Session) -> None:
    _run(s, 11, "session-11")


@scenario
def fetch_session_tagged(s: Session) -> None:
    _run(s, 12, "session-12")


@scenario
def fetch_session_by_id(s: Session) -> None:
    _run(s, 17, "session-17")


@scenario
def fetch_session_of_deleted_topic(s: Session) -> None:
    topic_id = create(s, "session-gone")
    append(s, "session-gone", Batch([b"a"]))
    topics = [{"topic": "session-gone", "topic_id": topic_id, "partitions": [_partition(0, 1)]}]
    session = s.ask("opened", ApiKey.FETCH, 13, _body(0, 0, topics)).session_id
    s.ask("deleted", ApiKey.DELETE_TOPICS, 6, {"topics": [{"name": "session-gone"}], "timeout_ms": 5000})
    wait_until_gone(s, "session-gone")
    s.ask("after deletion", ApiKey.FETCH, 13, _body(session, 1, []))
