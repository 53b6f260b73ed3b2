"""The records of `__consumer_offsets`, byte for byte, and the partition of a group."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.coordinator.records import (
    Entry,
    GroupMetadataKey,
    GroupMetadataValue,
    MemberMetadata,
    OffsetCommitKey,
    OffsetCommitValue,
    decode_entry,
    partition_for,
)
from chronik.wire.codec import MalformedMessage

KEY = OffsetCommitKey(group="g", topic="events", partition=3)


class EntryTests(SynchronousTestCase):
    def test_offset_is_kafkas_bytes(self) -> None:
        """Key kind 1, value version 3, as Kafka 4.1 writes them."""
        entry = Entry(KEY, OffsetCommitValue(offset=7, leader_epoch=2, metadata="m", commit_timestamp=1))
        key, value = entry.encode()
        self.assertEqual(key.hex(), "0001" + "000167" + "0006" + b"events".hex() + "00000003")
        self.assertEqual(value.hex(), "0003" + "0000000000000007" + "00000002" + "00016d" + "0000000000000001")
        self.assertEqual(decode_entry(key, value), entry)

    def test_offset_with_retention_is_version_1(self) -> None:
        """Only version 1 has the time of expiry; it loses the leader epoch, as in Kafka."""
        entry = Entry(KEY, OffsetCommitValue(offset=7, leader_epoch=2, commit_timestamp=1, expire_timestamp=9))
        _, value = entry.encode()
        self.assertEqual(value[:2], b"\x00\x01")
        decoded = decode_entry(*entry.encode())
        self.assertEqual((decoded.value.expire_timestamp, decoded.value.leader_epoch), (9, -1))

    def test_group_round_trips(self) -> None:
        member = MemberMetadata(
            member_id="a-1", group_instance_id="i", client_id="c", client_host="/h", rebalance_timeout=5,
            session_timeout=6, subscription=b"s", assignment=b"x",
        )  # fmt: skip
        value = GroupMetadataValue(
            protocol_type="consumer", generation=3, protocol="range", leader="a-1", current_state_timestamp=8,
            members=[member],
        )  # fmt: skip
        entry = Entry(GroupMetadataKey(group="g"), value)
        key, data = entry.encode()
        self.assertEqual((key.hex(), data[:2]), ("0002000167", b"\x00\x03"))
        self.assertEqual(decode_entry(key, data), entry)

    def test_every_version_of_a_value_is_read(self) -> None:
        key, _ = Entry(KEY, None).encode()
        for version in range(5):
            value = OffsetCommitValue(offset=5, metadata="m", commit_timestamp=1)
            decoded = decode_entry(key, version.to_bytes(2, "big") + value.encode(version))
            self.assertEqual((decoded.value.offset, decoded.value.metadata), (5, "m"))

    def test_tombstone_unknown_kind_and_broken_bytes(self) -> None:
        key, value = Entry(KEY, None).encode()
        self.assertIsNone(value)
        self.assertEqual(decode_entry(key, None), Entry(KEY, None))
        self.assertIsNone(decode_entry(b"\x00\x11whatever", b"x"))  # records of streams groups: skipped
        for broken in (
            (None, b""),
            (b"\x00", b""),
            (key[:-1], None),
            (key, b""),
            (key, b"\x00\x09x"),
            (key, b"\x00\x03"),
        ):
            self.assertRaises(MalformedMessage, decode_entry, *broken)


class PartitionTests(SynchronousTestCase):
    def test_javas_hash(self) -> None:
        """Values of java.lang.String.hashCode: UTF-16 units, so a character beyond the plane counts as two."""
        for text, hashed in (("", 0), ("g", 103), ("test-group", 627841412), ("\U0001f600", 1772899), ("é", 233)):
            self.assertEqual(partition_for(text, 2**31 - 1), hashed % (2**31 - 1), text)

    def test_lowest_hash(self) -> None:
        """This text hashes to -2^31, whose absolute value doesn't exist."""
        self.assertEqual(partition_for("polygenelubricants", 50), 0)

    @given(st.text(max_size=20), st.integers(1, 100))
    def test_in_range(self, text: str, partitions: int) -> None:
        self.assertIn(partition_for(text, partitions), range(partitions))
