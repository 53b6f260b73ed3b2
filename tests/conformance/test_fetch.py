"""Conformance 17 to 24: fetch and offsets."""

from __future__ import annotations

import time
from typing import Any

from chronik.errors import ErrorCode
from chronik.wire.apis import ApiKey
from tests.conformance.case import ConformanceCase, fetch_body
from tests.differential.batches import TIME, Batch, describe

_LATEST, _EARLIEST, _MAX_TIMESTAMP = -1, -2, -3


def offsets(records: Any) -> list[int]:
    """The base offsets of fetched batches."""
    found = describe(records)
    assert isinstance(found, list)
    return [each["base_offset"] for each in found]


class _OffsetsCase(ConformanceCase):
    def list_offsets(self, topic: str, timestamp: int, version: int = 7) -> tuple[int, int, int]:
        """(error, timestamp, offset) for a time."""
        parts = [{"partition_index": 0, "current_leader_epoch": -1, "timestamp": timestamp}]
        body = {"replica_id": -1, "isolation_level": 0, "topics": [{"name": topic, "partitions": parts}]}
        (found,) = self.ask(ApiKey.LIST_OFFSETS, version, body).topics[0].partitions
        return found.error_code, found.timestamp, found.offset


class FetchTests(_OffsetsCase):
    def test_17_an_offset_inside_a_batch_gives_the_whole_batch(self) -> None:
        topic = self.topic()
        self.append(topic, Batch([b"x"] * 10), Batch([b"y"] * 10))
        for offset in range(10):
            self.assertEqual(offsets(self.fetch(topic, offset).records), [0, 10])
        self.assertEqual(offsets(self.fetch(topic, 15).records), [10])

    def test_18_an_answer_comes_by_max_wait(self) -> None:
        topic = self.topic()
        for wait in (0, 50, 300):
            begun = time.monotonic()
            self.assertEqual(bytes(self.fetch(topic, 0, max_wait_ms=wait).records), b"")
            self.assertGreaterEqual(time.monotonic() - begun, wait / 1000 - 0.005)
            self.assertLess(time.monotonic() - begun, wait / 1000 + 2)
        self.append(topic, Batch())
        begun = time.monotonic()
        self.assertEqual(offsets(self.fetch(topic, 0, max_wait_ms=10_000).records), [0])
        self.assertLess(time.monotonic() - begun, 5)

    def test_19_the_first_batch_comes_even_if_it_is_too_large(self) -> None:
        topic = self.topic(2)
        for partition in range(2):
            self.append(topic, Batch((b"x" * 5000,)), Batch((b"y" * 5000,)), partition=partition)
        self.assertEqual(offsets(self.fetch(topic, 0, limit=1).records), [0])
        self.assertEqual(offsets(self.fetch(topic, 0, max_bytes=1).records), [0])
        parts = [{"partition": n, "fetch_offset": 0, "partition_max_bytes": 1} for n in range(2)]
        answer = self.ask(ApiKey.FETCH, 12, fetch_body([{"topic": topic, "partitions": parts}]))
        first, second = answer.responses[0].partitions
        self.assertEqual((offsets(first.records), bytes(second.records)), ([0], b""))

    def test_20_a_partition_that_fills_its_own_limit_ends_the_wait(self) -> None:
        topic = self.topic()
        self.append(topic, Batch((b"x" * 1000,)), Batch((b"y" * 1000,)))
        begun = time.monotonic()
        answer = self.fetch(topic, 0, limit=1100, min_bytes=1_000_000, max_wait_ms=10_000)
        self.assertEqual(offsets(answer.records), [0])
        self.assertLess(time.monotonic() - begun, 5)

    def test_21_a_waiting_fetch_answers_each_partition_once(self) -> None:
        topic = self.topic(3)
        parts = [{"partition": n, "fetch_offset": 0, "partition_max_bytes": 1 << 20} for n in range(3)]
        body = fetch_body([{"topic": topic, "partitions": parts}], max_wait_ms=10_000, min_bytes=300)
        pending = self.session.begin("", ApiKey.FETCH, 12, body, on="waiting")
        for partition in (0, 1, 0, 2):
            self.append(topic, Batch(), partition=partition)
            time.sleep(0.02)
        self.append(topic, Batch((b"x" * 300,)), partition=0)
        answer = self.session.read(pending, unrecorded=True)
        found = [part.partition_index for each in answer.responses for part in each.partitions]
        self.assertEqual(sorted(found), [0, 1, 2])
        (first,) = [part for part in answer.responses[0].partitions if part.partition_index == 0]
        self.assertEqual(offsets(first.records), [0, 1, 2])

    def test_22_fetch_sessions(self) -> None:
        topic = self.topic(2)
        parts = [{"partition": n, "fetch_offset": 0, "partition_max_bytes": 1 << 20} for n in range(2)]
        topics = [{"topic": topic, "partitions": parts}]

        def fetch(session: int, epoch: int, topics: list[dict[str, Any]], **fields: Any) -> Any:
            return self.ask(ApiKey.FETCH, 12, fetch_body(topics, session_id=session, session_epoch=epoch, **fields))

        self.assertEqual(fetch(0, -1, topics).session_id, 0)
        opened = fetch(0, 0, topics)
        session = opened.session_id
        self.assertGreater(session, 0)
        self.assertEqual(len(opened.responses[0].partitions), 2)
        self.assertEqual(fetch(session, 1, []).responses, [])
        self.append(topic, Batch(), partition=1)
        (changed,) = fetch(session, 2, []).responses[0].partitions
        self.assertEqual((changed.partition_index, offsets(changed.records)), (1, [0]))
        self.assertEqual(fetch(session, 9, []).error_code, ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        self.assertEqual(fetch(session + 1, 1, []).error_code, ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        forget = [{"topic": topic, "partitions": [1]}]
        forgotten = fetch(session, 3, [], forgotten_topics_data=forget)
        self.assertEqual((forgotten.error_code, forgotten.responses), (ErrorCode.NONE, []))
        self.append(topic, Batch(), partition=1)
        self.assertEqual(fetch(session, 4, []).responses, [])
        self.assertEqual(fetch(session, -1, topics).session_id, 0)  # closed
        self.assertEqual(fetch(session, 5, []).error_code, ErrorCode.FETCH_SESSION_ID_NOT_FOUND)

    def test_23_list_offsets_by_time(self) -> None:
        topic = self.topic()
        self.append(topic, Batch([b"x"] * 5, base_time=TIME, time_step=10))
        self.append(topic, Batch([b"x"] * 5, base_time=TIME + 100, time_step=10))
        self.assertEqual(self.list_offsets(topic, TIME - 1), (0, TIME, 0))
        self.assertEqual(self.list_offsets(topic, TIME + 10), (0, TIME + 10, 1))
        self.assertEqual(self.list_offsets(topic, TIME + 11), (0, TIME + 20, 2))
        self.assertEqual(self.list_offsets(topic, TIME + 41), (0, TIME + 100, 5))
        self.assertEqual(self.list_offsets(topic, TIME + 141), (0, -1, -1))

    def test_24_the_log_start_never_goes_back(self) -> None:
        topic = self.topic()
        self.append(topic, *[Batch() for _ in range(10)])

        def delete(before: int) -> tuple[int, int]:
            parts = [{"partition_index": 0, "offset": before}]
            body = {"topics": [{"name": topic, "partitions": parts}], "timeout_ms": 5000}
            (found,) = self.ask(ApiKey.DELETE_RECORDS, 2, body).topics[0].partitions
            return found.error_code, found.low_watermark

        self.assertEqual(delete(6), (0, 6))
        self.assertEqual(delete(3), (0, 6))
        self.assertEqual(self.list_offsets(topic, _EARLIEST)[2], 6)
        self.assertEqual(delete(-1), (0, 10))
        self.assertEqual(delete(4), (0, 10))
        self.assertEqual(self.fetch(topic, 10).log_start_offset, 10)


class MoreFetchTests(_OffsetsCase):
    """What stands under "more of the same weight"."""

    def test_many_batches_come_without_gaps(self) -> None:
        topic = self.topic()
        self.append(topic, *[Batch([b"v%d" % n] * 3) for n in range(100)])
        position, seen = 0, []
        while position < 300:
            found = describe(self.fetch(topic, position, limit=700).records)
            assert isinstance(found, list)
            whole = [each for each in found if each.get("whole")]
            seen += [each["base_offset"] for each in whole]
            position = whole[-1]["base_offset"] + 3
        self.assertEqual(seen, list(range(0, 300, 3)))

    def test_outside_of_the_log_is_out_of_range(self) -> None:
        topic = self.topic()
        self.append(topic, *[Batch() for _ in range(4)])
        parts = [{"partition_index": 0, "offset": 2}]
        self.ask(ApiKey.DELETE_RECORDS, 2, {"topics": [{"name": topic, "partitions": parts}], "timeout_ms": 5000})
        for offset, code in (
            (-1, ErrorCode.OFFSET_OUT_OF_RANGE),
            (1, ErrorCode.OFFSET_OUT_OF_RANGE),
            (2, ErrorCode.NONE),
            (4, ErrorCode.NONE),
            (5, ErrorCode.OFFSET_OUT_OF_RANGE),
        ):
            self.assertEqual(self.fetch(topic, offset).error_code, code, offset)

    def test_list_offsets_of_the_ends_and_of_compressed_and_stamped_batches(self) -> None:
        topic = self.topic()
        self.append(topic, Batch([b"x"] * 5, base_time=TIME, time_step=10, attributes=1))  # gzip
        self.append(topic, Batch([b"x"] * 3, base_time=TIME - 500, time_step=1))
        self.assertEqual(self.list_offsets(topic, _LATEST), (0, -1, 8))
        self.assertEqual(self.list_offsets(topic, _EARLIEST), (0, -1, 0))
        self.assertEqual(self.list_offsets(topic, _MAX_TIMESTAMP), (0, TIME + 40, 4))
        self.assertEqual(self.list_offsets(topic, TIME + 25), (0, TIME + 30, 3))
        stamped = topic + "-stamped"
        self.broker.create_topic(stamped, configs={"message.timestamp.type": "LogAppendTime"})
        self.append(stamped, Batch([b"x"] * 3), Batch([b"y"] * 3))
        error, timestamp, offset = self.list_offsets(stamped, TIME)
        self.assertEqual((error, offset), (0, 0))
        self.assertGreater(timestamp, TIME)
