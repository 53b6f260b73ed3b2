"""The signatures of one partition, made as its log grows, and what is not signed yet.

The index follows the log in steps (`step`): it reads what became stable, decompresses it, and signs it; many batches at once,
so that a log of batches of one record costs no more than its bytes (`chronik.search.pending`). As soon as `BLOCK_BYTES`
are gathered they are a block of the open group; a full group is written to its file, and kept there. So the partition is at
any time a row of groups, and behind them a **tail**: batches that are no block yet, decoded or not even read. Whoever searches
looks at the candidates that the groups propose, and at all of the tail.

Nothing of it must survive: what is missing, damaged, or of another format is made anew from the log. At a start the groups on
disk are taken up as far as they follow each other without a gap. A stop in order writes the open group too (`save`); after
any other end at most one group's worth is signed again.

Batches that cannot be decoded (malformed, or more than `MAX_DECODED_BYTES`) are passed over, and counted: no query finds them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from chronik.errors import CorruptLogError, KafkaError
from chronik.interfaces import IDisk
from chronik.log.cleaning import AbortedRange
from chronik.log.committed import Bounds, CommittedFiles, Place, Run
from chronik.native.batches import LATEST
from chronik.native.hashing import HASHES
from chronik.native.interfaces import IRecordScanner
from chronik.search.pending import Pending, Piece, Tail, take
from chronik.search.signatures import BLOCK_BYTES, GROUP_BLOCKS, Block, OpenGroup, WrittenGroup, signature_bits

GROUP_SUFFIX = ".signatures"

_STEP_BYTES = 256 << 10
_BLOCKS_TO_TRY_AGAIN = 64
_REMOVALS = 3


class Writing(Protocol):
    """A file that is being written by somebody else."""

    def done(self) -> bool:
        """Whether it is written, or has failed."""

    def result(self) -> object:
        """Raises what it has failed with."""


class IndexState(NamedTuple):
    """How far an index has come. `indexed_to`: all below is in blocks; `read_to`: all below is signed."""

    start: int
    stable: int
    indexed_to: int
    read_to: int
    blocks: int
    undecodable: int
    damage: str


class PartitionIndex:
    """The index of the partition whose log `files` reads, in `directory` on `disk`.

    `write(job)` carries out a job that waits for the disk, elsewhere. `tell` gets a line for the operator.
    """

    def __init__(
        self,
        disk: IDisk,
        directory: str,
        files: CommittedFiles,
        scanner: IRecordScanner,
        write: Callable[[Callable[[], None]], Writing],
        tell: Callable[[str], object],
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self._block_bytes = block_bytes
        self._bits = signature_bits(block_bytes)
        self._disk = disk
        self._directory = directory
        self.files = files
        self._scanner = scanner
        self._write = write
        self._tell = tell
        self.groups: list[OpenGroup | WrittenGroup] = []
        self._places: list[
            NDArray[np.int64]
        ] = []  # for each group: segment and position of its blocks, in this generation
        self.indexed_to = self.read_to = 0
        self.undecodable = 0
        self.damage = ""
        """Why indexing has ended, where the log is damaged."""
        self._pending = Pending(self._bits)
        self._reading: Iterator[Run] | None = None
        self._reading_to = 0
        self._run: Run | None = None  # of `_reading`, signed up to `_row`
        self._row = 0
        self._last: Place | None = None
        self._sealing: Generator[None, None, bytes] | None = None
        self._writing: tuple[Writing, OpenGroup] | None = None
        self._write_from = 0  # blocks that there must be before a group is written, after one could not be
        self._loaded = False

    # -- following the log --------------------------------------------------------------------------------------------

    def follow(self, bounds: Bounds, aborted: list[AbortedRange], limit: int = LATEST) -> None:
        """The log reaches so far now, and these transactions were aborted since the last time.

        What is on disk is taken up the first time, but for groups that go beyond offset `limit`: the log has lost what they
        were made of, and has other records there now.
        """
        if bounds.generation != self.files.bounds.generation:
            self._stop_reading()
            for places in self._places:
                places[:] = -1
            self.drop_tail()  # compaction may have taken records of it
        self.files.follow(bounds, aborted)
        if not self._loaded:
            self._loaded = True
            self._load(limit)
        if bounds.stable < self.read_to:
            self._begin_anew(f"the log was cut at {bounds.stable}")
        self._forget_below(bounds.start)

    def step(self) -> bool:
        """Index a little more; False when there is nothing to do."""
        if self._write_step():
            return True
        if self.damage or self.read_to >= self.files.bounds.stable:
            return False
        try:
            run = self._next_run()
        except (KafkaError, OSError) as error:
            self._reading = None
            self.damage = str(error)
            self._tell(f"indexing {self._directory} has ended at offset {self.read_to}: {error}")
            return True
        if run is None:
            self._reading = None
            self.read_to = max(self.read_to, self._reading_to)
            return True
        if self._row < len(run.rows):
            self._sign(run)
        if self._row < len(run.rows):
            self.read_to = int(run.rows["following"][self._row - 1])
        else:
            self.read_to, self._run = run.following, None
            if self.read_to >= self._reading_to:
                self._reading = None
        if self._pending.bytes >= self._block_bytes:
            self._end_block()
        return True

    @property
    def tail(self) -> Tail:
        """What is read but no block yet, while it is kept: from `indexed_to` to `read_to`."""
        return self._pending.tail

    @property
    def tail_is_kept(self) -> bool:
        """Whether `tail` is all that lies between `indexed_to` and `read_to`."""
        return not self._pending.dropped

    @property
    def tail_bytes(self) -> int:
        """What `tail` takes."""
        return self._pending.kept_bytes

    def drop_tail(self) -> None:
        """Give the tail's memory back. It stays signed, and is read from the log by whoever wants it."""
        self._pending.drop()

    @property
    def state(self) -> IndexState:
        """How far it has come."""
        start, stable, _ = self.files.bounds
        blocks = sum(len(group) for group in self.groups)
        return IndexState(start, stable, self.indexed_to, self.read_to, blocks, self.undecodable, self.damage)

    def place(self, first: int) -> Place | None:
        """Where the first batch of the block that begins at offset `first` was found, as a hint."""
        for group, places in zip(self.groups, self._places, strict=True):
            block = int(np.searchsorted(group.table["first"], first))
            if block < len(group) and group.table["first"][block] == first:
                segment, position = (int(each) for each in places[block])
                return None if segment < 0 else Place(first, segment, position)
        return None

    def near(self, offset: int) -> Place | None:
        """A place at or before the batch that holds `offset`, as a hint: the segment that grows has no index of its own."""
        for place in (self._last, self._pending.place):
            if place is not None and place.offset <= offset:
                return place
        number = bisect_right(self.groups, offset, key=lambda group: int(group.table["first"][0])) - 1
        if number < 0:
            return None
        block = int(np.searchsorted(self.groups[number].table["first"], offset, "right")) - 1
        segment, position = (int(each) for each in self._places[number][block])
        return None if segment < 0 else Place(int(self.groups[number].table["first"][block]), segment, position)

    def rebuild(self) -> None:
        """Make all of it anew from the log; what is not signed again yet is the tail, and searched whole."""
        self._begin_anew("this was asked for")

    def distrust(self, group: OpenGroup | WrittenGroup, fault: Exception) -> None:
        """A look-up in the group has failed: it and what follows is made anew; until then it is the tail, and searched
        whole."""
        if group not in self.groups:
            return
        first = int(group.table["first"][0])
        self._tell(f"{fault}; the index from offset {first} on is made anew")
        at = self.groups.index(group)
        for each in self.groups[at:]:
            if isinstance(each, WrittenGroup):
                each.close()
                self._disk.remove(self._path(each))
        del self.groups[at:], self._places[at:]
        self._pending = Pending(self._bits)
        self._stop_reading()
        self._sealing = None
        self.indexed_to = self.read_to = max(first, self.files.bounds.start)

    # -- blocks and groups --------------------------------------------------------------------------------------------

    def _next_run(self) -> Run | None:
        """The run that is being signed, or the next one; None when all was read up to where the log went at its beginning."""
        if self._run is None:
            if self._reading is None:
                self._reading_to = self.files.bounds.stable
                self._reading = self.files.runs(self.read_to, self._reading_to, self._last)
            self._run, self._row = next(self._reading, None), 0
        return self._run

    def _stop_reading(self) -> None:
        """What was read of the log so far may not be what is there now."""
        self._reading = self._run = self._last = None

    def _sign(self, run: Run) -> None:
        """Sign the next piece of a run, to the end of the block at most."""
        pending = self._pending
        pending.begin(run.place(self._row))
        pieces, following, undecodable = take(run, self._row, min(self._block_bytes - pending.bytes, _STEP_BYTES))
        self._row, self._last = following, run.place(following - 1)
        self.undecodable += undecodable
        each = self._scanner.sign_batches([(piece.buffer, piece.rows) for piece in pieces], pending.signature, HASHES)
        taken: list[Piece] = []
        for piece, signed in zip(pieces, each, strict=True):
            if signed["reason"].any():  # some tokens of these are in the signature by now, which does no harm
                good = signed["reason"] == 0
                self.undecodable += len(good) - int(good.sum())
                piece, signed = piece._replace(rows=piece.rows[good]), signed[good]
            if len(signed):
                pending.add(piece.rows, signed)
                taken.append(piece)
        if pending.bytes < self._block_bytes:
            for piece in taken:
                pending.keep(piece)

    def _end_block(self) -> None:
        pending, self._pending = self._pending, Pending(self._bits)
        first = self.indexed_to
        block = Block(
            first, self.read_to, pending.first_timestamp, pending.last_timestamp, pending.records, pending.bytes
        )
        group = self.groups[-1] if self.groups else None
        if not isinstance(group, OpenGroup) or group.full:
            group = OpenGroup(self._bits)
            self.groups.append(group)
            self._places.append(np.full((0, 2), -1, np.int64))
        group.add(block, pending.signature)
        place = pending.place
        here = [[place.segment, place.position]] if place is not None and place.offset == first else [[-1, -1]]
        self._places[-1] = np.append(self._places[-1], np.array(here, np.int64), axis=0)
        self.indexed_to = self.read_to

    def _write_step(self) -> bool:
        """A step of writing the first group that is full and has no file; False when there is none."""
        if self._writing is not None:
            writing, group = self._writing
            if not writing.done():
                return False
            self._writing = None
            self._written(writing, group)
            return True
        full = next((group for group in self.groups if isinstance(group, OpenGroup) and group.full), None)
        if full is None or self.state.blocks < self._write_from:
            return False
        if self._sealing is None:
            self._sealing = full.encoding()
        try:
            next(self._sealing)
        except StopIteration as end:
            self._sealing = None
            content, path = end.value, self._path(full)
            self._writing = self._write(lambda: self._put(path, content)), full
        return True

    def _written(self, writing: Writing, group: OpenGroup) -> None:
        path = self._path(group)
        try:
            writing.result()
            stored = WrittenGroup.open(self._disk, path)
        except (OSError, CorruptLogError) as error:
            self._tell(f"{path} cannot be written: {error}; it stays in memory, and is tried again after more data")
            self._write_from = self.state.blocks + _BLOCKS_TO_TRY_AGAIN
            return
        for index, each in enumerate(self.groups):
            if each is group:
                self.groups[index] = stored
                return
        self._disk.remove(path)  # given up meanwhile

    def save(self) -> None:
        """Write the open group, for the next start. Blocks."""
        if self._writing is not None or not self.groups:
            return
        group = self.groups[-1]
        if isinstance(group, OpenGroup) and len(group):
            steps = group.encoding()
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    self._put(self._path(group), end.value)
                    return

    def remove(self) -> None:
        """Delete all of it: the topic is gone, or the index is to be made anew."""
        for group in self.groups:
            if isinstance(group, WrittenGroup):
                group.close()
        self.groups.clear()
        self._places.clear()
        for attempt in range(_REMOVALS):
            try:
                self._disk.remove(self._directory)
                return
            except OSError:  # a group that is just being written came in between: as a new file, and by its final name
                if attempt == _REMOVALS - 1:
                    raise

    def _put(self, path: str, content: bytes) -> None:
        self._disk.make_directory(self._directory, durable=False)
        self._disk.replace(path, content, durable=False)

    def _path(self, group: OpenGroup | WrittenGroup) -> str:
        return f"{self._directory}/{int(group.table['first'][0]):020d}{GROUP_SUFFIX}"

    # -- starts and cuts ----------------------------------------------------------------------------------------------

    def _load(self, limit: int) -> None:
        """Take up the groups on disk, as far as they follow each other, and go no further than the log did."""
        start, limit = self.files.bounds.start, min(limit, self.files.bounds.stable)
        self.indexed_to = self.read_to = start
        try:
            names = [name for name in self._disk.list(self._directory) if name.endswith(GROUP_SUFFIX)]
        except FileNotFoundError:
            return
        for name in names:
            path = f"{self._directory}/{name}"
            try:
                group = WrittenGroup.open(self._disk, path)
                first, following = int(group.table["first"][0]), int(group.table["following"][-1])
                follows = first == self.indexed_to or (not self.groups and first <= self.indexed_to)
                if not follows or following > limit:
                    raise CorruptLogError(
                        f"{path} has offsets {first} to {following}, {self.indexed_to} to {limit} at most are expected"
                    )
                self._take(group)
            except (CorruptLogError, OSError) as error:
                self._tell(f"{error}; the index from offset {self.indexed_to} on is made anew")
                self._disk.remove(path)

    def _take(self, group: WrittenGroup) -> None:
        if len(group) < GROUP_BLOCKS:
            reopened = group.reopen(self._bits)
            group.close()
            self.groups.append(reopened)
        else:
            self.groups.append(group)
        self._places.append(np.full((len(group), 2), -1, np.int64))
        self.indexed_to = self.read_to = int(group.table["following"][-1])

    def _forget_below(self, start: int) -> None:
        """Give up the groups that lie wholly below the log's start."""
        while self.groups and int(self.groups[0].table["following"][-1]) <= start:
            group = self.groups.pop(0)
            self._places.pop(0)
            if isinstance(group, WrittenGroup):
                group.close()
            elif self._sealing is not None:
                self._sealing = None
            self._disk.remove(self._path(group))
        if self.read_to < start:
            self._pending = Pending(self._bits)
            self._stop_reading()
            self.indexed_to = self.read_to = start

    def _begin_anew(self, why: str) -> None:
        self._tell(f"{self._directory}: {why}; the index is made anew")
        self._pending = Pending(self._bits)
        self._stop_reading()
        self._sealing = None
        self.damage = ""
        self.undecodable = self._write_from = 0
        self.indexed_to = self.read_to = self.files.bounds.start
        self.remove()  # the last: if it fails, nothing is indexed, and all is searched whole
