"""The stored form of metadata records: it reads back, and what a newer release wrote is refused."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.controller.records import (
    AlertDeleted,
    AlertSaved,
    BrokerConfigChanged,
    BrokerRegistered,
    ClientQuotaChanged,
    EndpointRow,
    FeatureLevelChanged,
    GroupConfigChanged,
    MetadataVersionError,
    PartitionRow,
    PartitionsAdded,
    ProducerIdsAllocated,
    SearchSaved,
    TopicConfigChanged,
    TopicCreated,
    TopicDeleted,
    decode_record,
    encode_record,
)
from chronik.errors import CorruptLogError

IDS = st.binary(min_size=16, max_size=16)
INT32 = st.integers(-(2**31), 2**31 - 1)
NODES = st.lists(INT32, max_size=4).map(tuple)
ROWS = st.lists(st.builds(PartitionRow, NODES, NODES, INT32, INT32, INT32), max_size=4).map(tuple)
CHANGES = st.dictionaries(st.text(max_size=20), st.none() | st.text(max_size=20), max_size=4)
ENDPOINTS = st.lists(st.builds(EndpointRow, st.text(), st.text(), st.integers(0, 65535)), max_size=3).map(tuple)
RECORDS = st.one_of(
    st.builds(TopicCreated, IDS, st.text(), ROWS, st.dictionaries(st.text(), st.text(), max_size=3)),
    st.builds(TopicDeleted, IDS),
    st.builds(PartitionsAdded, IDS, INT32, ROWS),
    st.builds(TopicConfigChanged, IDS, CHANGES),
    st.builds(BrokerConfigChanged, INT32, CHANGES),
    st.builds(BrokerRegistered, INT32, st.integers(0, 2**63 - 1), IDS, ENDPOINTS, st.none() | st.text(), st.booleans()),
    st.builds(
        ClientQuotaChanged,
        st.lists(st.tuples(st.text(), st.none() | st.text()), max_size=2).map(tuple),
        st.dictionaries(st.text(), st.none() | st.floats(allow_nan=False), max_size=3),
    ),
    st.builds(AlertSaved, IDS, st.text(), IDS, st.integers(0, 2**63 - 1), INT32, st.text()),
    st.builds(AlertDeleted, IDS),
    st.builds(SearchSaved, IDS, st.text(), IDS, st.text(), st.text()),
    st.builds(ProducerIdsAllocated, INT32, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)),
    st.builds(GroupConfigChanged, st.text(), CHANGES),
    st.builds(FeatureLevelChanged, st.text(), INT32),
)


class RecordTests(SynchronousTestCase):
    """Encoding and decoding."""

    @given(RECORDS)
    def test_a_record_reads_back(self, record: object) -> None:
        self.assertEqual(decode_record(encode_record(record)), record)

    @given(st.binary(max_size=60))
    def test_other_bytes_are_refused_cleanly(self, data: bytes) -> None:
        with contextlib.suppress(CorruptLogError, MetadataVersionError):
            decode_record(data)

    @given(RECORDS, st.data())
    def test_a_truncated_record_is_corrupt(self, record: object, data: st.DataObject) -> None:
        encoded = encode_record(record)
        end = data.draw(st.integers(0, len(encoded) - 1))
        self.assertRaises(CorruptLogError, decode_record, encoded[:end])

    def test_a_newer_version_is_refused_by_name(self) -> None:
        encoded = bytearray(encode_record(TopicDeleted(bytes(16))))
        encoded[1] += 1
        self.assertRaisesRegex(MetadataVersionError, "type 2 version 2.*newer release", decode_record, bytes(encoded))

    def test_an_unknown_type_is_refused_by_name(self) -> None:
        self.assertRaisesRegex(MetadataVersionError, "type 200", decode_record, bytes((200, 1, 0x90)))

    def test_the_stored_form_stays(self) -> None:
        """A record of this release must read in all later ones: these bytes may never change."""
        record = TopicCreated(bytes(range(16)), "t", (PartitionRow((1, 2), (1,), 1, 3, 4),), {"retention.ms": "5"})
        stored = "010194c410000102030405060708090a0b0c0d0e0fa1749195920102910101030481ac726574656e74696f6e2e6d73a135"
        self.assertEqual(encode_record(record).hex(), stored)
