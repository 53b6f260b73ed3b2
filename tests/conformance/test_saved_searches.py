"""The topics of saved searches on the wire: what their readers are given, and what is refused."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from chronik.errors import ErrorCode, KafkaError
from chronik.testing.reactor_thread import call
from chronik.wire.apis import ApiKey
from tests.conformance.case import ConformanceCase, OnDisk, fetch_body
from tests.conformance.transactional import Transactor
from tests.differential.batches import TIME, Batch, describe
from tests.differential.scenarios import coordinate

COMMITTED = 1
CONTROL = 1 << 5
_PATIENCE = 30.0


class SavedSearchCase(ConformanceCase):
    options = {"offsets_topic_num_partitions": 4, "transaction_state_log_num_partitions": 4}  # noqa: RUF012

    def saved(self, query: str = "error", partitions: int = 1) -> tuple[str, str]:
        """(source, search): two new topics named after the test."""
        source = self.topic(partitions)
        self.broker.save_search(f"{source}_found", source, query)
        return source, f"{source}_found"

    def given(self, topic: str, offset: int, until: int, isolation: int = COMMITTED, **fields: Any) -> list[Any]:
        """All batches that a reader is given from `offset` on, until he has come to `until`."""
        found: list[Any] = []
        give_up = time.monotonic() + _PATIENCE
        while offset < until:
            self.assertLess(time.monotonic(), give_up, f"at {offset}, not {until}")
            answer = self.fetch(topic, offset, isolation_level=isolation, max_wait_ms=200, **fields)
            self.assertEqual(answer.error_code, ErrorCode.NONE)
            self.assertFalse(answer.aborted_transactions)
            batches = describe(answer.records)
            assert isinstance(batches, list)
            for each in batches:
                self.assertTrue(each["crc_holds"] and each["whole"])
                offset = each["base_offset"] + each["last_offset_delta"] + 1
            found += batches
        self.assertEqual(offset, until)
        return found


class ReadingTests(SavedSearchCase):
    def test_a_range_without_a_match_is_an_empty_batch_to_its_end(self) -> None:
        source, found = self.saved()
        self.append(source, Batch([b"info"] * 10), Batch([b"warn"] * 5))
        (batch,) = self.given(found, 0, 15)
        self.assertEqual((batch["base_offset"], batch["last_offset_delta"], batch["count"]), (0, 14, 0))
        self.assertEqual((batch["magic"], batch["attributes"], batch["payload"]), (2, 0, ""))
        self.assertEqual((batch["producer_id"], batch["producer_epoch"], batch["base_sequence"]), (-1, -1, -1))
        answer = self.fetch(found, 15)
        self.assertEqual((answer.high_watermark, bytes(answer.records)), (15, b""))

    def test_matches_are_at_their_own_offsets(self) -> None:
        source, found = self.saved()
        values = [b"error" if n % 4 == 1 else b"info" for n in range(20)]
        self.append(source, Batch(values, time_step=7), Batch([b"info"]), Batch([b"error"]))
        batches = self.given(found, 0, 22)
        self.assertEqual([each["count"] for each in batches], [5, 1])
        self.assertEqual([each["base_offset"] for each in batches], [0, 21])
        self.assertEqual((batches[0]["base_timestamp"], batches[0]["max_timestamp"]), (TIME, TIME + 17 * 7))
        self.assertEqual([each["base_offset"] for each in self.given(found, 18, 22)], [21])

    def test_transactions_leave_no_trace(self) -> None:
        """Whatever isolation is asked for: aborted records never, committed ones only when they are stable; no markers, no
        producers."""
        source, found = self.saved()
        coordinate(self.session, "g")
        transactor = Transactor(self.session, "t")
        transactor.initialise()
        self.append(source, Batch([b"error 0"]))
        for commit in (False, True):
            transactor.produce(source, b"error in a transaction", b"info")
            transactor.end(commit)
        self.until_stable(source, 7)
        transactor.produce(source, b"error in an open one")
        self.append(source, Batch([b"error behind"]))
        for isolation in (0, COMMITTED):
            answer = self.fetch(found, 0, isolation_level=isolation)
            self.assertEqual((answer.high_watermark, answer.last_stable_offset), (9, 7))
            batches = self.given(found, 0, 7, isolation)
            self.assertEqual([each["base_offset"] for each in batches if each["count"]], [0, 4])
            for each in batches:
                self.assertEqual((each["producer_id"], each["attributes"]), (-1, 0))
            for offset in (7, 8, 9):
                self.assertEqual(
                    bytes(self.fetch(found, offset, isolation_level=isolation, max_wait_ms=50).records), b""
                )
        transactor.end(commit=True)
        batches = self.given(found, 7, 10)
        self.assertEqual([each["base_offset"] for each in batches if each["count"]], [7, 8])

    def until_stable(self, topic: str, end: int) -> None:
        give_up = time.monotonic() + _PATIENCE
        while self.fetch(topic, 0, isolation_level=COMMITTED).last_stable_offset != end:
            self.assertLess(time.monotonic(), give_up)
            time.sleep(0.02)

    def test_a_long_poll_ends_with_a_match_and_else_tells_how_far_it_came(self) -> None:
        source, found = self.saved()
        for value, quickly in ((b"error", True), (b"info", False)):
            end = self.fetch(source, 0).high_watermark
            part = {"partition": 0, "fetch_offset": end, "partition_max_bytes": 1 << 20}
            body = fetch_body([{"topic": found, "partitions": [part]}], max_wait_ms=3000 if quickly else 600)
            pending = self.session.begin("", ApiKey.FETCH, 12, body, on="waiting")
            time.sleep(0.1)
            begun = time.monotonic()
            self.append(source, Batch([b"info"]), Batch([value]))
            answer = self.session.read(pending, unrecorded=True).responses[0].partitions[0]
            took = time.monotonic() - begun
            (batch,) = describe(answer.records)  # type: ignore[misc]
            if quickly:
                self.assertLess(took, 2.5)
                self.assertEqual((batch["base_offset"], batch["count"]), (1, 1))
            else:
                self.assertGreater(took, 0.3)
                self.assertEqual((batch["base_offset"], batch["last_offset_delta"], batch["count"]), (2, 1, 0))

    def test_clients_built_on_librdkafka_are_told_by_a_control_record(self) -> None:
        """It takes ten empty batches in a row for an error (see `chronik.listeners.handlers.gaps`)."""
        source, found = self.saved()
        self.append(source, Batch([b"info"] * 5))
        for name, version, attributes, count in (
            ("apache-kafka-java", "4.1.0", 0, 0),
            ("librdkafka", "2.0.2", CONTROL, 1),
            ("confluent-kafka-python", "2.11.0-rdkafka-2.11.0", CONTROL, 1),
        ):
            self.session = self.connect()
            software = {"client_software_name": name, "client_software_version": version}
            self.assertEqual(self.ask(ApiKey.API_VERSIONS, 3, software).error_code, ErrorCode.NONE)
            (batch,) = self.given(found, 0, 5)
            self.assertEqual((batch["attributes"], batch["count"], batch["last_offset_delta"]), (attributes, count, 4))
            self.assertEqual(batch["producer_id"], -1)

    def test_many_partitions_at_a_time_among_others(self) -> None:
        """Beyond 500 partitions a fetch goes another way through the node."""
        source, found = self.saved(partitions=600)
        for partition in (3, 599):
            self.append(source, Batch([b"info"]), Batch([b"error"]), partition=partition)
        parts = [{"partition": n, "fetch_offset": 0, "partition_max_bytes": 1 << 16} for n in range(600)]
        give_up = time.monotonic() + _PATIENCE
        seen: set[int] = set()
        while seen != {3, 599}:
            self.assertLess(time.monotonic(), give_up)
            answer = self.ask(ApiKey.FETCH, 12, fetch_body([{"topic": found, "partitions": parts}], max_wait_ms=500))
            for part in answer.responses[0].partitions:
                self.assertEqual(part.error_code, ErrorCode.NONE)
                seen |= {part.partition_index for each in describe(part.records) if each["count"]}  # type: ignore[union-attr]

    def test_every_version_of_fetch(self) -> None:
        source, found = self.saved()
        self.append(source, Batch([b"error"]))
        self.given(found, 0, 1)
        topic_id = self.topic_ids([found])[found]
        for version in range(4, 19):
            part = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1 << 20}
            topic = {"topic_id": topic_id} if version >= 13 else {"topic": found}
            answer = self.ask(ApiKey.FETCH, version, fetch_body([{**topic, "partitions": [part]}], max_wait_ms=500))
            (batch,) = describe(answer.responses[0].partitions[0].records)  # type: ignore[misc]
            self.assertEqual(batch["count"], 1, version)

    def topic_ids(self, names: list[str]) -> dict[str, bytes]:
        answer = self.ask(ApiKey.METADATA, 12, {"topics": [{"name": name} for name in names]})
        return {topic.name: topic.topic_id for topic in answer.topics}


class OffsetsTests(SavedSearchCase):
    def test_offsets_are_those_of_the_source(self) -> None:
        source, found = self.saved()
        for number in range(5):
            self.append(source, Batch([b"error" if number == 3 else b"info"], base_time=TIME + 100 * number))
        self.delete_records(source, 1)
        for timestamp in (-1, -2, -3, -4, -5, TIME + 250, TIME + 900):
            for isolation in (0, 1):
                answers = [self.list_offsets(topic, timestamp, isolation) for topic in (source, found)]
                self.assertEqual(answers[0], answers[1], timestamp)
        self.assertEqual(self.list_offsets(found, TIME + 250, 1)[:3], (ErrorCode.NONE, TIME + 300, 3))
        self.assertEqual(self.fetch(found, 0).error_code, ErrorCode.OFFSET_OUT_OF_RANGE)
        self.assertEqual(self.given(found, 1, 5)[0]["base_offset"], 3)
        for topic in (source, found):
            body = {"topics": [{"topic": topic, "partitions": [{"partition": 0, "leader_epoch": 0}]}]}
            (epoch,) = self.ask(ApiKey.OFFSET_FOR_LEADER_EPOCH, 4, body).topics[0].partitions
            self.assertEqual((epoch.error_code, epoch.leader_epoch, epoch.end_offset), (ErrorCode.NONE, 0, 5))

    def list_offsets(self, topic: str, timestamp: int, isolation: int) -> tuple[int, int, int, int]:
        parts = [{"partition_index": 0, "current_leader_epoch": -1, "timestamp": timestamp}]
        body = {"replica_id": -1, "isolation_level": isolation, "topics": [{"name": topic, "partitions": parts}]}
        (answer,) = self.ask(ApiKey.LIST_OFFSETS, 10, body).topics[0].partitions
        return answer.error_code, answer.timestamp, answer.offset, answer.leader_epoch

    def delete_records(self, topic: str, offset: int) -> int:
        parts = [{"partition_index": 0, "offset": offset}]
        body = {"topics": [{"name": topic, "partitions": parts}], "timeout_ms": 5000}
        return int(self.ask(ApiKey.DELETE_RECORDS, 2, body).topics[0].partitions[0].error_code)

    def test_commits_live_under_its_own_name(self) -> None:
        source, found = self.saved()
        coordinate(self.session, "g")
        part = {"partition_index": 0, "committed_offset": 7, "committed_metadata": "m"}
        body = {"group_id": "g", "topics": [{"name": found, "partitions": [part]}]}
        answer = self.session.wait_until(
            ApiKey.OFFSET_COMMIT, 8, body, lambda each: each.topics[0].partitions[0].error_code == ErrorCode.NONE
        )
        self.assertIsNotNone(answer)
        wanted = [{"name": name, "partition_indexes": [0]} for name in (source, found)]
        answer = self.ask(ApiKey.OFFSET_FETCH, 7, {"group_id": "g", "topics": wanted})
        self.assertEqual([topic.partitions[0].committed_offset for topic in answer.topics], [-1, 7])


class RefusalTests(SavedSearchCase):
    def test_produce_is_refused_for_good(self) -> None:
        source, found = self.saved()
        for version in (3, 9, 12):
            answer = self.produce(found, Batch([b"x"]).encode(), version)
            self.assertEqual(answer.error_code, ErrorCode.INVALID_TOPIC_EXCEPTION)
        self.assertIn("can only be read", answer.error_message)
        self.assertEqual(self.produce(source, Batch([b"x"]).encode()).error_code, ErrorCode.NONE)
        for _ in range(3):  # as a shape, too
            self.assertEqual(self.produce(found, Batch([b"x"]).encode()).error_code, ErrorCode.INVALID_TOPIC_EXCEPTION)

    def test_no_transaction_takes_it(self) -> None:
        source, found = self.saved()
        coordinate(self.session, "g")
        for v2 in (False, True):
            transactor = Transactor(self.session, f"t{v2}", v2)
            transactor.initialise()
            if v2:
                self.assertEqual(transactor.produce(found, b"x").error_code, ErrorCode.INVALID_TOPIC_EXCEPTION)
            else:
                self.assertEqual(transactor.add(found, 0), ErrorCode.INVALID_TOPIC_EXCEPTION)
            self.assertEqual(transactor.produce(source, b"x").error_code, ErrorCode.NONE)
            self.assertEqual(transactor.end(commit=True), ErrorCode.NONE)

    def test_records_are_not_deleted(self) -> None:
        source, found = self.saved()
        self.append(source, Batch([b"error"] * 3))
        body = {"topics": [{"name": found, "partitions": [{"partition_index": 0, "offset": 1}]}], "timeout_ms": 5000}
        (answer,) = self.ask(ApiKey.DELETE_RECORDS, 2, body).topics[0].partitions
        self.assertEqual(answer.error_code, ErrorCode.INVALID_TOPIC_EXCEPTION)
        self.assertEqual(self.fetch(source, 0).log_start_offset, 0)

    def test_partitions_and_configs(self) -> None:
        source, found = self.saved()
        answer = self.ask(
            ApiKey.CREATE_PARTITIONS,
            3,
            {"topics": [{"name": found, "count": 4, "assignments": None}], "timeout_ms": 5000},
        )
        self.assertEqual(answer.results[0].error_code, ErrorCode.POLICY_VIOLATION)
        change = {"name": "retention.ms", "config_operation": 0, "value": "5"}
        resource = {"resource_type": 2, "resource_name": found, "configs": [change]}
        answer = self.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, {"resources": [resource]})
        self.assertEqual(answer.responses[0].error_code, ErrorCode.POLICY_VIOLATION)
        resource = {"resource_type": 2, "resource_name": found, "configuration_keys": None}
        (described,) = self.ask(ApiKey.DESCRIBE_CONFIGS, 4, {"resources": [resource]}).results
        shown = {each.name: (each.value, each.read_only) for each in described.configs}
        self.assertEqual(shown, {"chronik.search.query": ("error", True), "chronik.search.source": (source, True)})
        more = {"name": source, "count": 4, "assignments": None}
        self.ask(ApiKey.CREATE_PARTITIONS, 3, {"topics": [more], "timeout_ms": 5000})
        answer = self.ask(ApiKey.METADATA, 12, {"topics": [{"name": found}]})
        self.assertEqual(len(answer.topics[0].partitions), 4)
        self.append(source, Batch([b"error"]), partition=3)
        self.assertEqual(self.given(found, 0, 1, partition=3)[0]["count"], 1)

    def test_names_and_deletions(self) -> None:
        source, found = self.saved()
        body = {"topics": [{"name": found, "num_partitions": 1, "replication_factor": 1}], "timeout_ms": 5000}
        self.assertEqual(self.ask(ApiKey.CREATE_TOPICS, 7, body).topics[0].error_code, ErrorCode.TOPIC_ALREADY_EXISTS)
        self.assertEqual(self.delete(source), [ErrorCode.POLICY_VIOLATION])
        self.assertEqual(self.delete(found), [ErrorCode.NONE])
        self.assertEqual(self.fetch(found, 0).error_code, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        self.broker.save_search(found, source, "warn")
        self.assertEqual(self.delete(source, found), [ErrorCode.NONE, ErrorCode.NONE])

    def delete(self, *names: str) -> list[int]:
        body = {"topics": [{"name": name} for name in names], "timeout_ms": 5000}
        return [each.error_code for each in self.ask(ApiKey.DELETE_TOPICS, 6, body).responses]

    def test_other_apis_know_of_it(self) -> None:
        source, found = self.saved(partitions=2)
        body = {"topics": [{"name": found, "partition_indexes": [0]}]}
        (answer,) = self.ask(ApiKey.DESCRIBE_PRODUCERS, 0, body).topics[0].partitions
        self.assertEqual((answer.error_code, answer.active_producers), (ErrorCode.NONE, []))
        self.append(source, Batch([b"x"]))
        answer = self.ask(ApiKey.DESCRIBE_LOG_DIRS, 4, {"topics": None})
        self.assertEqual([topic.name for topic in answer.results[0].topics], [source])
        answer = self.ask(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, {"topics": [{"name": found}]})
        self.assertEqual(len(answer.topics[0].partitions), 2)
        self.assertFalse(answer.topics[0].is_internal)

    def test_a_waiting_fetch_ends_when_the_search_is_deleted(self) -> None:
        _, found = self.saved()
        part = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1 << 20}
        body = fetch_body([{"topic": found, "partitions": [part]}], max_wait_ms=20_000)
        pending = self.session.begin("", ApiKey.FETCH, 12, body, on="waiting")
        time.sleep(0.1)
        begun = time.monotonic()
        self.delete(found)
        answer = self.session.read(pending, unrecorded=True).responses[0].partitions[0]
        self.assertLess(time.monotonic() - begun, 10)
        self.assertEqual(answer.error_code, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)


class WithoutSearchTests(SavedSearchCase):
    options = {"search_workers": 0}  # noqa: RUF012

    def test_a_node_that_does_not_search_says_so(self) -> None:
        source, found = self.saved()
        self.append(source, Batch([b"error"]))
        self.assertEqual(self.fetch(found, 0).error_code, ErrorCode.UNKNOWN_SERVER_ERROR)
        self.assertEqual(self.fetch(source, 0).error_code, ErrorCode.NONE)


class RestartTests(OnDisk, SavedSearchCase):
    def test_it_is_there_after_a_restart(self) -> None:
        source, found = self.saved()
        self.append(source, Batch([b"info"] * 5), Batch([b"error"]))
        self.assertEqual(self.given(found, 0, 6)[-1]["base_offset"], 5)
        self.broker.stop()
        self.start()
        self.append(source, Batch([b"error"]))
        batches = self.given(found, 0, 7)
        self.assertEqual([each["base_offset"] for each in batches if each["count"]], [5, 6])

    def test_a_process_that_is_killed_costs_nothing_but_time(self) -> None:
        source, found = self.saved()
        self.append(source, Batch([b"error"]))
        self.given(found, 0, 1)

        async def pids() -> list[int]:
            return list(self.broker._node._parts.search._processes.pids)

        (before,) = call(pids)
        os.kill(before, signal.SIGKILL)
        self.append(source, Batch([b"info"]), Batch([b"error"]))
        batches = self.given(found, 0, 3)
        self.assertEqual([each["base_offset"] for each in batches if each["count"]], [0, 2])
        self.assertNotEqual(call(pids), [before])

    def test_bad_searches_are_refused(self) -> None:
        from chronik.search.query import QueryError

        source, found = self.saved()
        self.assertRaises(QueryError, self.broker.save_search, "new", source, "a AND (")
        for name, of in (("new", found), ("new", "nowhere"), (found, source), (source, source)):
            self.assertRaises(KafkaError, self.broker.save_search, name, of, "a")
