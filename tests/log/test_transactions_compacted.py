"""Transactions in a compacted log: what readers are told of them, and what restarts make of it."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from chronik.log.aborted import NEVER
from chronik.log.log import Log
from chronik.log.restoring import find_aborted
from chronik.log.segment import SNAPSHOT_SUFFIX, file_name
from chronik.log.simulated import SimulatedCrash
from chronik.log.snapshot import decode_snapshot
from tests.log.compacting import ABORT, COMMIT, append_keyed, append_marker, compact, read_all
from tests.log.test_cleaning import DAY, DIRECTORY, CompactingTestCase

PRODUCER = 7
SIZES = (1, 200, 350, 1 << 20)
"""segment.bytes"""


class AbortedListTests(CompactingTestCase):
    def begin(self, segment_bytes):
        """A log that is filled already. The smaller the segments, the fewer are joined."""
        self.setUp()
        self.config = replace(CompactingTestCase.config, segment_bytes=segment_bytes)
        self.log.configure(self.config)
        self.sequence = 0
        self.fill()

    def write(self, key, value):
        append_keyed(self.log, [(key, value)], producer_id=PRODUCER, sequence=self.sequence, transactional=True)
        self.sequence += 1

    def end(self, kind):
        append_marker(self.log, kind, PRODUCER)

    def fill(self):
        """Four segments; the first transaction, in two of them, is aborted, the next is not, and so on."""
        self.write(b"a", b"aborted 1")
        self.log.roll(1000)
        self.write(b"b", b"aborted 2")
        self.end(ABORT)
        self.write(b"a", b"committed 1")
        self.end(COMMIT)
        self.log.roll(1000)
        self.write(b"c", b"aborted 3")
        self.end(ABORT)
        self.log.roll(1000)
        self.write(b"d", b"aborted 4")
        self.end(ABORT)
        self.write(b"b", b"committed 2")
        self.end(COMMIT)
        self.seal()

    def committed(self, log=None):
        """{key: value} as a read_committed consumer sees it that starts anywhere, in as few or many fetches as it likes."""
        log = log or self.log
        seen = []
        for start in range(log.end_offset):
            for max_bytes in (1, 300, 1 << 20):
                found = self.consume(log, start, max_bytes)
                if not start:
                    seen.append(found)
                self.assertLessEqual(found.items(), seen[0].items(), start)
        self.assertEqual(seen[0], seen[1])
        self.assertEqual(seen[0], seen[2])
        return seen[0]

    def consume(self, log, start, max_bytes):
        """As the Java client does it: aborted from the first offset of its list on, until the marker."""
        found, offset = {}, start
        everything = {header.base_offset: (header, records) for header, records in read_all(log)}
        while offset < log.end_offset:
            data, _, after = log.read(offset, max_bytes, log.end_offset)
            aborted = sorted(log.aborted_between(offset, after), key=lambda entry: entry.first_offset)
            filtered = set()
            batches = [
                each for base, each in sorted(everything.items()) if each[0].last_offset >= offset and base < after
            ]
            self.assertEqual(sum(header.size for header, _ in batches), len(data))
            for header, records in batches:
                while aborted and aborted[0].first_offset <= header.last_offset:
                    filtered.add(aborted.pop(0).producer_id)
                if header.control:
                    if records and records[0].key[3] == ABORT:
                        filtered.discard(header.producer_id)
                elif not (header.transactional and header.producer_id in filtered):
                    found |= {record.key: record.value for record in records}
            offset = after
        return found

    def check(self, log=None):
        log = log or self.log
        expected = {b"a": b"committed 1", b"b": b"committed 2", b"active": b""}
        self.assertEqual(self.committed(log), expected)
        self.assertEqual(log.producers.first_unstable, NEVER)
        markers = {header.base_offset for header, records in read_all(log) if header.control and records}
        for entry in log.aborted_between(0, log.end_offset):
            self.assertIn(entry.last_offset, markers)  # else readers would wait for it for ever

    def reopened(self, clean, lose=()):
        """The same log after a start; `lose` are suffixes of files that are gone."""
        self.log.close()
        for name in self.disk.list(DIRECTORY):
            if name.endswith(tuple(lose)) or (not clean and name == "checkpoint"):
                self.disk.remove(f"{DIRECTORY}/{name}")
        self.log = Log.open(self.disk, DIRECTORY, self.config, 0, clean=clean)
        return self.log

    def test_before_and_after_and_when_the_markers_are_gone(self):
        for segment_bytes in SIZES:
            self.begin(segment_bytes)
            self.check()
            self.assertEqual(len(self.log.aborted_between(0, self.log.end_offset)), 3)
            for now_ms in (5000, 6000, 6000 + DAY, 7000 + 2 * DAY):
                compact(self.log, self.disk, now_ms)
                self.check()
                for clean, lose in ((True, ()), (True, (".snapshot",)), (False, ()), (False, (".snapshot",))):
                    self.check(self.reopened(clean, lose))
                self.seal()
            if segment_bytes == 1:
                continue  # what is left of each aborted batch is alone in its segment, and its marker stays with it
            left = [header.base_offset for header, records in read_all(self.log) if header.control and records]
            self.assertLess(len(left), 5)  # so there is something to be wrong about

    def test_rewritten_segments_and_their_snapshots_tell_of_no_aborted_transaction(self):
        for segment_bytes in SIZES:
            self.begin(segment_bytes)
            compact(self.log, self.disk, 5000)
            self.assertEqual([each.aborted.entries() for each in self.rewritten()], [[]] * len(self.rewritten()))
            self.check()
            self.reopened(clean=True)
            for segment in self.rewritten():
                content = self.disk.read(f"{DIRECTORY}/{file_name(segment.next_offset, SNAPSHOT_SUFFIX)}")
                self.assertEqual(len(decode_snapshot(content, segment.next_offset, "it").aborted), 0)
            self.check()
            self.assertEqual([entry.last_sequence for entry in self.log.producers.entries()], [self.sequence - 1])

    def rewritten(self):
        """Sealed segments with an aborted record less: all but those of which nothing went."""
        return [segment for segment in self.log.segments[:-1] if segment.base_offset in self.changed()]

    def changed(self):
        """Base offsets of segments with a transaction's data emptied or gone."""
        whole = {header.base_offset for header, records in read_all(self.log) if records}
        return {
            segment.base_offset
            for segment in self.log.segments[:-1]
            if not whole.issuperset(range(segment.base_offset, segment.next_offset))
        }

    def test_a_crash_at_every_operation(self):
        for segment_bytes in SIZES:
            for passes in ((5000,), (5000, 6000, 6000 + DAY)):  # records go in the first one, markers in the third
                wanted = 0
                while self.crash_in_the_last(segment_bytes, passes, wanted := wanted + 1):
                    self.check()
                    for segment in self.rewritten():
                        found = find_aborted(self.disk, DIRECTORY, self.log.segments, segment)
                        self.assertEqual(found.entries(), [], (segment_bytes, passes, wanted))
                self.check()
                self.assertGreater(wanted, 10)

    def crash_in_the_last(self, segment_bytes, passes, wanted):
        """Whether there were so many operations."""
        self.begin(segment_bytes)
        for now_ms in passes[:-1]:
            compact(self.log, self.disk, now_ms)
            self.seal()
        self.disk.crash_at = self.disk.operations + wanted
        try:
            compact(self.log, self.disk, passes[-1])
        except SimulatedCrash:
            self.disk.crash(Random(wanted))
            self.log = Log.open(self.disk, DIRECTORY, self.config, 0)
            return True
        finally:
            self.disk.crash_at = None
        return False

    def test_an_open_transaction_is_not_touched(self):
        self.begin(1 << 20)
        self.write(b"e", b"open")
        self.log.roll(1000)
        append_keyed(self.log, [(b"e", b"other")])
        self.log.roll(1000)
        append_keyed(self.log, [(b"active", b"")])
        self.log.flush()
        open_from = self.log.producers.first_unstable
        compact(self.log, self.disk, 5000, upper=open_from)
        self.assertLessEqual(self.log.first_dirty, open_from)
        self.end(ABORT)
        self.log.flush()
        found = self.committed()
        self.assertEqual((found[b"e"], found[b"a"]), (b"other", b"committed 1"))
