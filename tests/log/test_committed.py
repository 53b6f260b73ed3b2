"""Reading beside the log: the files alone give what the log itself gives, whatever happens to them in between."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import KafkaError
from chronik.log.cleaning import AbortedRange
from chronik.log.committed import Bounds, CommittedFiles, Place
from chronik.log.log import Log, LogConfig
from chronik.log.memory import MemoryDisk
from chronik.wire.records import decode_records, split_batches
from tests.log.batches import append, end
from tests.log.compacting import append_keyed, compact

DIRECTORY = "/logs/t-0"


def make(**options):
    disk = MemoryDisk()
    config = LogConfig(segment_bytes=2000, index_interval_bytes=200, delete_retention_ms=0, **options)
    return disk, Log.open(disk, DIRECTORY, config, 1000)


def told(log, since=0):
    """What a reader is told of the log: how far it goes, and what was aborted since an offset."""
    stable = min(log.producers.first_unstable, log.end_offset)
    aborted = log.aborted_between(max(since, log.start_offset), stable) if stable > log.start_offset else ()
    ranges = [AbortedRange(each.producer_id, each.first_offset, each.last_offset) for each in aborted]
    return Bounds(log.start_offset, stable, log.generation), ranges


def by_the_log(log, offset, upper):
    """Offsets of the data from `offset` on and below `upper` as a consumer with read_committed comes by them."""
    found = []
    bounds, _ = told(log)
    at, upper = max(offset, bounds.start), min(upper, bounds.stable)
    while at < upper:
        data, _, following = log.read(at, 1 << 20, bounds.stable, True)
        aborted = log.aborted_between(at, following)
        for position, header in split_batches(data):
            hidden = header.transactional and any(
                each.producer_id == header.producer_id and each.first_offset <= header.base_offset <= each.last_offset
                for each in aborted
            )
            if header.control or hidden:
                continue
            for record in decode_records(data[position : position + header.size], 1 << 20):
                if offset <= record.offset < upper and record.offset >= bounds.start:
                    found.append((record.offset, record.value))
        at = following
    return found


def by_the_files(files, offset, upper, hint=None):
    found = []
    for stored in files.read(offset, upper, hint):
        for record in decode_records(stored.data, 1 << 20):
            if max(offset, files.bounds.start) <= record.offset < min(upper, files.bounds.stable):
                found.append((record.offset, record.value))
    return found


class CommittedFilesTests(SynchronousTestCase):
    def test_nothing_is_there(self):
        disk, log = make()
        files = CommittedFiles(disk, DIRECTORY)
        self.assertEqual(by_the_files(files, 0, 100), [])
        files.follow(*told(log))
        self.assertEqual(by_the_files(files, 0, 100), [])

    def test_a_place_is_a_hint_only(self):
        disk, log = make()
        for _ in range(50):
            append(log, 3)
        files = CommittedFiles(disk, DIRECTORY)
        files.follow(*told(log))
        whole = by_the_files(files, 0, 1000)
        self.assertEqual(len(whole), 150)
        places = {stored.header.base_offset: stored.place for stored in files.read(0, 1000)}
        for offset, place in places.items():
            for hint in (
                place,
                Place(offset, place.segment, place.position + 7),
                Place(offset, 0, 10**9),
                Place(0, 0, 3),
            ):
                self.assertEqual(by_the_files(files, offset, 1000, hint), whole[offset:])

    def test_open_and_aborted_transactions_are_not_handed_out(self):
        disk, log = make()
        append(log, 2, producer_id=1, transactional=True)  # 0, 1
        append(log)  # 2
        append(log, 1, producer_id=2, transactional=True)  # 3
        files = CommittedFiles(disk, DIRECTORY)
        files.follow(*told(log))
        self.assertEqual(by_the_files(files, 0, 100), [])
        end(log, 1, commit=False)  # 4
        log.producers.committed(log.end_offset)
        files.follow(*told(log))
        self.assertEqual([offset for offset, _ in by_the_files(files, 0, 100)], [2])
        end(log, 2, commit=True)  # 5
        append(log, 1, producer_id=1, sequence=2, transactional=True)  # 6
        end(log, 1, commit=True)
        log.producers.committed(log.end_offset)
        files.follow(*told(log, 3))
        self.assertEqual([offset for offset, _ in by_the_files(files, 0, 100)], [2, 3, 6])

    def test_damage_is_told(self):
        disk, log = make()
        append(log, 3)
        files = CommittedFiles(disk, DIRECTORY)
        files.follow(*told(log))
        content = disk._files[f"{DIRECTORY}/{0:020d}.log"]
        content[80] ^= 1
        self.assertRaises(KafkaError, by_the_files, files, 0, 100)

    def test_committed_data_that_is_not_there_is_told(self):
        disk, log = make()
        append(log, 3)
        files = CommittedFiles(disk, DIRECTORY)
        files.follow(Bounds(0, 10))
        self.assertRaises(KafkaError, by_the_files, files, 0, 10)

    @given(
        st.lists(st.integers(0, 50), min_size=1, max_size=60),
        st.integers(0, 60),
        st.integers(0, 130),
        st.integers(0, 130),
    )
    @settings(max_examples=60, deadline=None)
    def test_spans_leave_out_only_what_is_older(self, times, since, offset, upper):
        disk, log = make()
        for time in times:
            append(log, 2, timestamp=1000 * time, size=60)
        log.flush()
        files = CommittedFiles(disk, DIRECTORY)
        files.follow(*told(log))
        spans = files.spans(offset, upper, 1000 * since)
        wanted = {
            number
            for n, time in enumerate(times)
            if time >= since
            for number in (2 * n, 2 * n + 1)
            if offset <= number < upper
        }
        covered = {number for first, following in spans.offsets for number in range(first, following)}
        self.assertLessEqual(wanted, covered)
        self.assertLessEqual(covered, set(range(offset, upper)))
        self.assertEqual(sorted(spans.offsets), spans.offsets)
        self.assertEqual(spans.segments + spans.pruned, len(log.segments))

    def test_spans_pass_over_sealed_segments_that_are_older(self):
        disk, log = make()
        for time in range(100):
            append(log, 2, timestamp=1000 * time, size=60)
        log.flush()
        files = CommittedFiles(disk, DIRECTORY)
        files.follow(*told(log))
        self.assertEqual(files.spans(0, 1000), ([(0, 200)], len(log.segments), 0))
        spans = files.spans(0, 1000, 95_000)
        self.assertGreater(spans.pruned, 5)
        ((first, following),) = spans.offsets
        self.assertTrue(100 < first <= 190, first)
        self.assertEqual(following, 200)
        self.assertEqual(files.spans(300, 1000).offsets, [])

    @given(st.integers(0, 2**32))
    @settings(max_examples=60, deadline=None)
    def test_it_reads_what_the_log_reads(self, seed):
        chance = random.Random(seed)
        disk, log = make()
        files = CommittedFiles(disk, DIRECTORY)
        since, sequences, now = 0, {}, 1000
        places = []
        amid = []

        def look():
            """Amid a swap the files may be ahead of the log: what compaction takes is still there, or it isn't."""
            bounds, aborted = told(log, since)
            files.follow(bounds, aborted)
            found = by_the_files(files, 0, bounds.stable)
            self.assertLessEqual(set(found), set(by_the_log(log, 0, bounds.stable)))
            amid.append(found)

        def check():
            nonlocal since
            bounds, aborted = told(log, since)
            files.follow(bounds, aborted)
            since = bounds.stable
            offset = chance.randrange(log.end_offset + 2)
            upper = chance.randrange(log.end_offset + 2)
            hint = chance.choice(places) if places and chance.random() < 0.5 else None
            self.assertEqual(by_the_files(files, offset, upper, hint), by_the_log(log, offset, upper))
            places[:] = [stored.place for stored in files.read(offset, upper)][-5:]

        for _ in range(40):
            now += 10
            act = chance.random()
            if act < 0.45:
                append_keyed(
                    log, [(b"k%d" % chance.randrange(6), bytes(chance.randrange(120))) for _ in range(3)], now_ms=now
                )
            elif act < 0.7:
                producer = chance.randrange(3)
                sequence = sequences.get(producer, 0)
                sequences[producer] = sequence + 2
                append_keyed(
                    log,
                    [(b"t%d" % producer, b"x" * 50)] * 2,
                    now_ms=now,
                    producer_id=producer,
                    sequence=sequence,
                    transactional=True,
                )
            elif act < 0.82:
                producer = chance.randrange(3)
                if log.producers.in_transaction(producer, 0):
                    end(log, producer, commit=chance.random() < 0.5, now_ms=now)
                    log.producers.committed(log.end_offset)
            elif act < 0.9:
                log.flush()
                upper = min(log.producers.first_unstable, log.end_offset)
                compact(log, disk, now, upper=upper, between=look)
                for found in amid:
                    self.assertLessEqual(set(by_the_log(log, 0, upper)), set(found))
                amid.clear()
            elif act < 0.95 and log.end_offset > log.start_offset:
                log.advance_start(
                    chance.randrange(log.start_offset, min(log.producers.first_unstable, log.end_offset) + 1)
                )
                log.flush()
                for path in log.take_deleted():
                    disk.remove(path)
            else:
                log.roll(now)
            check()
