"""The records of one partition that match, in the order of their offsets: what the topic of a saved search has.

A `Selection` goes from `start` to `upper` and says at any time how far it has come: of everything below `reached` is decided
whether it matches. Blocks in which the signatures leave no hit are passed over without a look; what no block covers is read
from the tail. Every few milliseconds it lets others go on. Where it is to end is asked after each batch, so that it always
comes a little further.

What is found is handed over batch by batch. Whoever takes it may take only a part, and says which.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chronik.errors import CorruptLogError, KafkaError
from chronik.native.interfaces import IRecordScanner
from chronik.native.sections import Columns, MalformedRecords
from chronik.search.batches import batches
from chronik.search.document import Document
from chronik.search.messages import Costs
from chronik.search.partition_index import DecodedBatch
from chronik.search.patterns import TooManyPlaces
from chronik.search.scan import SLICE_SECONDS, Limits, Part, headers_of, rows_at
from chronik.search.signatures import choose

Steps = Generator[None, None, None]


class Matched(NamedTuple):
    """What matches of one batch: its records in `rows`, with the offsets and the timestamps of all its records."""

    batch: DecodedBatch
    rows: list[int]
    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]


Take = Callable[[Matched], int]
"""Takes what matches; the offset up to which that was, which is the batch's end unless it was too much."""


class Selection:
    """Over one `part`. `enough()` says when to end before its upper end."""

    def __init__(
        self,
        part: Part,
        limits: Limits,
        scanner: IRecordScanner,
        clock: Callable[[], float],
        enough: Callable[[], bool],
    ) -> None:
        self._part = part
        self._limits = limits
        self._scanner = scanner
        self._clock = clock
        self._enough = enough
        self._slice_ends = 0.0
        self._ended = False
        self.reached = part.start
        self.costs = Costs()
        self.failure = ""
        """Why it has come no further, where the log cannot be read."""

    def run(self, take: Take) -> Steps:
        """Go on until it is at the end, has found enough, or fails."""
        index = self._part.indexed
        self._slice_ends = self._clock() + SLICE_SECONDS
        try:
            while not self._ended and self.reached < self._part.upper:
                self.reached = max(self.reached, index.files.bounds.start)
                if self.reached < index.indexed_to:
                    yield from self._group(take)
                else:
                    self.costs.tails += 1
                    yield from self._go_through(self.reached, self._part.upper, False, take)
        except (KafkaError, OSError) as error:
            self.failure = str(error)

    def _group(self, take: Take) -> Steps:
        """The rest of the group of blocks that one has come to."""
        index, part = self._part.indexed, self._part
        group = next(each for each in index.groups if int(each.table["following"][-1]) > self.reached)
        table = group.table
        inside = (table["following"] > self.reached) & (table["first"] < part.upper)
        possible = (
            inside
            & (table["last_timestamp"] >= self._limits.first_timestamp)
            & (table["first_timestamp"] <= self._limits.last_timestamp)
        )
        self.costs.groups += 1
        self.costs.blocks += int(inside.sum())
        self.costs.pruned_by_bounds += int(inside.sum()) - int(possible.sum())
        if part.need is not None:
            before = int(possible.sum())
            try:
                possible &= choose(group, part.need)[: len(table)]
            except (CorruptLogError, OSError) as fault:
                index.distrust(group, fault)
                return  # from here on there is no block, for now
            self.costs.pruned_by_signatures += before - int(possible.sum())
        for first, following in zip(
            table["first"][possible].tolist(), table["following"][possible].tolist(), strict=True
        ):
            self._come_to(first)
            self.costs.scanned_blocks += 1
            yield from self._go_through(self.reached, following, True, take)
            if self._ended:
                return
        self._come_to(int(table["following"][-1]))
        yield from self._rest()

    def _go_through(self, first: int, following: int, in_block: bool, take: Take) -> Steps:
        """Every batch with offsets from `first` on and below `following`."""
        following = min(following, self._part.upper)
        for batch in batches(self._part.indexed, first, following, in_block, self.costs):
            if batch.header.next_offset <= self.reached:
                continue
            size = len(batch.section.records)
            self.costs.scanned_bytes += size
            if not in_block:
                self.costs.tail_bytes += size
            try:
                matched = yield from self._matched(batch)
            except MalformedRecords:
                self.costs.undecodable += 1
                matched = None
            taken = batch.header.next_offset
            if matched is not None and matched.rows:
                taken = take(matched)
                self._ended = taken < batch.header.next_offset
            self._come_to(taken)
            if not self._ended:
                yield from self._rest()
            if self._ended:
                return
        self._come_to(following)

    def _come_to(self, offset: int) -> None:
        self.reached = max(self.reached, min(offset, self._part.upper))

    def _rest(self) -> Steps:
        """Let others go on where it is time, and end where there is enough."""
        if self._pause():
            yield
        self._ended = self._enough()

    def _pause(self) -> bool:
        now = self._clock()
        if now < self._slice_ends:
            return False
        self._slice_ends = now + SLICE_SECONDS
        return True

    # -- deciding -----------------------------------------------------------------------------------------------------

    def _matched(self, batch: DecodedBatch) -> Generator[None, None, Matched | None]:
        """What matches of one batch, None where the patterns say that nothing does. Raises MalformedRecords."""
        header, section = batch
        data = bytes(section.records)
        ends: list[int] | None = None
        if self._part.patterns is not None:
            with suppress(TooManyPlaces):
                ends = self._part.patterns.ends(data)
                if not ends:
                    self.costs.filtered_batches += 1
                    return None
        columns = self._scanner.columns(section, header.last_offset_delta)
        offsets = columns.offset_delta + np.int64(header.base_offset)
        if header.log_append_time:
            timestamps = np.full(len(offsets), header.max_timestamp, np.int64)
        else:
            timestamps = columns.timestamp_delta + np.int64(header.base_timestamp)
        rows = rows_at(columns, ends)
        inside = (
            (offsets[rows] >= max(self.reached, self._part.indexed.files.bounds.start))
            & (offsets[rows] < self._part.upper)
            & (timestamps[rows] >= self._limits.first_timestamp)
            & (timestamps[rows] <= self._limits.last_timestamp)
        )
        found = yield from self._decided(data, columns, rows[inside], offsets, timestamps)
        return Matched(batch, found, offsets, timestamps)

    def _decided(
        self,
        data: bytes,
        columns: Columns,
        rows: NDArray[np.int64],
        offsets: NDArray[np.int64],
        timestamps: NDArray[np.int64],
    ) -> Generator[None, None, list[int]]:
        """Those of these rows that the query's matcher takes, in their order."""
        matcher, found = self._part.matcher, []
        for count, (
            row,
            offset,
            timestamp,
            key_at,
            key_size,
            value_at,
            value_size,
            headers_at,
            header_count,
        ) in enumerate(
            zip(
                rows.tolist(),
                offsets[rows].tolist(),
                timestamps[rows].tolist(),
                columns.key_start[rows].tolist(),
                columns.key_length[rows].tolist(),
                columns.value_start[rows].tolist(),
                columns.value_length[rows].tolist(),
                columns.headers_start[rows].tolist(),
                columns.header_count[rows].tolist(),
                strict=True,
            ),
            1,
        ):
            document = Document(
                offset,
                timestamp,
                None if key_size < 0 else data[key_at : key_at + key_size],
                None if value_size < 0 else data[value_at : value_at + value_size],
                headers_of(data, headers_at, header_count) if header_count else (),
            )
            if matcher(document):
                found.append(row)
            if not count & 31 and self._pause():
                yield
        self.costs.records += len(rows)
        return found
