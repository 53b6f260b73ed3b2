"""Signatures of blocks, gathered in groups: which blocks may hold a token, and which certainly don't.

A **block** is a run of whole batches, of at least 256 KB decoded. The distinct tokens of its records set bits in its signature
(`chronik.native.hashing`); a block whose signature lacks a bit of a token does not hold the token. Blocks of one partition
gather in **groups** of `GROUP_BLOCKS`. The open one grows block by block, in memory; a full one is written, transposed: one
row for each bit, one column for each block. A look-up then reads a row for each bit of the token, and ANDs them.

Signatures only propose. Nothing here knows where a block's batches are in the log's files: a block is a range of offsets, so
what compaction or DeleteRecords take away later makes a signature too wide, never wrong.

**A group's file** is written as a whole, and never changed::

    magic 8 | version 2 | Unicode 2 | hashes 2 | blocks 2 | bits 4 | table CRC 4 | page CRCs' CRC 4
    for each block: first offset 8 | next offset 8 | first timestamp 8 | last timestamp 8 | records 4 | bytes 4
    for each page: CRC 4
    rows, one a bit, of a byte for every 8 blocks; a page is PAGE_ROWS of them

Numbers are little-endian, CRCs CRC-32C, timestamps in ms (those of the block's records: the least and the largest). A page is
verified whenever it is read: a row that the disk has changed is found out before it could hide a hit. A group may be written
before it is full, for the next start.
"""

from __future__ import annotations

from collections.abc import Generator
from struct import Struct
from typing import NamedTuple

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from chronik.errors import CorruptLogError
from chronik.interfaces import Buffer, IDisk, IFile
from chronik.native.hashing import HASHES, fold, positions
from chronik.search.required import AllOf, Requirement

GROUP_BLOCKS = 256
BLOCK_BYTES = 256 << 10
"""A block has at least so many bytes decoded, a power of two, and ends with the batch in which they are reached."""
LEAST_BITS, MOST_BITS = 1 << 11, 1 << 24
PAGE_ROWS = 128

UNICODE = 14
"""The version of Unicode that the tokens are cut by."""

_MAGIC = b"CHRSIGN\n"
_VERSION = 1
_BITS_PER_TOKEN = HASHES / 0.65  # below half of the bits are set: one block in 500 is proposed for nothing
_header = Struct("<8sHHHHIII")
_TABLE = np.dtype(
    [
        ("first", "<i8"),
        ("following", "<i8"),
        ("first_timestamp", "<i8"),
        ("last_timestamp", "<i8"),
        ("records", "<u4"),
        ("bytes", "<u4"),
    ]
)

Bools = NDArray[np.bool_]


class Block(NamedTuple):
    """A run of whole batches: offsets `first` to `following` (not included), timestamps (ms), records, decoded bytes."""

    first: int
    following: int
    first_timestamp: int
    last_timestamp: int
    records: int
    bytes: int


class OpenGroup:
    """The group that still grows, with the signatures of its blocks as they came, of `bits` bits: a row each."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self.table = np.zeros(0, _TABLE)
        self._signatures = np.zeros((0, bits // 8), np.uint8)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def full(self) -> bool:
        """Whether it takes no more blocks."""
        return len(self.table) >= GROUP_BLOCKS

    @property
    def memory_bytes(self) -> int:
        """What its signatures take."""
        return self._signatures.nbytes

    def add(self, block: Block, signature: Buffer) -> None:
        """Take the next block."""
        count = len(self.table)
        if count == len(self._signatures):
            grown = np.zeros((min(max(4, 2 * count), GROUP_BLOCKS), self._bits // 8), np.uint8)
            grown[:count] = self._signatures
            self._signatures = grown
        self._signatures[count] = np.frombuffer(signature, np.uint8)
        self.table = np.append(self.table, np.array([block], _TABLE))

    def may_hold(self, token: bytes) -> Bools:
        """For each block, whether it may hold the token."""
        at = np.array(positions(token, self._bits))
        bits = self._signatures[: len(self.table), at >> 3] >> (at & 7).astype(np.uint8) & 1
        return np.asarray(bits.all(axis=1), np.bool_)

    def encoding(self) -> Generator[None, None, bytes]:
        """The group's file, with no more bits than its tokens are worth. Yields every 2 ms or so."""
        count = len(self.table)
        bits = _bits_for(self._signatures[:count])
        width = _row_bytes(count)
        rows = np.zeros((bits, width), np.uint8)
        for column in range(width):
            eight = np.zeros((8, bits), np.uint8)
            for place, signature in enumerate(self._signatures[column * 8 : min(column * 8 + 8, count)]):
                eight[place] = np.unpackbits(np.frombuffer(fold(signature, bits), np.uint8), bitorder="little")
            rows[:, column] = np.packbits(eight, axis=0, bitorder="little")[0]
            yield
        table, body = self.table.tobytes(), rows.tobytes()
        page = PAGE_ROWS * width
        crcs = np.array([crc32c(body[at : at + page]) for at in range(0, len(body), page)], "<u4").tobytes()
        header = _header.pack(_MAGIC, _VERSION, UNICODE, HASHES, count, bits, crc32c(table), crc32c(crcs))
        return b"".join((header, table, crcs, body))


class WrittenGroup:
    """A group in its file, which stays open to read rows from."""

    def __init__(self, file: IFile, path: str, table: NDArray[np.void], bits: int, crcs: NDArray[np.uint32]) -> None:
        self._file = file
        self._path = path
        self._bits = bits
        self._crcs = crcs
        self._row = _row_bytes(len(table))
        self._rows_at = _header.size + table.nbytes + crcs.nbytes
        self.table = table

    @classmethod
    def open(cls, disk: IDisk, path: str) -> WrittenGroup:
        """The group in the file at `path`. Raises CorruptLogError where it is not one of this format, OSError."""
        file = disk.open(path)
        try:
            return cls._read(file, path)
        except CorruptLogError:
            file.close()
            raise

    @classmethod
    def _read(cls, file: IFile, path: str) -> WrittenGroup:
        head = file.pread(_header.size, 0)
        if len(head) < _header.size:
            raise _corrupt(path, "it is cut off")
        magic, version, unicode, hashes, count, bits, table_crc, crcs_crc = _header.unpack(head)
        if magic != _MAGIC or (version, unicode, hashes) != (_VERSION, UNICODE, HASHES):
            raise _corrupt(path, f"it is no group of format {_VERSION}, Unicode {UNICODE} and {HASHES} hashes")
        if not 0 < count <= GROUP_BLOCKS or not LEAST_BITS <= bits <= MOST_BITS or bits & bits - 1:
            raise _corrupt(path, f"it says that it has {count} blocks and {bits} bits")
        table = file.pread(count * _TABLE.itemsize, _header.size)
        crcs = file.pread(bits // PAGE_ROWS * 4, _header.size + count * _TABLE.itemsize)
        if crc32c(table) != table_crc or crc32c(crcs) != crcs_crc:
            raise _corrupt(path, "its table has another CRC than it says")
        whole = _header.size + len(table) + len(crcs) + bits * _row_bytes(count)
        if file.size() != whole:
            raise _corrupt(path, f"it has {file.size()} bytes, {whole} belong to it")
        return cls(file, path, np.frombuffer(table, _TABLE), bits, np.frombuffer(crcs, "<u4"))

    def __len__(self) -> int:
        return len(self.table)

    def may_hold(self, token: bytes) -> Bools:
        """For each block, whether it may hold the token. Raises CorruptLogError, OSError."""
        found = np.full(self._row, 0xFF, np.uint8)
        for at in positions(token, self._bits):
            page, row = divmod(at, PAGE_ROWS)
            content = self._page(page)
            found &= np.frombuffer(content, np.uint8, self._row, row * self._row)
            if not found.any():
                break
        return np.unpackbits(found, count=len(self.table), bitorder="little").astype(np.bool_)

    def reopen(self, bits: int) -> OpenGroup:
        """The group as one that still grows, with so many bits. Raises CorruptLogError where it has more, OSError."""
        if self._bits > bits:
            raise _corrupt(self._path, f"it has signatures of {self._bits} bits, {bits} are the most")
        group = OpenGroup(bits)
        pages = b"".join(self._page(page) for page in range(self._bits // PAGE_ROWS))
        rows = np.frombuffer(pages, np.uint8).reshape(self._bits, self._row)
        for number, block in enumerate(self.table):
            column = np.packbits(rows[:, number // 8] >> (number % 8) & 1, bitorder="little")
            # A signature of fewer bits says of every bit that falls together with one of its own that it is set.
            group.add(Block(*block.item()), column.tobytes() * (bits // self._bits))
        return group

    def close(self) -> None:
        """Give the file's descriptor back; the next look-up opens it again."""
        self._file.close()

    def _page(self, page: int) -> bytes:
        size = PAGE_ROWS * self._row
        content = self._file.pread(size, self._rows_at + page * size)
        if len(content) != size or crc32c(content) != self._crcs[page]:
            raise _corrupt(self._path, f"page {page} has another CRC than it says")
        return content


Group = OpenGroup | WrittenGroup


def choose(group: Group, need: Requirement) -> Bools:
    """For each block of the group, whether it may hold what a hit requires. Raises CorruptLogError, OSError."""
    if isinstance(need, bytes):
        return group.may_hold(need)
    every = isinstance(need, AllOf)
    found = np.full(len(group), every)
    for part in need.parts:
        if every:
            found &= choose(group, part)[: len(found)]
            if not found.any():
                break
        else:
            found |= choose(group, part)[: len(found)]
    return found


def signature_bits(block_bytes: int) -> int:
    """How many bits sign a block of so many bytes while its group is open: at most a sixteenth of what they stand for."""
    return max(block_bytes // 2, LEAST_BITS)


def _row_bytes(blocks: int) -> int:
    return -(-blocks // 8)


def _bits_for(signatures: NDArray[np.uint8]) -> int:
    """A power of two that is enough for signatures like these: by their mean, as one group has one size."""
    if not len(signatures):
        return LEAST_BITS
    most = signatures.shape[1] * 8
    clear = max(most - np.bitwise_count(signatures).sum(axis=1).mean(), 1.0)
    tokens = most / HASHES * np.log(most / clear)  # see `hashing.distinct_tokens`
    bits = LEAST_BITS
    while bits < tokens * _BITS_PER_TOKEN and bits < most:
        bits <<= 1
    return bits


def _corrupt(path: str, why: str) -> CorruptLogError:
    return CorruptLogError(f"{path} is damaged: {why}; it is made anew from the log")
