"""Finding the records of some partitions that match a query: candidates by the indexes, then each record by `match.py`.

A `Scan` is planned first: the groups of every partition say which blocks may hold a hit, by their signatures, times and
offsets; what no block covers yet, the tail, is always looked at. Then the blocks are gone through, newest or oldest first,
and every record that the pre-filter (`chronik.search.patterns`) doesn't rule out is decided by the query's own matcher.

Both are generators: each `yield` comes after `SLICE_SECONDS` at most, or after one block. Whoever runs it may stop at any
of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chronik.errors import CorruptLogError, KafkaError
from chronik.native.interfaces import IRecordScanner
from chronik.native.records import headers
from chronik.native.sections import Columns, MalformedRecords
from chronik.native.tokens import Buffer
from chronik.search.batches import batches
from chronik.search.document import Document
from chronik.search.match import Matcher
from chronik.search.messages import Costs
from chronik.search.partition_index import DecodedBatch, PartitionIndex
from chronik.search.patterns import Patterns, TooManyPlaces
from chronik.search.required import Requirement
from chronik.search.signatures import choose

SLICE_SECONDS = 0.004
EARLIEST, LATEST = -(2**63), 2**63 - 1

Steps = Generator[None, None, None]


class Part(NamedTuple):
    """One partition in a scan: its index, offsets `start` to `upper` (not included), and the query compiled for it.

    `need` is what a hit's tokens must hold, and `patterns` what its bytes must fit; None where nothing is known.
    """

    indexed: PartitionIndex
    start: int
    upper: int
    matcher: Matcher
    need: Requirement | None = None
    patterns: Patterns | None = None


class Limits(NamedTuple):
    """Timestamps that a hit can have, both included. Offsets are limited in each `Part`."""

    first_timestamp: int = EARLIEST
    last_timestamp: int = LATEST


class Unit(NamedTuple):
    """What is gone through at once: offsets of one partition, with what is known of their timestamps."""

    part: int
    first: int
    following: int
    first_timestamp: int
    last_timestamp: int
    group: int
    """-1: the tail."""


Found = Callable[[int, Document], object]
"""Is told of a hit: the number of its part, and the record."""
Wanted = Callable[[int, int], bool]
"""Whether a record between these timestamps, both included, could still count."""


class Scan:
    """Over `parts`. `newest_first` is the order of blocks, not of all hits."""

    def __init__(
        self,
        parts: Sequence[Part],
        limits: Limits,
        scanner: IRecordScanner,
        clock: Callable[[], float],
        newest_first: bool = True,
    ) -> None:
        self._parts = parts
        self._limits = limits
        self._scanner = scanner
        self._clock = clock
        self._newest_first = newest_first
        self._slice_ends = 0.0
        self.costs = Costs()
        self.failures: dict[int, str] = {}
        """Parts of which not all could be read, and why."""

    def run(self, found: Found, wanted: Wanted) -> Steps:
        """Plan, and go through it until nothing is left, or wanted."""
        units: list[Unit] = []
        limits = self._limits
        self._slice_ends = self._clock() + SLICE_SECONDS
        yield from self._plan(units)
        for unit in units:
            first = max(unit.first_timestamp, limits.first_timestamp)
            last = min(unit.last_timestamp, limits.last_timestamp)
            if wanted(first, last):
                try:
                    yield from self._go_through(unit, found, wanted)
                except (KafkaError, OSError) as error:
                    self.failures[unit.part] = str(error)

    # -- planning -----------------------------------------------------------------------------------------------------

    def _plan(self, units: list[Unit]) -> Steps:
        """The tails, and then all candidates in order."""
        chosen: list[Unit] = []
        for number, part in enumerate(self._parts):
            index = part.indexed
            groups, tail_from = [(group, group.table) for group in index.groups], index.indexed_to
            for group_number, (group, table) in enumerate(groups):
                self.costs.groups += 1
                self.costs.blocks += len(table)
                within = self._within(table, part)
                count = int(within.sum())
                self.costs.pruned_by_bounds += len(table) - count
                if count and part.need is not None:
                    try:
                        within &= choose(group, part.need)[: len(table)]
                    except (CorruptLogError, OSError) as fault:
                        index.distrust(group, fault)
                        tail_from = int(table["first"][0])
                        break
                    self.costs.pruned_by_signatures += count - int(within.sum())
                chosen += _units(number, group_number, table[within])
                if self._pause():
                    yield
            if tail_from < part.upper:
                units.append(Unit(number, max(tail_from, part.start), part.upper, EARLIEST, LATEST, -1))
        if self._newest_first:
            chosen.sort(key=lambda unit: -unit.last_timestamp)
        else:
            chosen.sort(key=lambda unit: unit.first_timestamp)
        units += chosen

    def _within(self, table: NDArray[np.void], part: Part) -> NDArray[np.bool_]:
        """For each block, whether its offsets and times let it hold a hit."""
        within: NDArray[np.bool_] = (
            (table["first"] < part.upper)
            & (table["following"] > part.start)
            & (table["last_timestamp"] >= self._limits.first_timestamp)
            & (table["first_timestamp"] <= self._limits.last_timestamp)
        )
        return within

    def _pause(self) -> bool:
        """Whether it is time to let others go on; it is called right before that."""
        now = self._clock()
        if now < self._slice_ends:
            return False
        self._slice_ends = now + SLICE_SECONDS
        return True

    # -- reading ------------------------------------------------------------------------------------------------------

    def _go_through(self, unit: Unit, found: Found, wanted: Wanted) -> Steps:
        costs = self.costs
        if unit.group < 0:
            costs.tails += 1
        else:
            costs.scanned_blocks += 1
        index = self._parts[unit.part].indexed
        for batch in batches(index, unit.first, unit.following, unit.group >= 0, costs):
            size = len(batch.section.records)
            costs.scanned_bytes += size
            if unit.group < 0:
                costs.tail_bytes += size
            try:
                yield from self._decide(unit, batch, found, wanted)
            except MalformedRecords:
                costs.undecodable += 1
            if self._pause():
                yield
                if not wanted(unit.first_timestamp, unit.last_timestamp):
                    return

    # -- deciding -----------------------------------------------------------------------------------------------------

    def _decide(self, unit: Unit, batch: DecodedBatch, found: Found, wanted: Wanted) -> Steps:
        """The hits of one batch. Raises MalformedRecords."""
        header, section = batch.header, batch.section
        part = self._parts[unit.part]
        ends: list[int] | None = None
        if part.patterns is not None:
            with suppress(TooManyPlaces):
                ends = part.patterns.ends(bytes(section.records))
                if not ends:
                    self.costs.filtered_batches += 1
                    return
        columns = self._scanner.columns(section, header.last_offset_delta)
        offsets = columns.offset_delta + np.int64(header.base_offset)
        if header.log_append_time:
            timestamps = np.full(len(offsets), header.max_timestamp, np.int64)
        else:
            timestamps = columns.timestamp_delta + np.int64(header.base_timestamp)
        rows = rows_at(columns, ends)
        inside = (
            (offsets[rows] >= max(part.start, unit.first, part.indexed.files.bounds.start))
            & (offsets[rows] < min(part.upper, unit.following))
            & (timestamps[rows] >= self._limits.first_timestamp)
            & (timestamps[rows] <= self._limits.last_timestamp)
        )
        rows = rows[inside]
        rows = rows[np.argsort(timestamps[rows], kind="stable")]
        if self._newest_first:
            rows = rows[::-1]
        yield from self._match(unit.part, section.records, columns, rows, offsets, timestamps, found, wanted)

    def _match(
        self,
        number: int,
        records: Buffer,
        columns: Columns,
        rows: NDArray[np.int64],
        offsets: NDArray[np.int64],
        timestamps: NDArray[np.int64],
        found: Found,
        wanted: Wanted,
    ) -> Steps:
        """Decide the records in these rows, which are in the order of their timestamps, until none of them is wanted."""
        matcher, count = self._parts[number].matcher, 0
        data = bytes(records)
        for offset, timestamp, key_at, key_size, value_at, value_size, headers_at, header_count in zip(
            offsets[rows].tolist(),
            timestamps[rows].tolist(),
            columns.key_start[rows].tolist(),
            columns.key_length[rows].tolist(),
            columns.value_start[rows].tolist(),
            columns.value_length[rows].tolist(),
            columns.headers_start[rows].tolist(),
            columns.header_count[rows].tolist(),
            strict=True,
        ):
            document = Document(
                offset,
                timestamp,
                None if key_size < 0 else data[key_at : key_at + key_size],
                None if value_size < 0 else data[value_at : value_at + value_size],
                headers_of(data, headers_at, header_count) if header_count else (),
            )
            count += 1
            if matcher(document):
                found(number, document)
            if not count & 31:
                if self._pause():
                    yield
                if not wanted(*((EARLIEST, timestamp) if self._newest_first else (timestamp, LATEST))):
                    break
        self.costs.records += count


def headers_of(data: bytes, at: int, count: int) -> list[tuple[str, bytes | None]]:
    """The headers of a record as a document has them."""
    return [(name.decode("utf-8", "replace"), value) for name, value in headers(data, at, count)]


def rows_at(columns: Columns, ends: list[int] | None) -> NDArray[np.int64]:
    """The rows in which these places end, each once; all rows for None."""
    count = len(columns.key_start)
    if ends is None:
        return np.arange(count)
    last_bytes = np.array(ends, np.int64) - 1
    rows = np.unique(np.searchsorted(columns.key_start, last_bytes, "right") - 1)
    return rows[rows >= 0]


def _units(part: int, group: int, table: NDArray[np.void]) -> list[Unit]:
    return [
        Unit(part, first, following, first_timestamp, last_timestamp, group)
        for first, following, first_timestamp, last_timestamp in zip(
            table["first"].tolist(),
            table["following"].tolist(),
            table["first_timestamp"].tolist(),
            table["last_timestamp"].tolist(),
            strict=True,
        )
    ]
