"""Finding the records of some partitions that match a query: candidates by the indexes, then each record by `match.py`.

A `Scan` is planned first: the groups of every partition say which blocks may hold a hit, by their signatures, times and
offsets; what no block covers yet, the tail, is always looked at. Then the blocks are gone through, newest or oldest first,
and every record that the pre-filter (`chronik.search.patterns`) doesn't rule out is decided by the query's own matcher.

Where the partition has splits, they are asked first (`chronik.search.splits.planning`): what they propose takes the place of
the signatures, and what they count is not looked at but for hits to be shown.

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
from chronik.search.partition_index import PartitionIndex
from chronik.search.patterns import Patterns, TooManyPlaces
from chronik.search.pending import DecodedBatch
from chronik.search.required import Requirement
from chronik.search.signatures import choose
from chronik.search.splits.planning import Asked, Choice, are_proposed, choose_splits, pieces
from chronik.wire.batches import BatchHeader

SLICE_SECONDS = 0.004
EARLIEST, LATEST = -(2**63), 2**63 - 1

Steps = Generator[None, None, None]


class Part(NamedTuple):
    """One partition in a scan: its index, offsets `start` to `upper` (not included), and the query compiled for it.

    `need` is what a hit's tokens must hold, and `patterns` what its bytes must fit; None where nothing is known. `asked` are
    its splits and what they are asked.
    """

    indexed: PartitionIndex
    start: int
    upper: int
    matcher: Matcher
    need: Requirement | None = None
    patterns: Patterns | None = None
    asked: Asked | None = None


class Limits(NamedTuple):
    """Timestamps that a hit can have, both included. Offsets are limited in each `Part`."""

    first_timestamp: int = EARLIEST
    last_timestamp: int = LATEST


class Unit(NamedTuple):
    """What is gone through at once: offsets of one partition, with what is known of their timestamps.

    Only the records at `proposed` are candidates, if it is not None; those that are hits were `counted` already.
    """

    part: int
    first: int
    following: int
    first_timestamp: int
    last_timestamp: int
    group: int
    """-1: the tail."""
    proposed: NDArray[np.int64] | None = None
    counted: bool = False
    done: NDArray[np.int64] | None = None
    """Records that were looked at before."""


Found = Callable[[int, Document], object]
"""Is told of a hit: the number of its part, and the record."""
Wanted = Callable[[int, int], bool]
"""Whether a record between these timestamps, both included, could still count."""


class Beforehand(NamedTuple):
    """Who takes hits by their number. `found` and `wanted` are for those of them that are to be `shown`, if any are."""

    take: Callable[[int], object]
    found: Found
    wanted: Wanted
    shown: bool
    beaten: Callable[[float], bool] = lambda score: False
    """Whether no record with at most this score would be shown any more."""


class Scan:
    """Over `parts`. `newest_first` is the order of blocks, not of all hits. Without `beforehand` every hit is looked at."""

    def __init__(
        self,
        parts: Sequence[Part],
        limits: Limits,
        scanner: IRecordScanner,
        clock: Callable[[], float],
        newest_first: bool = True,
        beforehand: Beforehand | None = None,
    ) -> None:
        self._beforehand = beforehand
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
        deferred: list[tuple[int, Choice]] = []
        self._slice_ends = self._clock() + SLICE_SECONDS
        yield from self._plan(units, deferred)
        yield from self._all_of(units, found, wanted)
        for number, choice in sorted(deferred, key=lambda each: -(each[1].rest or 0.0)):
            if self._beforehand is None or self._beforehand.beaten(choice.rest or 0.0):
                continue
            self.costs.ranked_in_vain += 1
            part = self._parts[number]._replace(start=choice.first, upper=choice.following)
            whole = choice._replace(proposed=None)
            again: list[Unit] = []
            yield from self._plan_part(number, part, [whole], again, again)
            yield from self._all_of([unit._replace(done=choice.proposed) for unit in again], found, wanted)

    def _all_of(self, units: Sequence[Unit], found: Found, wanted: Wanted) -> Steps:
        """Go through these units, as far as they are wanted."""
        limits = self._limits
        for unit in units:
            first = max(unit.first_timestamp, limits.first_timestamp)
            last = min(unit.last_timestamp, limits.last_timestamp)
            tell, ask = found, wanted
            if unit.counted and self._beforehand is not None:
                tell, ask = self._beforehand.found, self._beforehand.wanted
            if ask(first, last):
                try:
                    yield from self._go_through(unit, tell, ask)
                except (KafkaError, OSError) as error:
                    self.failures[unit.part] = str(error)

    # -- planning -----------------------------------------------------------------------------------------------------

    def _plan(self, units: list[Unit], deferred: list[tuple[int, Choice]]) -> Steps:
        """The tails, and then all candidates in order; and where there may be more."""
        chosen: list[Unit] = []
        for number, part in enumerate(self._parts):
            choices = yield from self._choices(part)
            deferred += [(number, choice) for choice in choices if choice.rest is not None]
            yield from self._plan_part(number, part, choices, units, chosen)
        if self._newest_first:
            chosen.sort(key=lambda unit: -unit.last_timestamp)
        else:
            chosen.sort(key=lambda unit: unit.first_timestamp)
        units += chosen

    def _plan_part(
        self, number: int, part: Part, choices: Sequence[Choice], tails: list[Unit], chosen: list[Unit]
    ) -> Steps:
        """What of one part is to be gone through: of its tail, and of its blocks."""
        index = part.indexed
        groups, tail_from = [(group, group.table) for group in index.groups], index.indexed_to
        for group_number, (group, table) in enumerate(groups):
            self.costs.groups += 1
            self.costs.blocks += len(table)
            within = self._within(table, part)
            count = int(within.sum())
            self.costs.pruned_by_bounds += len(table) - count
            first, following = max(int(table["first"][0]), part.start), min(int(table["following"][-1]), part.upper)
            if count and part.need is not None and not are_proposed(first, following, choices):
                try:
                    within &= choose(group, part.need)[: len(table)]
                except (CorruptLogError, OSError) as fault:
                    index.distrust(group, fault)
                    tail_from = int(table["first"][0])
                    break
                self.costs.pruned_by_signatures += count - int(within.sum())
            for unit in _units(number, group_number, table[within]):
                left = _pieces_of(unit, part, choices)
                self.costs.pruned_by_splits += not left
                chosen += left
            if self._pause():
                yield
        if tail_from < part.upper:
            tail = Unit(number, max(tail_from, part.start), part.upper, EARLIEST, LATEST, -1)
            tails += _pieces_of(tail, part, choices)

    def _choices(self, part: Part) -> Generator[None, None, list[Choice]]:
        """What the splits of a part answer."""
        if part.asked is None:
            return []
        ahead = self._beforehand
        count, shown = (None, True) if ahead is None else (ahead.take, ahead.shown)
        choosing = choose_splits(part.asked, part.start, part.upper, count, shown, self.costs)
        while True:
            try:
                next(choosing)
            except StopIteration as end:
                choices: list[Choice] = end.value
                return choices
            if self._pause():
                yield

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
        proposed = None if unit.proposed is None else _has_any(unit.proposed)
        for batch in batches(index, unit.first, unit.following, unit.group >= 0, costs, proposed):
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
        if part.patterns is not None and unit.proposed is None:
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
        if unit.proposed is not None:
            low, high = np.searchsorted(unit.proposed, (header.base_offset, header.next_offset))
            inside &= np.isin(offsets[rows], unit.proposed[low:high])
        if unit.done is not None:
            inside &= ~np.isin(offsets[rows], unit.done)
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


def _has_any(proposed: NDArray[np.int64]) -> Callable[[BatchHeader], bool]:
    """Whether a batch may have one of the records at these offsets."""

    def has_any(header: BatchHeader) -> bool:
        low, high = np.searchsorted(proposed, (header.base_offset, header.next_offset))
        return bool(low < high)

    return has_any


def _pieces_of(unit: Unit, part: Part, choices: Sequence[Choice]) -> list[Unit]:
    """What of a unit has to be gone through, and how."""
    if not choices:
        return [unit]
    first, following = max(unit.first, part.start), min(unit.following, part.upper)
    found = list(pieces(first, following, choices))
    if len(found) == 1 and found[0].following - found[0].first == following - first:
        piece = found[0]
        if piece.proposed is None and not piece.counted:
            return [unit]  # as it is: its place is known by its beginning
    return [unit._replace(**piece._asdict()) for piece in found]


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
