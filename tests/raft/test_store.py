"""The numbered log on a key-value store: continuity, snapshots, and a store that is cut between two writes."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from sortedcontainers import SortedDict
from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import CorruptLogError
from chronik.raft.memory import MemoryStore
from chronik.raft.store import Entry, LogStore, Snapshot


def entries(first: int, last: int) -> list[Entry]:
    return [Entry(index, 0, [b"record %d" % index, b""]) for index in range(first, last + 1)]


def opened(contents: SortedDict) -> tuple[LogStore, Snapshot | None, list[Entry]]:
    store = LogStore(MemoryStore(contents))
    return store, *store.load()


class RecordingStore(MemoryStore):
    """Remembers what it held after each write, as a crash would leave it."""

    def __init__(self) -> None:
        super().__init__()
        self.history = [SortedDict()]

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = ()) -> None:
        super().write(puts, deletes)
        self.history.append(SortedDict(self.contents))


class LogStoreTests(SynchronousTestCase):
    """What is appended is loaded; what doesn't hold together is refused."""

    def setUp(self) -> None:
        self.contents = SortedDict()
        self.store = LogStore(MemoryStore(self.contents))

    def test_an_empty_log_loads(self) -> None:
        self.assertEqual(self.store.load(), (None, []))
        self.assertEqual((self.store.first_index, self.store.last_index), (1, 0))

    def test_entries_load_in_order(self) -> None:
        self.store.append(entries(1, 3))
        self.store.append(entries(4, 300))
        store, snapshot, found = opened(self.contents)
        self.assertIsNone(snapshot)
        self.assertEqual(found, entries(1, 300))
        self.assertEqual((store.first_index, store.last_index), (1, 300))

    def test_an_entry_that_does_not_follow_is_a_fault_of_the_caller(self) -> None:
        self.store.append(entries(1, 3))
        self.assertRaises(ValueError, self.store.append, entries(5, 6))
        self.assertRaises(ValueError, self.store.append, [*entries(4, 4), *entries(4, 4)])
        self.assertEqual(opened(self.contents)[2], entries(1, 3))

    def test_a_gap_is_corruption(self) -> None:
        self.store.append(entries(1, 5))
        del self.contents[b"e" + (3).to_bytes(8, "big")]
        self.assertRaisesRegex(CorruptLogError, "entry 3 .* missing", opened, self.contents)

    def test_a_lost_beginning_is_corruption(self) -> None:
        self.store.append(entries(1, 5))
        del self.contents[b"e" + (1).to_bytes(8, "big")]
        self.assertRaisesRegex(CorruptLogError, "begins with entry 2", opened, self.contents)

    def test_an_entry_under_another_index_is_corruption(self) -> None:
        self.store.append(entries(1, 2))
        MemoryStore(self.contents).write([(b"e" + (3).to_bytes(8, "big"), (9).to_bytes(8, "big") + bytes(9))])
        self.assertRaisesRegex(CorruptLogError, "holds entry 9", opened, self.contents)

    def test_bytes_that_are_no_entry_are_corruption(self) -> None:
        self.store.append(entries(1, 1))
        key = b"e" + (2).to_bytes(8, "big")
        for value in (b"", b"short", (2).to_bytes(8, "big") + bytes(8) + b"\xc1", (2).to_bytes(8, "big") + bytes(8)):
            MemoryStore(self.contents).write([(key, value)])
            self.assertRaises(CorruptLogError, opened, self.contents)

    def test_a_snapshot_stands_for_the_entries_before_it(self) -> None:
        self.store.append(entries(1, 10))
        self.store.save_snapshot(Snapshot(8, 0, b"state"), keep=3)
        store, snapshot, found = opened(self.contents)
        self.assertEqual(snapshot, Snapshot(8, 0, b"state"))
        self.assertEqual(found, entries(9, 10))
        self.assertEqual((store.first_index, store.last_index, store.snapshot_index), (6, 10, 8))

    def test_a_snapshot_replaces_the_one_before(self) -> None:
        for last in (4, 8, 12):
            self.store.append(entries(last - 3, last))
            self.store.save_snapshot(Snapshot(last, 0, b"x" * last), keep=2)
        _, snapshot, found = opened(self.contents)
        self.assertEqual(snapshot, Snapshot(12, 0, b"x" * 12))
        self.assertEqual(found, [])
        self.assertEqual([key[:1] for key in self.contents], [b"e", b"e", b"s", b"t"])

    def test_a_snapshot_at_the_same_index_again(self) -> None:
        self.store.append(entries(1, 4))
        self.store.save_snapshot(Snapshot(4, 0, b"x" * 3_000_000), keep=2)
        self.store.save_snapshot(Snapshot(4, 0, b"y"), keep=2)
        self.assertEqual(opened(self.contents)[1], Snapshot(4, 0, b"y"))

    def test_a_large_snapshot_is_kept_in_parts(self) -> None:
        data = bytes(range(256)) * 10_000
        self.store.append(entries(1, 1))
        self.store.save_snapshot(Snapshot(1, 0, data), keep=1)
        self.assertEqual(sum(key[:1] == b"t" for key in self.contents), 3)
        self.assertEqual(opened(self.contents)[1], Snapshot(1, 0, data))

    def test_a_snapshot_without_a_part_is_corruption(self) -> None:
        self.store.append(entries(1, 1))
        self.store.save_snapshot(Snapshot(1, 0, b"z" * 3_000_000), keep=1)
        parts = [key for key in self.contents if key[:1] == b"t"]
        for part in parts:
            damaged = SortedDict(self.contents)
            del damaged[part]
            self.assertRaisesRegex(CorruptLogError, "not whole", opened, damaged)

    def test_entries_that_end_before_the_snapshot_are_corruption(self) -> None:
        self.store.append(entries(1, 6))
        self.store.save_snapshot(Snapshot(6, 0, b"state"), keep=4)
        del self.contents[b"e" + (6).to_bytes(8, "big")]
        self.assertRaisesRegex(CorruptLogError, "entry 6 .* missing", opened, self.contents)

    def test_a_snapshot_of_what_is_not_here_is_a_fault_of_the_caller(self) -> None:
        self.store.append(entries(1, 3))
        self.assertRaises(ValueError, self.store.save_snapshot, Snapshot(4, 0, b""), 1)

    @given(st.lists(st.one_of(st.integers(1, 5), st.just(0)), max_size=25), st.integers(0, 4))
    def test_a_cut_between_any_two_writes_leaves_a_valid_prefix(self, steps: list[int], keep: int) -> None:
        """0 makes a snapshot, another number appends so many entries; every state in between loads as it was."""
        store = RecordingStore()
        log = LogStore(store)
        expected = [0]
        last = 0
        for step in steps:
            if step:
                log.append(entries(last + 1, last + step))
                last += step
            else:
                log.save_snapshot(Snapshot(last, 0, b"up to %d" % last), keep)
            expected.append(last)
        for contents, end in zip(store.history, expected, strict=True):
            loaded, snapshot, found = opened(SortedDict(contents))
            start = snapshot.index if snapshot else 0
            self.assertEqual(found, entries(start + 1, end))
            self.assertEqual(loaded.last_index, end)
            if snapshot:
                self.assertEqual(snapshot.data, b"up to %d" % start)
