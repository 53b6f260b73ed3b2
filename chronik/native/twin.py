"""What the C code does, in numpy: for machines without a compiler, and to hold the C code against.

All records of a section at once, one numpy step a field. What numpy is no good at goes through the plain Python of `records`,
`tokens` and `escapes`: headers, text that is not ASCII, values with backslashes, and saying where a fault is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zope.interface import implementer

from chronik.native import batches, records
from chronik.native.batches import APPEND_TIME_BIT, EARLIEST, LATEST, SIGNED, check_rows
from chronik.native.escapes import unescape
from chronik.native.hashing import FIRST, SECOND, check_bits, check_hashes, hash_token
from chronik.native.interfaces import IRecordScanner
from chronik.native.numbers import MARKER, needs_marker
from chronik.native.sections import Columns, MalformedRecords, Section, check_count, check_size
from chronik.native.signed import signed_tokens
from chronik.native.tokens import MAX_BYTES, Buffer, tokens

_ANY_OFFSET = 2**31 - 1
_FEW = 20
"""Records of a section for which numpy isn't worth its calls."""
_PIECE = 1 << 20
"""Bytes that are hashed at once, so that memory stays in proportion: some 30 bytes for one."""

_lower = np.zeros(256, np.uint8)
"""The lower case of ASCII letters and digits; 0 for what separates. Bytes beyond ASCII are those of tokens read already."""
_lower[ord("0") : ord("9") + 1] = np.arange(ord("0"), ord("9") + 1)
_lower[ord("a") : ord("z") + 1] = _lower[ord("A") : ord("Z") + 1] = np.arange(ord("a"), ord("z") + 1)
_lower[0x80:] = np.arange(0x80, 0x100)


class _NotPlain(Exception):
    """The records are not what the fast way can read: a fault, most likely."""


@implementer(IRecordScanner)
class NumpyScanner:
    """Records by numpy."""

    def columns(self, section: Section, last_offset_delta: int) -> Columns:
        """See IRecordScanner."""
        check_size(section)
        check_count(section)
        if section.count >= _FEW:
            try:
                return _columns(section, last_offset_delta)
            except _NotPlain:
                pass  # plain Python says what is wrong
        return _from_rows(list(records.walk(section.records, section.count, last_offset_delta)))

    def sign(self, sections: Sequence[Section], signature: bytearray | memoryview, hashes: int) -> None:
        """See IRecordScanner."""
        bits = check_bits(len(signature) * 8)
        check_hashes(hashes)
        for section in sections:
            check_size(section)
        found = _Found()
        for place, section in enumerate(sections):
            try:
                columns = self.columns(section, _ANY_OFFSET)
            except MalformedRecords as fault:
                raise MalformedRecords(fault.reason, fault.record, fault.byte, place) from None
            found.add(section, columns)
        found.set(signature, bits, hashes)

    def look_over(self, buffer: Buffer, upper: int) -> NDArray[np.void]:
        """See IRecordScanner."""
        return batches.look_over(buffer, upper)

    def sign_batches(
        self, pieces: Sequence[tuple[Buffer, NDArray[np.void]]], signature: bytearray | memoryview, hashes: int
    ) -> list[NDArray[np.void]]:
        """See IRecordScanner."""
        bits = check_bits(len(signature) * 8)
        check_hashes(hashes)
        for buffer, rows in pieces:
            check_rows(buffer, rows)
        found = _Found()
        signed = [self._sign_piece(buffer, rows, found) for buffer, rows in pieces]
        found.set(signature, bits, hashes)
        return signed

    def _sign_piece(self, buffer: Buffer, rows: NDArray[np.void], found: _Found) -> NDArray[np.void]:
        view, said = memoryview(buffer), []
        names = (
            "records",
            "records_size",
            "record_count",
            "last_offset_delta",
            "base_timestamp",
            "max_timestamp",
            "attributes",
        )
        for start, size, count, last, base, latest, attributes in zip(
            *(rows[each].tolist() for each in names), strict=True
        ):
            section = Section(view[start : start + size], count)
            try:
                deltas = (
                    found.add_few(section, last)
                    if count < _FEW
                    else found.add_many(section, self.columns(section, last))
                )
            except MalformedRecords as fault:
                said.append((LATEST, EARLIEST, int(fault.reason)))
                continue
            times = [latest] if attributes & APPEND_TIME_BIT else [_within_64_bits(base + each) for each in deltas]
            said.append((min(times), max(times), 0) if count else (LATEST, EARLIEST, 0))
        return np.array(said, SIGNED)


def _within_64_bits(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


# -- columns ------------------------------------------------------------------------------------------------------------


def _from_rows(rows: list[records.Row]) -> Columns:
    kinds: list[Any] = [np.int64] + [np.int32] * 7
    return Columns(*(np.array([row[place] for row in rows], kind) for place, kind in enumerate(kinds)))


def _columns(section: Section, last_offset_delta: int) -> Columns:
    starts, stops = _bounds(section)
    content = np.frombuffer(section.records, np.uint8)
    times, at = _varints(content, starts + 1, stops, 64)
    offsets, at = _varints(content, at, stops, 32)
    if (offsets < 0).any() or (offsets > last_offset_delta).any():
        raise _NotPlain
    key_start, key_length, at = _fields(content, at, stops)
    value_start, value_length, at = _fields(content, at, stops)
    counts, at = _varints(content, at, stops, 32)
    if (counts < 0).any():
        raise _NotPlain
    ends = at.copy()
    for row in np.flatnonzero(counts).tolist():
        if 2 * counts[row] > stops[row] - at[row]:
            raise _NotPlain
        ends[row] = _end_of_headers(section, int(at[row]), int(counts[row]), int(stops[row]))
    if (ends != stops).any():
        raise _NotPlain
    narrow = (offsets, key_start, key_length, value_start, value_length, at, counts)
    return Columns(times, *(column.astype(np.int32) for column in narrow))


def _bounds(section: Section) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the records' bodies begin, their attributes that is, and where they end."""
    b, end, at = section.records, len(section.records), 0
    starts, stops = [], []
    for _ in range(section.count):
        if at + 1 >= end:
            raise _NotPlain
        low, high = b[at], b[at + 1]
        if low < 0x80:
            length, at = low, at + 1
        elif high < 0x80:
            length, at = low & 0x7F | high << 7, at + 2
        else:
            length, shift = low & 0x7F, 0
            while b[at] >= 0x80:
                at, shift = at + 1, shift + 7
                if shift > 28 or at >= end:
                    raise _NotPlain
                length |= (b[at] & 0x7F) << shift
            at += 1
        starts.append(at)
        at += length >> 1
        if length & 1 or not length or at > end:
            raise _NotPlain
        stops.append(at)
    if at != end:
        raise _NotPlain
    return np.array(starts, np.int64), np.array(stops, np.int64)


def _varints(
    content: NDArray[np.uint8], at: NDArray[np.int64], stops: NDArray[np.int64], bits: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The signed varints at all these places, and the places after them."""
    if (at >= stops).any():
        raise _NotPlain
    byte = content[at].astype(np.uint64)
    value, at = byte & np.uint64(0x7F), at + 1
    going, shift = np.flatnonzero(byte > 0x7F), 7
    while going.size:
        if shift >= bits or (at[going] >= stops[going]).any():
            raise _NotPlain
        byte = content[at[going]].astype(np.uint64)
        if shift == 63 and (byte > 1).any():
            raise _NotPlain
        value[going] |= (byte & np.uint64(0x7F)) << np.uint64(shift)
        at[going] += 1
        going, shift = going[byte > 0x7F], shift + 7
    if bits < 64 and (value >> np.uint64(bits)).any():
        raise _NotPlain
    return (value >> np.uint64(1)).astype(np.int64) ^ -(value & np.uint64(1)).astype(np.int64), at


def _fields(
    content: NDArray[np.uint8], at: NDArray[np.int64], stops: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Starts, lengths (-1 for null) and ends of the bytes whose lengths stand at these places."""
    lengths, starts = _varints(content, at, stops, 32)
    ends = starts + np.maximum(lengths, 0)
    if (lengths < -1).any() or (ends > stops).any():
        raise _NotPlain
    return starts, lengths, ends


def _end_of_headers(section: Section, start: int, count: int, stop: int) -> int:
    try:
        return records.header_places(section.records, start, count, stop)[1]
    except records.Fault:
        raise _NotPlain from None


# -- signatures ---------------------------------------------------------------------------------------------------------


class _Found:
    """What is signed of some sections: hashes, and the tokens that plain Python has read."""

    def __init__(self) -> None:
        self._hashes: list[NDArray[np.uint64]] = []
        self._words: set[bytes] = set()

    def add(self, section: Section, columns: Columns) -> None:
        """All of a section whose columns these are."""
        if section.count < _FEW:
            self._words |= _words(section.records, zip(*(column.tolist() for column in columns), strict=True))
        else:
            self._hashes += _hashes(section.records, columns, self._words)

    def add_few(self, section: Section, last_offset_delta: int) -> list[int]:
        """All of a section of few records; their timestamp deltas. Raises MalformedRecords."""
        rows = list(records.walk(section.records, section.count, last_offset_delta))
        self._words |= _words(section.records, rows)
        return [row.timestamp_delta for row in rows]

    def add_many(self, section: Section, columns: Columns) -> list[int]:
        """All of a section whose columns these are; the timestamp deltas."""
        self._hashes += _hashes(section.records, columns, self._words)
        deltas: list[int] = columns.timestamp_delta.tolist()
        return deltas

    def set(self, signature: bytearray | memoryview, bits: int, hashes: int) -> None:
        """Set their bits."""
        found, words = self._hashes, self._words
        if MARKER in words:
            words.discard(MARKER)  # it has a zero in it, which separates words here
            found.append(np.array([hash_token(MARKER)], np.uint64))
        found += _of_runs(np.frombuffer(b"\0".join(words), np.uint8))
        if found:
            _set(signature, np.unique(np.concatenate(found)), bits, hashes)


def _words(section: Buffer, rows: Iterable[tuple[int, ...]]) -> set[bytes]:
    """All that is signed of a section whose records these are, each a `Row`."""
    found: set[bytes] = set()
    for _, _, key, key_length, value, value_length, start, count in rows:
        found |= signed_tokens(
            section[key : key + key_length] if key_length > 0 else None,
            section[value : value + value_length] if value_length > 0 else None,
            records.headers(section, start, count),
        )
    return found


def _hashes(section: Buffer, columns: Columns, words: set[bytes]) -> Iterator[NDArray[np.uint64]]:
    """The hashes of what is signed of a section whose columns these are; what numpy is no good at is added to `words`."""
    content = np.frombuffer(section, np.uint8)
    fields = _places(section, columns)
    starts, lengths = fields.T
    ends = starts + lengths
    inside = np.zeros(content.size + 1, np.int8)
    inside[starts] = 1
    inside[ends] -= 1  # fields don't touch: there is a length between them
    lower = _lower[content]
    lower *= np.cumsum(inside[:-1], dtype=np.int8).view(np.uint8)
    for start, length in fields[_with(content > 0x7F, starts, ends)].tolist():
        lower[start : start + length] = 0
        words.update(tokens(section[start : start + length]))
    values = np.column_stack((columns.value_start, columns.value_length))[columns.value_length > 0].astype(np.int64)
    escaped = _with(content == ord("\\"), values[:, 0], values.sum(axis=1))
    for start, length in values[escaped].tolist():
        words.update(tokens(unescape(section[start : start + length])))
    if any(needs_marker(section[start : start + length]) for start, length in values.tolist()):
        words.add(MARKER)
    yield from _of_runs(lower)


def _places(section: Buffer, columns: Columns) -> NDArray[np.int64]:
    """Start and length of all keys, values, and headers' names and values that have a length."""
    some = [
        np.column_stack((columns.key_start, columns.key_length)),
        np.column_stack((columns.value_start, columns.value_length)),
    ]
    for row in np.flatnonzero(columns.header_count).tolist():
        places, _ = records.header_places(section, int(columns.headers_start[row]), int(columns.header_count[row]))
        some.append(np.array(places, np.int32).reshape(-1, 2))
    found = np.concatenate(some).astype(np.int64)
    return found[found[:, 1] > 0]


def _with(marks: NDArray[np.bool_], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the ranges hold a mark."""
    where = np.flatnonzero(marks)
    return np.searchsorted(where, starts) < np.searchsorted(where, ends)


def _of_runs(lower: NDArray[np.uint8]) -> Iterator[NDArray[np.uint64]]:
    """The hashes of the runs between zeros: tokens in lower case, cut where they are ASCII, whole where they are not."""
    text, start = lower.tobytes(), 0
    while start < len(text):
        stop = text.find(b"\0", start + _PIECE)
        stop = len(text) if stop < 0 else stop
        yield _of_piece(lower[start:stop])
        start = stop


def _of_piece(lower: NDArray[np.uint8]) -> NDArray[np.uint64]:
    padded = np.zeros(lower.size + 9, np.uint8)
    padded[1 : lower.size + 1] = lower
    edges = np.flatnonzero((padded[1:] != 0) != (padded[:-1] != 0))
    starts, lengths = edges[::2], np.minimum(edges[1::2] - edges[::2], MAX_BYTES)
    words: NDArray[np.uint64] = np.ndarray(lower.size + 1, "<u8", padded[1:], strides=(1,))
    hashes = np.full(starts.size, FIRST, np.uint64)
    going = np.arange(starts.size)
    for at in range(0, MAX_BYTES, 8):
        going = going[lengths[going] > at]
        if not going.size:
            break
        spare = np.maximum(8 - (lengths[going] - at), 0).astype(np.uint64) * np.uint64(8)
        word = words[starts[going] + at] << spare >> spare
        hashes[going] = _folded((hashes[going] ^ word) * np.uint64(FIRST))
    return np.unique(_folded((hashes ^ lengths.astype(np.uint64)) * np.uint64(SECOND)))


def _folded(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return hashes ^ hashes >> np.uint64(32)


def _set(signature: bytearray | memoryview, found: NDArray[np.uint64], bits: int, hashes: int) -> None:
    """Set the bits of these hashes."""
    step = found >> np.uint64(32) | np.uint64(1)
    flags = np.zeros(bits, np.bool_)
    for turn in range(hashes):
        flags[(found + np.uint64(turn) * step) % np.uint64(bits)] = True
    target = np.frombuffer(signature, np.uint8)
    target |= np.packbits(flags, bitorder="little")
