"""What an index has read and not made a block of yet: its signature, and the batches themselves, for those who search.

Batches are kept in **pieces**: bytes in which their headers and records are, and a table of where. Of uncompressed ones that is
what was read from the log, so nothing is copied. A batch becomes an object only for somebody who looks at it (`Tail`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from chronik.errors import KafkaError
from chronik.interfaces import Buffer
from chronik.log.committed import Place, Run, StoredBatch
from chronik.native.batches import EARLIEST, LATEST
from chronik.native.sections import Section
from chronik.wire.batches import HEADER_BYTES, BatchHeader, read_header
from chronik.wire.compression import Codec, codec_of, decompress

MAX_DECODED_BYTES = 128 << 20
"""What one batch may have uncompressed. A larger one is not searched."""

_UNCOPIED_BYTES = 16 << 10
"""From so many bytes on uncompressed batches that stand together, amid others, are a piece by themselves."""
_LARGE_BYTES = 64 << 10
"""From so many bytes on a batch that was decompressed is one: a piece costs as much as it does to copy so much."""
_TOGETHER = 128
"""Batches of which some are compressed are taken one by one, so many at most: some 3 us each and their decompression."""


class DecodedBatch(NamedTuple):
    """A batch that counts, and its records, decompressed."""

    header: BatchHeader
    section: Section


def decode(stored: StoredBatch) -> DecodedBatch | None:
    """The batch with its records decompressed; None where that is impossible."""
    header = stored.header
    try:
        records = decompress(header.codec, stored.data[HEADER_BYTES:], MAX_DECODED_BYTES)
    except KafkaError:
        return None
    return DecodedBatch(header, Section(records, header.record_count))


class Piece(NamedTuple):
    """Batches whose records are in `buffer`, uncompressed by now, and their headers, as they are stored, in `headers`.

    `rows` are of `chronik.native.batches.BATCH`, with positions in these. Of what was never compressed both are the same.
    """

    headers: bytes
    buffer: Buffer
    rows: NDArray[np.void]

    def batch(self, row: int) -> DecodedBatch:
        """The batch of a row."""
        header = read_header(self.headers, int(self.rows["position"][row]))
        start = int(self.rows["records"][row])
        records = memoryview(self.buffer)[start : start + int(self.rows["records_size"][row])]
        return DecodedBatch(header, Section(records, header.record_count))

    def compact(self) -> Piece:
        """The same without most of what doesn't belong to it, where that is half of the buffer or more."""
        first, last = self.rows[0], self.rows[-1]
        start, stop = int(first["position"]), int(last["position"] + last["size"])
        if self.headers is not self.buffer or 2 * (stop - start) > len(self.buffer):
            return self
        rows, buffer = self.rows.copy(), self.headers[start:stop]
        rows["position"] -= start
        rows["records"] -= start
        return Piece(buffer, buffer, rows)


class Taken(NamedTuple):
    """Pieces of a run, up to the row `following`, and how many of it could not be decompressed."""

    pieces: list[Piece]
    following: int
    undecodable: int


def take(run: Run, row: int, room: int) -> Taken:
    """The next pieces of a run, from `row` on: up to the batch with which its records have `room` bytes, or more."""
    rows = run.rows[row:]
    (compressed,) = rows["codec"].nonzero()
    if not len(compressed):
        return _take_plain(run, row, rows, room)
    plain = rows[: compressed[0]]
    if len(plain) and int(plain["size"].sum()) >= _UNCOPIED_BYTES:
        return _take_plain(run, row, plain, room)
    return _take_each(run, row, room)


def _take_plain(run: Run, row: int, rows: NDArray[np.void], room: int) -> Taken:
    sizes, count = rows["records_size"], len(rows)
    if sizes.sum() > room:
        count = int(sizes.cumsum().searchsorted(room)) + 1
        rows = rows[:count]
    if len(run.buffer) > MAX_DECODED_BYTES:
        rows = rows[rows["records_size"] <= MAX_DECODED_BYTES]
    return Taken([Piece(run.buffer, run.buffer, rows)], row + count, count - len(rows))


def _take_each(run: Run, row: int, room: int) -> Taken:
    view = memoryview(run.buffer)
    headers: list[memoryview] = []
    sections: list[Buffer] = []
    decoded: list[int] = []
    following, rows = row, run.rows[row : row + _TOGETHER]
    for start, size, codec in zip(*(rows[name].tolist() for name in ("position", "size", "codec")), strict=True):
        following += 1
        try:
            records = decompress(codec_of(codec), view[start + HEADER_BYTES : start + size], MAX_DECODED_BYTES)
        except KafkaError:
            continue
        headers.append(view[start : start + HEADER_BYTES])
        sections.append(records)
        decoded.append(following - 1)
        room -= len(records)
        if room <= 0:
            break
    taken = run.rows[decoded]
    taken["position"] = range(0, HEADER_BYTES * len(decoded), HEADER_BYTES)
    taken["records_size"] = [len(section) for section in sections]
    return Taken(_pieces(b"".join(headers), sections, taken), following, following - row - len(decoded))


def _pieces(headers: bytes, sections: list[Buffer], rows: NDArray[np.void]) -> list[Piece]:
    """Each large section that was decompressed as it is, what is between two of these as a copy."""
    codecs, places, found = rows["codec"].tolist(), [0] * len(sections), []
    begun = at = 0
    for number, section in enumerate(sections):
        if len(section) < _LARGE_BYTES or codecs[number] == Codec.NONE:
            places[number] = at
            at += len(section)
            continue
        if begun < number:
            found.append(Piece(headers, b"".join(sections[begun:number]), rows[begun:number]))
        found.append(Piece(headers, section, rows[number : number + 1]))
        begun, at = number + 1, 0
    if begun < len(sections):
        found.append(Piece(headers, b"".join(sections[begun:]), rows[begun:]))
    rows["records"] = places
    return found


class Tail(Sequence[DecodedBatch]):
    """The batches of some pieces, in the order of their offsets, as they are looked at."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = list(pieces)
        self._ends = np.cumsum([len(piece.rows) for piece in pieces], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, index: int) -> DecodedBatch: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[DecodedBatch]: ...

    def __getitem__(self, index: int | slice) -> DecodedBatch | Sequence[DecodedBatch]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        place = index if index >= 0 else len(self) + index
        if not 0 <= place < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, place, "right"))
        piece = self._pieces[number]
        return piece.batch(place - int(self._ends[number]) + len(piece.rows))


class Pending:
    """What will be the next block, with a signature of `bits` bits."""

    def __init__(self, bits: int) -> None:
        self.signature = bytearray(bits // 8)
        self.place: Place | None = None
        self.first_timestamp, self.last_timestamp = LATEST, EARLIEST
        self.records = self.bytes = 0
        self.kept_bytes = 0
        """What the batches that are kept take."""
        self.dropped = False
        self._pieces: list[Piece] = []

    def begin(self, place: Place) -> None:
        """Note where its first batch is."""
        if self.place is None:
            self.place = place

    def add(self, rows: NDArray[np.void], signed: NDArray[np.void]) -> None:
        """Count some batches that are in the signature now; `signed` is what was said of each."""
        self.first_timestamp = min(self.first_timestamp, int(signed["first_timestamp"].min()))
        self.last_timestamp = max(self.last_timestamp, int(signed["last_timestamp"].max()))
        self.records += int(rows["record_count"].sum(dtype=np.int64))
        self.bytes += int(rows["records_size"].sum())

    def keep(self, piece: Piece) -> None:
        """Keep these for who searches, unless all was dropped."""
        if self.dropped:
            return
        last = self._pieces[-1] if self._pieces else None
        if last is None or piece.buffer is not last.buffer:
            piece = piece.compact()
            self.kept_bytes += len(piece.buffer)
        if piece.headers is not piece.buffer and (last is None or piece.headers is not last.headers):
            self.kept_bytes += len(piece.headers)
        rows = piece.rows.copy()  # the table that they are a part of goes
        self.kept_bytes += rows.nbytes
        self._pieces.append(piece._replace(rows=rows))

    @property
    def tail(self) -> Tail:
        """The batches that are kept, as they are now."""
        return Tail(self._pieces)

    def drop(self) -> None:
        """Keep the batches no longer."""
        self._pieces = []
        self.kept_bytes = 0
        self.dropped = True
