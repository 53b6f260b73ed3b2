"""The past of a tail: the records of a few partitions that match, in the order of their offsets, some at a time.

As a search (`chronik.search.scan`) it looks at the blocks that the index proposes, and at all of the tail; but block by block
as they lie in the log, and it says how far it has come, so that whoever asks goes on from there. Nothing is kept between two
requests.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from chronik.errors import CorruptLogError, KafkaError
from chronik.model import PartitionId
from chronik.native.sections import MalformedRecords
from chronik.search.bounds import bounds
from chronik.search.compiled import CompiledQuery
from chronik.search.engine import Engine
from chronik.search.hit_json import hit_json
from chronik.search.literals import literals
from chronik.search.mapping import Mapping
from chronik.search.messages import SearchedPart
from chronik.search.partition_index import PartitionIndex
from chronik.search.patterns import Patterns, TooManyPlaces
from chronik.search.pending import DecodedBatch
from chronik.search.required import Requirement, requirement
from chronik.search.rows import BatchReader, Rows
from chronik.search.signatures import choose
from chronik.search.tail_messages import Replay, Replayed, ReplayedHit

_SLICE_SECONDS = 0.004
_ROWS = 32

Steps = Generator[None, None, Replayed]


class _Full(Exception):
    """As many hits as were asked for, or as much time as was given."""


class _Wanted(NamedTuple):
    """What hits have, by what is known of the query over fields of one mapping."""

    need: Requirement | None
    patterns: Patterns | None


class _Reading:
    """One request on its way."""

    def __init__(self, engine: Engine, request: Replay, clock: Callable[[], float]) -> None:
        self.engine = engine
        self.request = request
        self.clock = clock
        self.compiled = CompiledQuery(request.query, request.now_ms)
        self._wanted: tuple[Mapping, _Wanted] | None = None
        self.ends = clock() + request.seconds
        self.slice_ends = clock() + _SLICE_SECONDS
        self.hits: list[ReplayedHit] = []
        self.size = 0

    def wanted(self, mapping: Mapping) -> _Wanted:
        """What hits have in topics with that mapping: most have the same as the one before."""
        if self._wanted is None or self._wanted[0] != mapping:
            query = self.request.query
            patterns = literals(query, mapping)
            known = _Wanted(requirement(query, mapping), None if patterns is None else _compiled(patterns))
            self._wanted = mapping, known
        return self._wanted[1]

    def pause(self) -> bool:
        """Whether it is time to let others go on."""
        now = self.clock()
        if now < self.slice_ends:
            return False
        self.slice_ends = now + _SLICE_SECONDS
        return True

    def check_time(self) -> None:
        """Raises _Full once it has taken as long as it may."""
        if self.clock() >= self.ends:
            raise _Full

    def add(self, part: int, offset: int, text: bytes) -> None:
        """Another hit. Raises _Full instead where there is no room for it, unless it is the first."""
        if self.hits and self.size + len(text) > self.request.max_bytes:
            raise _Full
        self.hits.append(ReplayedHit(part, offset, text))
        self.size += len(text)


def replay(engine: Engine, request: Replay, clock: Callable[[], float]) -> Steps:
    """Go through the parts, in steps. Raises QueryError for a query that doesn't fit the fields."""
    within = bounds(request.query, request.now_ms)
    reading = _Reading(engine, request, clock)
    parts = [_Part(number, part, reading) for number, part in enumerate(request.parts)]
    unknown: list[int] = []
    failures: list[tuple[int, str]] = []
    with suppress(_Full):
        for part in parts:
            if not within.partitions.first <= part.asked.partition <= within.partitions.last:
                part.at = part.asked.upper
                continue
            if reading.pause():
                yield
            index = engine.index_of(PartitionId(part.asked.topic_id, part.asked.partition))
            if index is None:
                unknown.append(part.number)
                continue
            try:
                yield from part.go(index)
            except (KafkaError, OSError) as error:
                failures.append((part.number, str(error)))
            if part.at > part.asked.start:  # else nothing would ever be reached where the time is short
                reading.check_time()
    return Replayed(
        hits=tuple(reading.hits),
        reached=tuple(part.at for part in parts),
        unknown=tuple(unknown),
        failures=tuple(failures),
    )


class _Part:
    """One partition of a request; `at` is how far it is looked through."""

    def __init__(self, number: int, asked: SearchedPart, reading: _Reading) -> None:
        self.number = number
        self.asked = asked
        self.at = asked.start
        self._reading = reading
        self._reader = BatchReader()

    def go(self, index: PartitionIndex) -> Generator[None, None, None]:
        """Go through it. Raises _Full, KafkaError, OSError, and QueryError for a query that doesn't fit the fields."""
        asked = self.asked
        self._matcher = self._reading.compiled.matcher(asked.topic, asked.topic_id, asked.partition, asked.mapping)
        self._need, self._patterns = self._reading.wanted(asked.mapping)
        self.at = max(self.at, index.files.bounds.start)
        upper = min(self.asked.upper, index.files.bounds.stable)
        while self.at < upper:
            for first, following in self._runs(index, upper):
                self.at = max(self.at, first)
                for batch in self._reader.batches(index, self.at, following):
                    yield from self._match(batch, index, following)
                    self.at = max(self.at, min(batch.header.next_offset, following))
                    self._reading.check_time()
                    if self._reading.pause():
                        yield
                self.at = max(self.at, following)

    def _runs(self, index: PartitionIndex, upper: int) -> list[tuple[int, int]]:
        """The next offsets to be looked at: blocks of a group that may have a hit, and an empty run at its end; or the tail."""
        groups = index.groups
        number = bisect_right(groups, self.at, key=lambda group: int(group.table["following"][-1]) if len(group) else 0)
        if number == len(groups):
            return [(self.at, upper)]
        group = groups[number]
        table = group.table
        within = (table["first"] < upper) & (table["following"] > self.at)
        if self._need is not None:
            try:
                within &= choose(group, self._need)[: len(table)]
            except (CorruptLogError, OSError) as fault:
                index.distrust(group, fault)
                return []
        chosen, end = table[within], min(int(table["following"][-1]), upper)
        runs = zip(chosen["first"].tolist(), chosen["following"].tolist(), strict=True)
        return [*((first, min(following, upper)) for first, following in runs), (end, end)]

    def _match(self, batch: DecodedBatch, index: PartitionIndex, upper: int) -> Generator[None, None, None]:
        if self._patterns is not None:
            with suppress(TooManyPlaces):
                if not self._patterns.ends(bytes(batch.section.records)):
                    return
        reading = self._reading
        try:
            rows = Rows(batch, max(self.at, index.files.bounds.start), upper, reading.engine.scanner)
        except MalformedRecords:
            return
        for start in range(0, len(rows), _ROWS):
            for row in rows.some(start, start + _ROWS):
                if len(reading.hits) >= reading.request.max_hits:
                    raise _Full
                document = rows.document(row)
                if self._matcher(document):
                    reading.add(self.number, row.offset, hit_json(self.asked.topic, self.asked.partition, document))
                self.at = max(self.at, row.offset + 1)
            if reading.pause():
                yield


@lru_cache(256)
def _compiled(patterns: tuple[bytes, ...]) -> Patterns:
    return Patterns(patterns)
