"""A transactional producer made of raw requests, so that a test says exactly what is sent, late or twice if it likes."""

from __future__ import annotations

import time
from typing import Any

from chronik.errors import ErrorCode
from chronik.wire.apis import ApiKey
from tests.differential.batches import Batch
from tests.differential.session import Session

_TRANSACTIONAL = 1 << 4
_RETRIABLE = (
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.CONCURRENT_TRANSACTIONS,
)
_PATIENCE = 10.0


class Transactor:
    """The producer with `transactional_id`. `v2` chooses the protocol of KIP-890 part 2: partitions are added by producing."""

    def __init__(self, session: Session, transactional_id: str, v2: bool = True, timeout_ms: int = 60_000) -> None:
        self._session = session
        self.transactional_id = transactional_id
        self.v2 = v2
        self.timeout_ms = timeout_ms
        self.producer_id, self.epoch = -1, -1
        self._sequences: dict[tuple[str, int], int] = {}

    def ask(self, key: ApiKey, version: int, values: dict[str, Any]) -> Any:
        """One request; the answer must come."""
        answer = self._session.ask("", key, version, values, unrecorded=True)
        assert answer is not None, f"{key.name} version {version} got no answer"
        return answer

    @property
    def identity(self) -> dict[str, Any]:
        """What every request of a transaction begins with."""
        return {
            "transactional_id": self.transactional_id,
            "producer_id": self.producer_id,
            "producer_epoch": self.epoch,
        }

    def initialise(self, **fields: Any) -> int:
        """InitProducerId, repeated while the coordinator is busy; the error code."""
        body = {"transactional_id": self.transactional_id, "transaction_timeout_ms": self.timeout_ms} | fields
        give_up = time.monotonic() + _PATIENCE
        while True:
            self.ask(ApiKey.FIND_COORDINATOR, 4, {"key_type": 1, "coordinator_keys": [self.transactional_id]})
            answer = self.ask(ApiKey.INIT_PRODUCER_ID, 5, body)
            if answer.error_code not in _RETRIABLE or time.monotonic() > give_up:
                break
            time.sleep(0.02)
        if not answer.error_code:
            self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
            self._sequences.clear()
        return int(answer.error_code)

    def add(self, topic: str, *partitions: int) -> int:
        """AddPartitionsToTxn as clients of transactions v1 send it; the error code of the first partition."""
        body = {f"v3_and_below_{name}": value for name, value in self.identity.items()}
        body["v3_and_below_topics"] = [{"name": topic, "partitions": list(partitions)}]
        give_up = time.monotonic() + _PATIENCE
        while True:
            answer = self.ask(ApiKey.ADD_PARTITIONS_TO_TXN, 3, body)
            code = int(answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code)
            if code != ErrorCode.CONCURRENT_TRANSACTIONS or time.monotonic() > give_up:
                return code
            time.sleep(0.02)

    def produce(self, topic: str, *values: bytes, partition: int = 0) -> Any:
        """A batch in the transaction; the partition's answer. With v1 the partition is added first."""
        if not self.v2:
            code = self.add(topic, partition)
            assert not code, ErrorCode(code)
        place = (topic, partition)
        sequence = self._sequences.get(place, 0)
        batch = Batch(
            list(values), attributes=_TRANSACTIONAL, producer_id=self.producer_id, producer_epoch=self.epoch,
            base_sequence=sequence,
        )  # fmt: skip
        body = {
            "transactional_id": self.transactional_id,
            "acks": -1,
            "timeout_ms": 5000,
            "topic_data": [{"name": topic, "partition_data": [{"index": partition, "records": batch.encode()}]}],
        }
        give_up = time.monotonic() + _PATIENCE
        while True:
            answer = self.ask(ApiKey.PRODUCE, 12 if self.v2 else 9, body).responses[0].partition_responses[0]
            if answer.error_code != ErrorCode.CONCURRENT_TRANSACTIONS or time.monotonic() > give_up:
                break
            time.sleep(0.02)
        if not answer.error_code:
            self._sequences[place] = sequence + len(values)
        return answer

    def add_offsets(self, group: str, version: int = 3) -> int:
        """AddOffsetsToTxn; the error code."""
        give_up = time.monotonic() + _PATIENCE
        while True:
            answer = self.ask(ApiKey.ADD_OFFSETS_TO_TXN, version, {**self.identity, "group_id": group})
            if answer.error_code != ErrorCode.CONCURRENT_TRANSACTIONS or time.monotonic() > give_up:
                return int(answer.error_code)
            time.sleep(0.02)

    def commit_offsets(self, group: str, topic: str, offset: int, version: int = 3, **member: Any) -> int:
        """TxnOffsetCommit of one partition; the error code. With v1 the group is to be added first."""
        part = {"partition_index": 0, "committed_offset": offset, "committed_metadata": "m"}
        body = {**self.identity, "group_id": group, "topics": [{"name": topic, "partitions": [part]}], **member}
        give_up = time.monotonic() + _PATIENCE
        while True:
            answer = self.ask(ApiKey.TXN_OFFSET_COMMIT, version, body)
            code = int(answer.topics[0].partitions[0].error_code)
            if code not in _RETRIABLE or time.monotonic() > give_up:
                return code
            time.sleep(0.02)

    def end(self, commit: bool, identity: dict[str, Any] | None = None) -> int:
        """EndTxn, of an older identity if one is given; repeated while the coordinator is busy. The error code."""
        body = {**(identity or self.identity), "committed": commit}
        give_up = time.monotonic() + _PATIENCE
        while True:
            answer = self.ask(ApiKey.END_TXN, 5 if self.v2 else 3, body)
            if answer.error_code not in _RETRIABLE or time.monotonic() > give_up:
                break
            time.sleep(0.02)
        if not answer.error_code and self.v2 and identity is None:
            if answer.producer_epoch != self.epoch or answer.producer_id != self.producer_id:
                self._sequences.clear()
            self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
        return int(answer.error_code)
