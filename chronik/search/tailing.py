"""Tails, in the process that owns the partitions: each record that becomes stable is held against all queries that wait for it.

What is looked for are watches (`chronik.search.tail_messages`), told as news. A record goes through the sieve, one pass for all
queries, and `match.py` decides about the candidates. Hits are put together, with each the numbers of its watches, and `step`
hands them over every now and then.

**Nothing is kept without bound.** The log is the buffer: while `WINDOW_BYTES` of hits are on their way to the node, nothing is
looked at. When that lasts (`_PATIENCE_SECONDS`), or a lane is more than `_LATE_SECONDS` late, hits are counted and not sent,
until it has caught up; those of a watch that is choked are counted anyhow. A lane that cannot even keep up with counting skips
to the end after `_SKIP_SECONDS`. All of it is told to the node with the offsets concerned.

Pure but for the files that the indexes read; `clock` tells seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from chronik.errors import KafkaError
from chronik.model import PartitionId
from chronik.native.interfaces import IRecordScanner
from chronik.native.sections import MalformedRecords
from chronik.search.compiled import CompiledQuery
from chronik.search.hit_json import hit_json
from chronik.search.lane import Lane
from chronik.search.literals import all_literals
from chronik.search.match import Matcher
from chronik.search.partition_index import PartitionIndex
from chronik.search.pending import DecodedBatch
from chronik.search.rows import Row, Rows
from chronik.search.sieve import Sieve
from chronik.search.tail_messages import (
    Choke,
    Counted,
    Matched,
    Reached,
    Skipped,
    TailHit,
    Taken,
    Unwatch,
    Watch,
    WatchedPart,
)

WINDOW_BYTES = 8 << 20
_FLUSH_BYTES = 128 << 10
_FLUSH_SECONDS = 0.05
"""For how long a hit may wait for others while there is more to look at."""
_REACHED_SECONDS = 0.5
"""How often it is told how far lanes have come, where there are no hits."""
_SLICE_SECONDS = 0.004
_ROWS, _LOOK = 256, 16
"""Records that are taken at once out of a batch, and after how many it is looked at the clock."""
_PATIENCE_SECONDS = 1.0
_LATE_SECONDS = 10.0
_SKIP_SECONDS = 60.0
_HIT_OVERHEAD, _WATCH_OVERHEAD = 48, 64
"""What a hit costs the node, in bytes of a batch, and what each of its watches does."""
_END = object()


class Tailing:
    """The watches over the partitions whose indexes `index_of` finds."""

    def __init__(
        self,
        index_of: Callable[[PartitionId], PartitionIndex | None],
        scanner: IRecordScanner,
        clock: Callable[[], float],
    ) -> None:
        self._index_of = index_of
        self._scanner = scanner
        self._clock = clock
        self._sieve = Sieve()
        self._watches: dict[int, Watch] = {}
        self._choked: set[int] = set()
        self._lanes: dict[PartitionId, dict[bool, Lane]] = {}
        self._due: dict[bool, dict[Lane, None]] = {False: {}, True: {}}
        self._turn = False
        self._outstanding = 0
        self._full_since: float | None = None
        self._seen = 0
        self._slice_ends = 0.0
        self._counting = False
        self._begin()
        self._flushed = clock()
        self.idle = True
        """Whether the last step has left nothing to do before there is news."""

    # -- news ---------------------------------------------------------------------------------------------------------

    def watch(self, news: Watch) -> None:
        """Another watch, or other partitions of one."""
        self._seen = news.sequence
        known = self._watches.get(news.number)
        before = {} if known is None else {(each.topic_id, each.partition): each for each in known.parts}
        self._watches[news.number] = news
        compiled = CompiledQuery(news.query, news.now_ms)
        for part in news.parts:
            if before.pop((part.topic_id, part.partition), None) is None:
                matcher = compiled.matcher(part.topic, part.topic_id, part.partition, part.mapping)
                self._cover(news.number, part, matcher)
        for part in before.values():
            self._uncover(news.number, part)
        mappings = [part.mapping for part in news.parts if not part.wide]
        sets = all_literals(news.query, mappings[0]) if mappings else []
        for mapping in {part.topic_id: part.mapping for part in news.parts if not part.wide}.values():
            if mapping != mappings[0]:  # what a record must have depends on its topic: one pattern of any of them
                first, second = sets[0], all_literals(news.query, mapping)[0]
                sets = [first | second]
        if sets:
            self._sieve.add(news.number, sets)
        else:
            self._sieve.discard(news.number)

    def unwatch(self, news: Unwatch) -> None:
        """One less."""
        known = self._watches.pop(news.number, None)
        if known is None:
            return
        for part in known.parts:
            self._uncover(news.number, part)
        self._sieve.discard(news.number)
        self._choked.discard(news.number)

    def choke(self, news: Choke) -> None:
        """Send the hits of a watch no more, or again."""
        if news.choked and news.number in self._watches:
            self._choked.add(news.number)
        else:
            self._choked.discard(news.number)

    def taken(self, news: Taken) -> None:
        """The node has dealt with some of what it was sent."""
        self._outstanding = max(self._outstanding - news.size, 0)

    def followed(self, partition: PartitionId) -> None:
        """More of a partition can be read, perhaps."""
        index = self._index_of(partition)
        for lane in self._lanes.get(partition, {}).values():
            if index is not None:
                lane.reaches(index.files.bounds.stable, self._clock())
            self._due[lane.wide][lane] = None

    def _cover(self, number: int, part: WatchedPart, matcher: Matcher) -> None:
        partition = PartitionId(part.topic_id, part.partition)
        lanes = self._lanes.setdefault(partition, {})
        lane = lanes.get(part.wide)
        if lane is None:
            lane = lanes[part.wide] = Lane(part.part, part.topic, partition, part.wide)
        lane.add(number, matcher, part.floor)
        self.followed(partition)

    def _uncover(self, number: int, part: WatchedPart) -> None:
        partition = PartitionId(part.topic_id, part.partition)
        lanes = self._lanes.get(partition, {})
        lane = lanes.get(part.wide)
        if lane is None:
            return
        lane.remove(number)
        if not lane.watched:
            lane.going = None
            self._reached.pop(lane, None)
            del lanes[part.wide]
            if not lanes:
                del self._lanes[partition]

    # -- the job ------------------------------------------------------------------------------------------------------

    def forget_sent(self) -> None:
        """Whoever was told of hits is there no more, and somebody else will be."""
        self._begin()
        self._outstanding = 0
        self._full_since = None

    def step(self) -> Matched | None:
        """Look at some more records; what there is to tell, if it is time to."""
        now = self._clock()
        self._slice_ends = now + _SLICE_SECONDS
        if not self._sieve.is_compiled:
            self._sieve.compile_some()
        more = not self._sieve.is_compiled or (self._may_go(now) and self._go(now))
        self.idle = not more
        return self._told(more)

    def _may_go(self, now: float) -> bool:
        if self._outstanding < WINDOW_BYTES:
            self._full_since = None
            return True
        if self._full_since is None:
            self._full_since = now
        return now - self._full_since >= _PATIENCE_SECONDS

    def _go(self, now: float) -> bool:
        """Go on in the lanes, a wide and another one in turn, to the end of the slice; whether there is more to do."""
        while any(self._due.values()):
            self._turn = not self._turn
            lanes = self._due[self._turn]
            if not lanes:
                continue
            lane = next(iter(lanes))
            del lanes[lane]
            if self._lanes.get(lane.partition, {}).get(lane.wide) is not lane:
                continue
            lateness = lane.lateness(now)
            if lateness > _SKIP_SECONDS:
                self._skip(lane)
            self._counting = lateness > _LATE_SECONDS or self._full_since is not None
            if lane.going is None:
                lane.going = self._through(lane)
            if next(lane.going, _END) is _END:
                lane.going = None
            if lane.going is not None or self._lags(lane):
                lanes[lane] = None
            if self._clock() >= self._slice_ends:
                return any(self._due.values())
            if self._size >= _FLUSH_BYTES:
                return True
        return False

    def _lags(self, lane: Lane) -> bool:
        index = self._index_of(lane.partition)
        return index is not None and lane.at < index.files.bounds.stable

    def _skip(self, lane: Lane) -> None:
        index = self._index_of(lane.partition)
        if index is not None:
            self._leave_out(lane, index.files.bounds.stable, "the queries take more time than there is")
            lane.going = None

    def _leave_out(self, lane: Lane, following: int, why: str) -> None:
        if lane.at < following:
            self._skipped.append(Skipped(lane.part, lane.wide, lane.at, following, why))
            lane.at = following
            self._reached[lane] = None

    # -- reading ------------------------------------------------------------------------------------------------------

    def _through(self, lane: Lane) -> Iterator[None]:
        """Go through what can be read now, and yield at the end of every slice."""
        index = self._index_of(lane.partition)
        if index is None:
            return
        start, stable, _ = index.files.bounds
        if lane.at < start:
            self._leave_out(lane, min(start, stable), "they were deleted before they were looked at")
        if lane.at >= stable:
            return
        self._reached[lane] = None
        try:
            for batch in lane.reader.batches(index, lane.at, stable):
                yield from self._match(lane, batch, stable)
                lane.at = max(lane.at, min(batch.header.next_offset, stable))
                self._reached[lane] = None
                if self._clock() >= self._slice_ends:
                    yield
        except (KafkaError, OSError) as error:
            self._leave_out(lane, stable, str(error))
        lane.at = max(lane.at, stable)

    def _match(self, lane: Lane, batch: DecodedBatch, stable: int) -> Iterator[None]:
        if not lane.wide and not self._sieve.lets_through(bytes(batch.section.records)):
            return
        try:
            rows = Rows(batch, lane.at, stable, self._scanner)
        except MalformedRecords:
            return  # as in the index: no query finds it
        for start in range(0, len(rows), _ROWS):
            for number, row in enumerate(rows.some(start, start + _ROWS), 1):
                self._decide(lane, rows, row)
                lane.at = max(lane.at, row.offset + 1)
                if self._size >= _FLUSH_BYTES or (not number % _LOOK and self._clock() >= self._slice_ends):
                    yield

    def _decide(self, lane: Lane, rows: Rows, row: Row) -> None:
        watched = lane.watched
        numbers: Iterable[int] = watched
        if lane.wide:
            document = rows.document(row)
        else:
            found = self._sieve.found(rows.data[row.key_at : row.stop])
            if not found:
                return
            document = rows.document(row)
            numbers = self._sieve.candidates(found, document)
        matched = []
        for number in numbers:
            known = watched.get(number)
            if known is not None and row.offset >= known.floor and known.matcher(document):
                matched.append(number)
        if not matched:
            return
        sent = [] if self._counting else [number for number in matched if number not in self._choked]
        if len(sent) < len(matched):
            for number in set(matched).difference(sent):
                self._count(lane.part, number, row.offset)
        if sent:
            text = hit_json(lane.topic, lane.partition.partition, document)
            self._hits.append(TailHit(lane.part, row.offset, tuple(sent), text))
            self._size += len(text) + _HIT_OVERHEAD + _WATCH_OVERHEAD * len(sent)

    def _count(self, part: int, number: int, offset: int) -> None:
        key = part, number, number not in self._choked
        count, first, _ = self._counted.get(key, (0, offset, offset))
        self._counted[key] = count + 1, first, offset

    # -- telling ------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Nothing is waiting to be told."""
        self._hits: list[TailHit] = []
        self._size = 0
        self._counted: dict[tuple[int, int, bool], tuple[int, int, int]] = {}
        self._reached: dict[Lane, None] = {}
        self._skipped: list[Skipped] = []

    def _told(self, more: bool) -> Matched | None:
        if not (self._hits or self._counted or self._reached or self._skipped):
            return None
        waited = self._clock() - self._flushed
        urgent = bool(self._hits or self._skipped) and (not more or waited >= _FLUSH_SECONDS)
        if not (urgent or self._size >= _FLUSH_BYTES or waited >= _REACHED_SECONDS):
            return None
        told = Matched(
            seen=self._seen,
            hits=tuple(self._hits),
            counted=tuple(
                Counted(part, number, *numbers, late) for (part, number, late), numbers in self._counted.items()
            ),
            reached=tuple(Reached(lane.part, lane.wide, lane.at) for lane in self._reached),
            skipped=tuple(self._skipped),
            size=self._size,
        )
        self._outstanding += self._size
        self._flushed = self._clock()
        self._begin()
        return told
