"""The records of `__transaction_state`: Kafka's bytes, both versions, and what is refused."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.coordinator.transaction import V2, Transaction, TransactionState
from chronik.coordinator.transaction_records import (
    TransactionEntry,
    TransactionLogValue,
    UntaggedEntry,
    decode_transaction_entry,
)
from chronik.model import TopicPartition
from chronik.wire.codec import MalformedMessage

KEY = b"\x00\x00\x00\x04tx-1"
LOGGED = [state for state in TransactionState if state.value < 6]

states = st.builds(
    Transaction,
    producer_id=st.integers(0, 2**63 - 1),
    producer_epoch=st.integers(0, 32767),
    timeout_ms=st.integers(1, 2**31 - 1),
    state=st.sampled_from(LOGGED),
    partitions=st.frozensets(
        st.builds(TopicPartition, st.sampled_from(["a", "b", "c"]), st.integers(0, 2**31 - 1)), max_size=8
    ),
    start_ms=st.integers(-1, 2**40),
    updated_ms=st.integers(0, 2**40),
    client_version=st.sampled_from([0, 2]),
    previous_producer_id=st.integers(-1, 2**63 - 1),
    next_producer_id=st.integers(-1, 2**63 - 1),
    last_producer_epoch=st.integers(-1, 32767),
).filter(lambda state: state.state is not TransactionState.EMPTY or not state.partitions)


class RecordTests(SynchronousTestCase):
    def test_what_is_written_are_kafkas_bytes(self) -> None:
        partitions = frozenset({TopicPartition("a", 1), TopicPartition("a", 0), TopicPartition("b", 2)})
        state = Transaction(7, 3, 60_000, TransactionState.PREPARE_COMMIT, partitions, 1_000, 2_000, V2, 7, -1, 2)
        key, value = TransactionEntry("tx-1", state).encode()
        self.assertEqual(key, KEY)
        assert value is not None
        topics = (
            b"\x03" + b"\x02a\x03" + struct.pack(">ii", 0, 1) + b"\x00" + b"\x02b\x02" + struct.pack(">i", 2) + b"\x00"
        )
        tags = b"\x03" + b"\x00\x08" + struct.pack(">q", 7) + b"\x02\x02\x00\x02" + b"\xe8\x07\x02\x00\x02"
        head = struct.pack(">hqhib", 1, 7, 3, 60_000, 2)
        self.assertEqual(value, head + topics + struct.pack(">qq", 2_000, 1_000) + tags)

    def test_a_new_id_has_no_list_of_partitions(self) -> None:
        _, value = TransactionEntry("tx-1", Transaction(7, 0, 60_000, updated_ms=5)).encode()
        self.assertEqual(value, struct.pack(">hqhibBqqB", 1, 7, 0, 60_000, 0, 0, 5, -1, 0))

    def test_version_0_is_read(self) -> None:
        topics = struct.pack(">ih1sii", 1, 1, b"a", 1, 5)
        value = struct.pack(">hqhib", 0, 7, 3, 60_000, 1) + topics + struct.pack(">qq", 2_000, 1_000)
        entry = decode_transaction_entry(KEY, value)
        partitions = frozenset({TopicPartition("a", 5)})
        expected = Transaction(7, 3, 60_000, TransactionState.ONGOING, partitions, 1_000, 2_000)
        self.assertEqual(entry, TransactionEntry("tx-1", expected))

    def test_without_tagged_fields(self) -> None:
        """At level 0 of transaction.version: what older releases of Kafka read."""
        partitions = frozenset({TopicPartition("a", 5)})
        state = Transaction(7, 3, 60_000, TransactionState.ONGOING, partitions, 1_000, 2_000, V2, 7, 8, 2)
        topics = struct.pack(">ih1sii", 1, 1, b"a", 1, 5)
        value = struct.pack(">hqhib", 0, 7, 3, 60_000, 1) + topics + struct.pack(">qq", 2_000, 1_000)
        self.assertEqual(UntaggedEntry("tx-1", state).encode(), (KEY, value))
        self.assertEqual(UntaggedEntry("tx-1", None).encode(), (KEY, None))

    def test_fields_of_later_releases_are_skipped(self) -> None:
        value = TransactionEntry("tx-1", Transaction(7, 0, 60_000, updated_ms=5)).encode()[1]
        assert value is not None
        entry = decode_transaction_entry(KEY, value[:-1] + b"\x01\x09\x01x")
        assert entry is not None
        assert entry.state is not None
        self.assertEqual(entry.state.producer_id, 7)

    @given(states)
    def test_round_trip(self, state: Transaction) -> None:
        entry = TransactionEntry("tx-1", state)
        self.assertEqual(decode_transaction_entry(*entry.encode()), entry)

    def test_tombstones_and_unknown_kinds(self) -> None:
        self.assertEqual(TransactionEntry("tx-1", None).encode(), (KEY, None))
        self.assertEqual(decode_transaction_entry(KEY, None), TransactionEntry("tx-1", None))
        self.assertIsNone(decode_transaction_entry(b"\x00\x01later", b"?"))

    def test_what_does_not_parse(self) -> None:
        good = TransactionEntry("tx-1", Transaction(7, 0, 60_000, updated_ms=5)).encode()[1]
        assert good is not None
        for key, value in (
            (None, good),
            (b"\x00", good),
            (b"\x00\x00\x00\x09tx", good),
            (KEY, b""),
            (KEY, b"\x00\x02" + good[2:]),
            (KEY, good[:10]),
        ):
            self.assertRaises(MalformedMessage, decode_transaction_entry, key, value)

    def test_states_that_are_never_written(self) -> None:
        for number in (6, 7, 8, -1):
            value = TransactionLogValue(transaction_status=number)
            error = self.assertRaises(MalformedMessage, decode_transaction_entry, KEY, b"\x00\x01" + value.encode(1))
            self.assertIn("tx-1", str(error))
