"""A transactional producer of the script: what it sends is recorded, what it must wait for is not."""

from __future__ import annotations

from typing import Any

from chronik.wire.apis import ApiKey
from tests.differential.batches import Batch
from tests.differential.session import Session

TRANSACTIONAL = 1 << 4
NOT_FOUND = 105
"""TRANSACTIONAL_ID_NOT_FOUND."""

TIMEOUT_MS = 60_000


def coordinate_transaction(s: Session, *transactional_ids: str) -> None:
    """Wait until the coordinators of these ids are loaded, whether they know them or not."""
    for each in transactional_ids:
        sought = {"coordinator_keys": [each], "key_type": 1}
        s.wait_until(ApiKey.FIND_COORDINATOR, 4, sought, lambda answer: not answer.coordinators[0].error_code)
        s.wait_until(
            ApiKey.DESCRIBE_TRANSACTIONS,
            0,
            {"transactional_ids": [each]},
            lambda answer: answer.transaction_states[0].error_code in (0, NOT_FOUND),
        )


def settle(s: Session, *transactional_ids: str) -> None:
    """Wait until the last transactions of these ids have all their markers, which a broker writes in its own time."""
    s.wait_until(
        ApiKey.DESCRIBE_TRANSACTIONS,
        0,
        {"transactional_ids": list(transactional_ids)},
        lambda answer: not any(state.transaction_state.startswith("Prepare") for state in answer.transaction_states),
    )


class Transactor:
    """The producer of one transactional id. Where `begin` gets its id, that is not recorded, and its epoch is 1 at first."""

    def __init__(self, s: Session, transactional_id: str) -> None:
        self.s, self.transactional_id = s, transactional_id
        self.producer_id, self.epoch = -1, -1
        self._sequences: dict[tuple[str, int], int] = {}

    @classmethod
    def begin(cls, s: Session, transactional_id: str) -> Transactor:
        """A producer that is initialised, twice if its id is new: so there is an older epoch than its own."""
        coordinate_transaction(s, transactional_id)
        found = cls(s, transactional_id)
        while found.epoch < 1:
            asked = ApiKey.INIT_PRODUCER_ID, 5, found._wanted()
            found._become(s.wait_until(*asked, lambda answer: not answer.error_code))
        return found

    def _wanted(self, **more: Any) -> dict[str, Any]:
        return {"transactional_id": self.transactional_id, "transaction_timeout_ms": TIMEOUT_MS, **more}

    def _become(self, answer: Any) -> None:
        if (answer.producer_id, answer.producer_epoch) != (self.producer_id, self.epoch):
            self._sequences.clear()
        self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch

    def copy(self) -> Transactor:
        """The same producer as it is now, for what a zombie sends later."""
        found = Transactor(self.s, self.transactional_id)
        found.producer_id, found.epoch = self.producer_id, self.epoch
        found._sequences = dict(self._sequences)
        return found

    @property
    def identity(self) -> dict[str, Any]:
        """What requests of a transaction begin with."""
        return {
            "transactional_id": self.transactional_id,
            "producer_id": self.producer_id,
            "producer_epoch": self.epoch,
        }

    @property
    def current(self) -> dict[str, int]:
        """What InitProducerId of a producer that has an id says."""
        return {"producer_id": self.producer_id, "producer_epoch": self.epoch}

    def init(self, label: str, version: int = 5, **more: Any) -> Any:
        """InitProducerId; the producer is what the answer says, unless that is an error."""
        answer = self.s.ask(label, ApiKey.INIT_PRODUCER_ID, version, self._wanted(**more))
        if answer is not None and not answer.error_code:
            self._become(answer)
        return answer

    def add(self, label: str, topic: str, *partitions: int, version: int = 3, **more: Any) -> Any:
        """AddPartitionsToTxn up to version 3."""
        body = {f"v3_and_below_{name}": value for name, value in {**self.identity, **more}.items()}
        topics = [{"name": topic, "partitions": list(partitions)}]
        return self.s.ask(label, ApiKey.ADD_PARTITIONS_TO_TXN, version, {"v3_and_below_topics": topics, **body})

    def batched(self, topic: str, *partitions: int, verify_only: bool = False, **more: Any) -> dict[str, Any]:
        """One transaction of AddPartitionsToTxn from version 4 on."""
        topics = [{"name": topic, "partitions": list(partitions)}]
        return {**self.identity, "verify_only": verify_only, "topics": topics, **more}

    def add_offsets(self, label: str, group: str, version: int = 4, **more: Any) -> Any:
        """AddOffsetsToTxn."""
        return self.s.ask(label, ApiKey.ADD_OFFSETS_TO_TXN, version, {**self.identity, "group_id": group, **more})

    def commit_offsets(
        self, label: str, group: str, topic: str, *offsets: tuple[int, int], version: int = 4, **more: Any
    ) -> Any:
        """TxnOffsetCommit of (partition, offset)s."""
        partitions = [
            {"partition_index": index, "committed_offset": offset, "committed_metadata": "note"}
            for index, offset in offsets
        ]
        body = {**self.identity, "group_id": group, "topics": [{"name": topic, "partitions": partitions}], **more}
        return self.s.ask(label, ApiKey.TXN_OFFSET_COMMIT, version, body)

    def end(self, label: str, commit: bool, version: int = 5, **more: Any) -> Any:
        """EndTxn, and the wait for its markers; from version 5 on the producer is what the answer says."""
        answer = self.s.ask(label, ApiKey.END_TXN, version, {**self.identity, "committed": commit, **more})
        if answer is not None and not answer.error_code:
            if version >= 5:
                self._become(answer)
            settle(self.s, self.transactional_id)
        return answer

    def produce(
        self,
        label: str,
        topic: str,
        *values: bytes,
        partition: int = 0,
        version: int = 12,
        transactional_id: str | None = "",
        topic_id: bytes = bytes(16),
        **fields: Any,
    ) -> Any:
        """One transactional batch; by version 12 its partition enters the transaction. `fields` are those of the batch.

        Without a label it is not recorded, and has to succeed.
        """
        place = (topic, partition)
        sequence = self._sequences.get(place, 0)
        given = {
            "attributes": TRANSACTIONAL,
            "producer_id": self.producer_id,
            "producer_epoch": self.epoch,
            "base_sequence": sequence,
            **fields,
        }
        data = [{"index": partition, "records": Batch(list(values) or [b"v"], **given).encode()}]
        body = {
            "transactional_id": self.transactional_id if transactional_id == "" else transactional_id,
            "acks": -1,
            "timeout_ms": 5000,
            "topic_data": [{"name": topic, "topic_id": topic_id, "partition_data": data}],
        }
        answer = self.s.ask(label, ApiKey.PRODUCE, version, body, unrecorded=not label)
        code = None if answer is None else answer.responses[0].partition_responses[0].error_code
        if not label and code != 0:
            raise AssertionError(f"{self.transactional_id} could not produce to {topic}: {answer!r}")
        if code == 0 and not fields:
            self._sequences[place] = sequence + (len(values) or 1)
        return answer

    def describe(self, label: str) -> Any:
        """DescribeTransactions of it."""
        body = {"transactional_ids": [self.transactional_id]}
        return self.s.ask(label, ApiKey.DESCRIBE_TRANSACTIONS, 0, body)
