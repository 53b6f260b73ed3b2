"""What is committed in one partition's log, as a reader beside the log sees it: the files, and the bounds that it is told.

A process that searches or aggregates doesn't hold the `Log`; it has the directory, and from time to time it is told how far
the log may be read (`Bounds`). This is the one place that says what that means:

- Nothing below `start` exists, nothing from `stable` on has been decided.
- Between these, a batch counts unless it is a marker, or belongs to an aborted transaction, or is empty.

Batches are handed out as they are stored, verified against their CRC. Files may go, or be replaced by compacted ones, at any
time: what was looked up is forgotten when the log says that it has other files (`generation`), and looked up again when a file
isn't where it was. A segment that is swapped in by compaction has the suffix `.swap` for a moment (`chronik.log.compacted`); it
is read by that name too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IDisk, IFile
from chronik.log.cleaning import AbortedRange
from chronik.log.index import OffsetIndex, TimeIndex
from chronik.log.scan import read_batches, scan_batches
from chronik.log.segment import INDEX_SUFFIX, LOG_SUFFIX, SWAP_SUFFIX, TIME_INDEX_SUFFIX, file_name
from chronik.wire.batches import HEADER_BYTES, BatchHeader, read_header

_TRIES = 4
_OPEN_FILES = 4


class Bounds(NamedTuple):
    """How far a log may be read: offsets `start` to `stable`, the last not included. `generation` counts changes of files."""

    start: int
    stable: int
    generation: int = 0


class Place(NamedTuple):
    """Where the batch at `offset` was found: the base offset of its segment, and its position in bytes. A hint."""

    offset: int
    segment: int
    position: int


class StoredBatch(NamedTuple):
    """A batch that counts, as it is stored."""

    place: Place
    header: BatchHeader
    data: memoryview


class Spans(NamedTuple):
    """Offsets that are to be read, (first, following) each; of how many segments, and how many more were left out."""

    offsets: list[tuple[int, int]]
    segments: int
    pruned: int


class AbortedTransactionsTold:
    """The aborted transactions that this reader was told of, by producer."""

    def __init__(self) -> None:
        self._by_producer: dict[int, list[tuple[int, int]]] = {}

    def add(self, ranges: Iterable[AbortedRange]) -> None:
        """Note more of them. Those of one producer come in the order of their offsets; what is known already is passed over."""
        for producer_id, first, last in ranges:
            known = self._by_producer.setdefault(producer_id, [])
            if not known or known[-1][1] < last:
                known.append((first, last))

    def has(self, header: BatchHeader) -> bool:
        """Whether this batch belongs to one of them."""
        known = self._by_producer.get(header.producer_id)
        if not known:
            return False
        index = bisect_right(known, (header.base_offset, 2**63)) - 1
        return index >= 0 and header.base_offset <= known[index][1]

    def forget_below(self, offset: int) -> None:
        """Those that ended below `offset` are not asked for any more."""
        for producer_id, known in list(self._by_producer.items()):
            kept = [each for each in known if each[1] >= offset]
            if kept:
                self._by_producer[producer_id] = kept
            else:
                del self._by_producer[producer_id]


class CommittedFiles:
    """The files of the log in `directory`, read within the bounds that `follow` was told last."""

    def __init__(self, disk: IDisk, directory: str) -> None:
        self._disk = disk
        self._directory = directory
        self._bases: list[int] | None = None
        self._names: dict[int, str] = {}
        self._files: dict[str, IFile] = {}
        self._indexes: dict[int, OffsetIndex] = {}
        self.bounds = Bounds(0, 0)
        self.aborted = AbortedTransactionsTold()

    def follow(self, bounds: Bounds, aborted: Iterable[AbortedRange] = ()) -> None:
        """Read within these bounds from now on. `aborted` are the transactions that were aborted since the last time."""
        self.aborted.add(aborted)
        if bounds.generation != self.bounds.generation:
            self.forget_files()
        if bounds.start > self.bounds.start:
            self.aborted.forget_below(bounds.start)
        self.bounds = bounds

    def read(self, offset: int, upper: int, hint: Place | None = None) -> Iterator[StoredBatch]:
        """The batches that count with anything from `offset` on and below `upper`, within the bounds, in their order.

        `hint` is where the batch with `offset` was found once. A batch may have records outside of what was asked for: whoever
        decodes it passes over these. Raises KafkaError(CORRUPT_MESSAGE) where the log is damaged, and OSError.
        """
        offset, upper = max(offset, self.bounds.start), min(upper, self.bounds.stable)
        tries = 0
        while offset < upper:
            begun = offset
            with suppress(FileNotFoundError):
                for stored in self._read_segment(offset, upper, hint):
                    offset = stored.header.next_offset
                    if self._counts(stored.header):
                        yield stored
                    if offset >= upper:
                        return
            hint = None
            if offset > begun:
                tries = 0
                continue
            tries += 1
            self.forget_files()  # the list of files is older than a roll, a swap, or a deletion
            if tries > 1:
                if not self._list():
                    return  # the log is gone, and the bounds don't say so yet
                following = self._next_segment(offset)
                if following is None or tries > _TRIES:
                    raise KafkaError(
                        ErrorCode.KAFKA_STORAGE_ERROR,
                        f"{self._directory} has no batch for offset {offset}, which is committed; look at the disk",
                    )
                offset = following

    def spans(self, offset: int, upper: int, since: int | None = None) -> Spans:
        """Where to read for records from `offset` on and below `upper`, within the bounds, of time `since` (ms) or later.

        Segments of other offsets, and sealed ones whose time index says that all in them is older, are left out. Files that
        are replaced meanwhile leave out nothing.
        """
        offset, upper = max(offset, self.bounds.start), min(upper, self.bounds.stable)
        bases = self._list()
        found: list[tuple[int, int]] = []
        segments = 0
        for base, following in zip(bases, [*bases[1:], None], strict=True):
            if offset >= upper or (following is not None and following <= offset) or base >= upper:
                continue
            if following is not None and since is not None and self._is_older(base, following, since):
                continue
            segments += 1
            first, last = max(offset, base), upper if following is None else min(upper, following)
            if found and found[-1][1] == first:
                found[-1] = found[-1][0], last
            else:
                found.append((first, last))
        return Spans(found, segments, len(bases) - segments)

    def forget_files(self) -> None:
        """Look for files anew at the next read."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._indexes.clear()
        self._bases = None

    def _counts(self, header: BatchHeader) -> bool:
        if header.control or not header.record_count:
            return False
        return not (header.transactional and self.aborted.has(header))

    # -- files --------------------------------------------------------------------------------------------------------

    def _list(self) -> list[int]:
        if self._bases is None:
            names: dict[int, str] = {}
            for suffix in (LOG_SUFFIX, LOG_SUFFIX + SWAP_SUFFIX):  # where both are there, the new one is whole
                for name in self._found():
                    stem = name.removesuffix(suffix)
                    if name.endswith(suffix) and stem.isdigit():
                        names[int(stem)] = name
            self._names, self._bases = names, sorted(names)
        return self._bases

    def _found(self) -> list[str]:
        try:
            return self._disk.list(self._directory)
        except FileNotFoundError:
            return []

    def _next_segment(self, offset: int) -> int | None:
        """The base offset of the first segment that begins at `offset` or later; None when there is none."""
        bases = self._list()
        index = bisect_right(bases, offset - 1)
        return bases[index] if index < len(bases) else None

    def _read_segment(self, offset: int, upper: int, hint: Place | None) -> Iterator[StoredBatch]:
        """All batches from the one that holds `offset` on, in the segment in which it would be."""
        bases = self._list()
        index = bisect_right(bases, offset) - 1
        if index < 0:
            return
        base = bases[index]
        file = self._open(self._names[base])
        size = file.size()
        position = self._position(file, base, offset, size, hint)
        for found, header, data in _batches_before(file, position, size, upper):
            if header.next_offset > offset:
                yield StoredBatch(Place(header.base_offset, base, found), header, data)

    def _position(self, file: IFile, base: int, offset: int, size: int, hint: Place | None) -> int:
        """Where to begin to read for `offset`: at its batch or before it."""
        if hint is not None and hint.segment == base and hint.offset <= offset and _is_at(file, hint, size):
            return hint.position
        index = self._indexes.get(base)
        if index is None:
            try:
                index = OffsetIndex(self._disk.read(f"{self._directory}/{file_name(base, INDEX_SUFFIX)}"))
            except FileNotFoundError:  # of a segment that is appended to
                return 0
            self._indexes[base] = index
        if not index.fits(size):
            return 0
        relative, position = index.floor(offset - base)
        return position if _is_at(file, Place(base + relative, base, position), size) else 0

    def _is_older(self, base: int, following: int, since: int) -> bool:
        """Whether the time index of a sealed segment is there, leads to the batch that it names, and all are before `since`."""
        try:
            index = TimeIndex(self._disk.read(f"{self._directory}/{file_name(base, TIME_INDEX_SUFFIX)}"))
            file = self._open(self._names[base])
            size = file.size()
            newest, relative = index.last()
            if not index.fits(size) or newest >= since or not 0 <= relative < following - base:
                return False
            place = self._position(file, base, base + relative, size, None)
            for _, header in scan_batches(file, place, size):
                if header.next_offset > base + relative:
                    return header.max_timestamp == newest
        except (FileNotFoundError, KafkaError):
            return False
        return False

    def _open(self, name: str) -> IFile:
        file = self._files.get(name)
        if file is None:
            if len(self._files) >= _OPEN_FILES:
                oldest = next(iter(self._files))
                self._files.pop(oldest).close()
            file = self._files[name] = self._disk.open(f"{self._directory}/{name}")
        return file


def _batches_before(file: IFile, position: int, size: int, upper: int) -> Iterator[tuple[int, BatchHeader, memoryview]]:
    """As `read_batches`, up to the last one with anything below `upper`: what follows may not be whole yet."""
    batches = read_batches(file, position, size)
    while True:
        found = next(batches, None)
        if found is None:
            return
        yield found
        if found[1].next_offset >= upper:
            return


def _is_at(file: IFile, place: Place, size: int) -> bool:
    """Whether the batch that belongs to `place` is there."""
    if place.position + HEADER_BYTES > size:
        return False
    try:
        return read_header(file.pread(HEADER_BYTES, place.position)).base_offset == place.offset
    except KafkaError:
        return False
