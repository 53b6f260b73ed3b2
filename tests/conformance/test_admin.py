"""Conformance 38 to 42: topics and administration."""

from __future__ import annotations

from typing import Any

from chronik.errors import ErrorCode
from chronik.topic_config import TOPIC_CONFIGS
from chronik.wire.apis import ApiKey
from tests.conformance.case import ConformanceCase
from tests.differential.scenarios import wait_until_gone

_APPEND, _SUBTRACT, _SET = 2, 3, 0


class AdminTests(ConformanceCase):
    def create(self, *topics: dict[str, Any], version: int = 7) -> dict[str, int]:
        """Error codes by name."""
        answer = self.ask(ApiKey.CREATE_TOPICS, version, {"topics": list(topics), "timeout_ms": 5000})
        return {each.name: each.error_code for each in answer.topics}

    def metadata(self, *names: str, version: int = 12, auto: bool = False) -> dict[str, Any]:
        """The topics of a Metadata answer by name."""
        body = {"topics": [{"name": name} for name in names], "allow_auto_topic_creation": auto}
        return {topic.name: topic for topic in self.ask(ApiKey.METADATA, version, body).topics}

    def test_38_every_partition_of_a_new_topic_has_a_leader(self) -> None:
        self.assertEqual(self.create({"name": "wide", "num_partitions": 24, "replication_factor": 1}), {"wide": 0})
        topic = self.metadata("wide")["wide"]
        self.assertEqual(sorted(part.partition_index for part in topic.partitions), list(range(24)))
        self.assertEqual({(part.error_code, part.leader_id) for part in topic.partitions}, {(0, 1)})

    def test_39_topics_are_deleted_by_id(self) -> None:
        topic = self.topic()
        topic_id = self.metadata(topic)[topic].topic_id
        body = {"topics": [{"name": None, "topic_id": topic_id}], "timeout_ms": 5000}
        (deleted,) = self.ask(ApiKey.DELETE_TOPICS, 6, body).responses
        self.assertEqual((deleted.error_code, deleted.name, deleted.topic_id), (ErrorCode.NONE, topic, topic_id))
        wait_until_gone(self.session, topic)
        (again,) = self.ask(ApiKey.DELETE_TOPICS, 6, body).responses
        self.assertEqual(again.error_code, ErrorCode.UNKNOWN_TOPIC_ID)

    def test_40_what_cannot_be_created_is_told_topic_by_topic(self) -> None:
        self.topic()
        existing = self.id().rpartition(".")[2]
        one = {"num_partitions": 1, "replication_factor": 1}
        wrong_value = [{"name": "retention.ms", "value": "soon"}]
        unknown = [{"name": "no.such.config", "value": "1"}]
        self.assertEqual(
            self.create(
                {"name": existing, **one},
                {"name": ".", **one},
                {"name": "..", **one},
                {"name": "a/b", **one},
                {"name": "", **one},
                {"name": "x" * 250, **one},
                {"name": "wrong-value", **one, "configs": wrong_value},
                {"name": "unknown-config", **one, "configs": unknown},
                {"name": "no-partitions", "num_partitions": 0, "replication_factor": 1},
                {"name": "three-replicas", "num_partitions": 1, "replication_factor": 3},
                {"name": "good", **one},
                {"name": "twice", **one},
                {"name": "twice", **one},
            ),
            {
                existing: ErrorCode.TOPIC_ALREADY_EXISTS,
                ".": ErrorCode.INVALID_TOPIC_EXCEPTION,
                "..": ErrorCode.INVALID_TOPIC_EXCEPTION,
                "a/b": ErrorCode.INVALID_TOPIC_EXCEPTION,
                "": ErrorCode.INVALID_TOPIC_EXCEPTION,
                "x" * 250: ErrorCode.INVALID_TOPIC_EXCEPTION,
                "wrong-value": ErrorCode.INVALID_CONFIG,
                "unknown-config": ErrorCode.INVALID_CONFIG,
                "no-partitions": ErrorCode.INVALID_PARTITIONS,
                "three-replicas": ErrorCode.INVALID_REPLICATION_FACTOR,
                "good": ErrorCode.NONE,
                "twice": ErrorCode.INVALID_REQUEST,
            },
        )
        self.assertEqual(self.metadata("good")["good"].error_code, ErrorCode.NONE)

    def test_41_metadata_creates_unknown_topics_where_it_may(self) -> None:
        found = self.metadata("by-use", "not/valid", "..", auto=True)
        self.assertEqual(found["not/valid"].error_code, ErrorCode.INVALID_TOPIC_EXCEPTION)
        self.assertEqual(found[".."].error_code, ErrorCode.INVALID_TOPIC_EXCEPTION)
        self.assertIn(found["by-use"].error_code, (ErrorCode.NONE, ErrorCode.LEADER_NOT_AVAILABLE))
        self.assertEqual(self.metadata("by-use")["by-use"].error_code, ErrorCode.NONE)
        self.assertEqual(self.metadata("not-by-use")["not-by-use"].error_code, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        every = [topic.name for topic in self.ask(ApiKey.METADATA, 12, {"topics": None}).topics]
        self.assertEqual([name for name in every if "/" in name or ".." in name], [])

    def test_42_configs_are_described_with_their_defaults_and_lists_grow_and_shrink(self) -> None:
        topic = self.topic()

        def described(*keys: str) -> dict[str, Any]:
            resource = {"resource_type": 2, "resource_name": topic, "configuration_keys": list(keys) or None}
            body = {"resources": [resource], "include_synonyms": True}
            (result,) = self.ask(ApiKey.DESCRIBE_CONFIGS, 4, body).results
            self.assertEqual(result.error_code, ErrorCode.NONE)
            return {each.name: each for each in result.configs}

        def alter(operation: int, value: str) -> int:
            config = {"name": "cleanup.policy", "config_operation": operation, "value": value}
            resource = {"resource_type": 2, "resource_name": topic, "configs": [config]}
            (answer,) = self.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, {"resources": [resource]}).responses
            return int(answer.error_code)

        everything = described()
        self.assertEqual({name for name, each in TOPIC_CONFIGS.items() if not each.hidden}, set(everything))
        self.assertEqual(everything["retention.ms"].value, "604800000")
        self.assertEqual(everything["retention.ms"].config_source, 5)
        self.assertEqual(set(described("retention.ms", "segment.bytes")), {"retention.ms", "segment.bytes"})
        self.assertEqual(alter(_SUBTRACT, "delete"), ErrorCode.NONE)
        self.assertEqual(described("cleanup.policy")["cleanup.policy"].value, "")
        self.assertEqual(alter(_APPEND, "delete"), ErrorCode.NONE)
        self.assertEqual(described("cleanup.policy")["cleanup.policy"].value, "delete")
        self.assertEqual(alter(_APPEND, "shred"), ErrorCode.INVALID_CONFIG)
        self.assertEqual(alter(_SET, "delete"), ErrorCode.NONE)

    def test_42_create_partitions_answers_every_topic(self) -> None:
        topic = self.topic()
        topics = [{"name": name, "count": count, "assignments": None} for name, count in ((topic, 3), ("none", 2))]
        answer = self.ask(ApiKey.CREATE_PARTITIONS, 3, {"topics": topics, "timeout_ms": 5000, "validate_only": False})
        self.assertEqual(
            {each.name: each.error_code for each in answer.results},
            {topic: ErrorCode.NONE, "none": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION},
        )
        self.assertEqual(len(self.metadata(topic)[topic].partitions), 3)

    def test_topic_ids_are_stable_and_never_come_again(self) -> None:
        topic = self.topic()
        first = self.metadata(topic)[topic].topic_id
        self.assertNotEqual(first, bytes(16))
        self.assertEqual(self.metadata(topic)[topic].topic_id, first)
        part = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 100}
        body = {
            "replica_id": -1, "max_wait_ms": 0, "min_bytes": 1, "max_bytes": 100, "session_epoch": -1,
            "topics": [{"topic_id": first, "partitions": [part]}],
        }  # fmt: skip
        self.assertEqual(self.ask(ApiKey.FETCH, 13, body).responses[0].topic_id, first)
        self.ask(ApiKey.DELETE_TOPICS, 5, {"topic_names": [topic], "timeout_ms": 5000})
        wait_until_gone(self.session, topic)
        self.topic()
        self.assertNotEqual(self.metadata(topic)[topic].topic_id, first)
        answer = self.ask(ApiKey.FETCH, 13, body)
        self.assertEqual(answer.responses[0].partitions[0].error_code, ErrorCode.UNKNOWN_TOPIC_ID)
