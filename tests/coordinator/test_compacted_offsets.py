"""Offsets that are read again from a compacted log: as if nothing had ever been taken out of it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chronik.log.log import Log, LogConfig
from chronik.log.simulated import SimulatedDisk
from chronik.wire.records import split_batches
from tests.coordinator.test_transactional_offsets import EVENTS, LOGS, WHERE, TransactionalCase
from tests.coordinator.world import WALL
from tests.log.compacting import compact

DIRECTORY = "/data/topics/o-0"
DAY = 24 * 3_600_000


class CompactedOffsetsTests(TransactionalCase):
    def compacted(self, segment_bytes: int) -> list[bytes]:
        """What is left of the log's batches, after enough passes for markers and tombstones to go."""
        disk = SimulatedDisk()
        disk.make_directory("/data/topics")
        config = LogConfig(compacted=True, segment_bytes=segment_bytes, retention_ms=-1, delete_retention_ms=DAY)
        log = Log.open(disk, DIRECTORY, config, WALL)
        for batch in self.world.log.batches.get(WHERE, ()):
            log.append_replicated(bytearray(batch), WALL)
        log.producers.committed(log.end_offset)
        log.roll(WALL)
        log.flush()
        upper = min(log.producers.first_unstable, log.end_offset)
        for passes in range(4):
            compact(log, disk, WALL + passes * DAY + DAY // 2, upper=upper)
            log.cleaner = log.cleaner._replace(first_dirty=0)  # all of it once more
        left, offset = [], 0
        while offset < log.end_offset:
            data, _, offset = log.read(offset, 1 << 20, log.end_offset)
            left += [bytes(data[position : position + header.size]) for position, header in split_batches(data)]
        return left

    def take(self, steps: list[Any]) -> None:
        for number, (what, producer, place) in enumerate(steps):
            if what == "commit":
                self.commit({place: number}, producer=producer)
            elif what == "plain":
                self.plain({place: number})
            elif what == "delete":
                self.world.result(self.world.coordinator.delete_offsets("g", [place]))
            else:
                self.end(what == "end", producer)

    def check_compacted(self, segment_bytes: int) -> None:
        before = self.offsets(), self.offsets(True)
        whole = self.world.log.batches.get(WHERE, [])
        left = self.world.log.batches[WHERE] = self.compacted(segment_bytes)
        self.assertLessEqual(sum(map(len, left)), sum(map(len, whole)))
        self.world.resign()
        self.world.lead()
        self.assertEqual((self.offsets(), self.offsets(True)), before)

    def test_something_goes(self) -> None:
        self.take([("commit", 7, EVENTS), ("abort", 7, EVENTS), ("plain", 7, LOGS), ("plain", 7, LOGS)])
        self.take([("commit", 8, EVENTS), ("end", 8, EVENTS), ("delete", 7, LOGS), ("commit", 7, LOGS)])
        whole = len(self.world.log.batches[WHERE])
        self.check_compacted(300)
        self.assertLess(len(self.world.log.batches[WHERE]), whole)
        self.end(True, 7)  # what was open ends after it was read again
        self.assertEqual(self.offsets(True), {EVENTS: 0, LOGS: 3})

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["commit", "plain", "delete", "end", "abort"]),
                st.sampled_from([7, 8]),
                st.sampled_from([EVENTS, LOGS]),
            ),
            max_size=25,
        ),
        st.sampled_from([1, 300, 800, 1 << 20]),
    )
    def test_any_history(self, steps: list[Any], segment_bytes: int) -> None:
        self.setUp()
        self.take(steps)
        self.check_compacted(segment_bytes)
