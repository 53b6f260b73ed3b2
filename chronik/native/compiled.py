"""The C code, called through cffi. A call lets other threads run for as long as it takes.

The bytes that are handed over are borrowed for the call; arrays and signatures are Python's. C never allocates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cffi import FFI
from numpy.typing import NDArray
from zope.interface import implementer

from chronik.native.batches import BATCH, HEADER_BYTES, SIGNED, check_kind, not_within, with_right_crcs
from chronik.native.hashing import check_bits, check_hashes
from chronik.native.interfaces import IRecordScanner
from chronik.native.sections import Columns, MalformedRecords, Reason, Section, check_count, check_size
from chronik.native.sources import HERE
from chronik.native.tokens import Buffer
from chronik.native.unicode import flat

_MOST_CRC_BYTES = 2048
"""What C sums; larger ones go through the package, which costs a call and has the processor's instruction for it."""


@implementer(IRecordScanner)
class CompiledScanner:
    """Records through the library at `path`."""

    def __init__(self, path: Path) -> None:
        self._ffi = ffi = FFI()
        ffi.cdef((HERE / "api.h").read_text())
        library: Any = ffi.dlopen(str(path))
        self._library = library  # its functions live as long as it does
        self._read_columns, self._sign = library.chronik_columns, library.chronik_sign
        self._look_over, self._sign_batches = library.chronik_look_over, library.chronik_sign_batches
        self._borrow, self._new = ffi.from_buffer, ffi.new
        self._bytes, self._int32s, self._int64s = (
            ffi.typeof(f"{kind}[]") for kind in ("uint8_t", "int32_t", "int64_t")
        )
        self._batches, self._signed = ffi.typeof("chronik_batch[]"), ffi.typeof("chronik_signed[]")
        self._fault = ffi.typeof("chronik_fault *")
        blocks, entries = flat()
        self._borrowed = ffi.from_buffer("uint16_t[]", blocks), ffi.from_buffer("int32_t[]", entries)
        self._unicode = ffi.new("chronik_unicode *", self._borrowed)

    def columns(self, section: Section, last_offset_delta: int) -> Columns:
        """See IRecordScanner."""
        check_size(section)
        check_count(section)  # before there is memory for so many
        count = section.count
        times, numbers = np.empty(count, np.int64), np.empty((7, count), np.int32)
        content, fault = self._borrow(self._bytes, section.records), self._new(self._fault)
        if self._read_columns(
            content, len(content), count, last_offset_delta, self._borrow(self._int64s, times),
            self._borrow(self._int32s, numbers), fault,
        ):  # fmt: skip
            raise _malformed(fault)
        return Columns(times, *numbers)

    def sign(self, sections: Sequence[Section], signature: bytearray | memoryview, hashes: int) -> None:
        """See IRecordScanner."""
        bits = check_bits(len(signature) * 8)
        check_hashes(hashes)
        borrow, new = self._borrow, self._new
        given = new("chronik_section[]", len(sections))
        contents, longest = [], 1
        for place, section in enumerate(sections):
            check_size(section)
            content = borrow(self._bytes, section.records)
            contents.append(content)  # what C is given must stay borrowed until it is done
            given[place] = content, len(content), section.count
            longest = max(longest, len(content))
        content = borrow(self._bytes, signature, True)
        target = new("chronik_signature *", [content, bits - 1, hashes])
        scratch = np.empty(longest, np.uint8)
        room = borrow(self._bytes, scratch)
        fault = new(self._fault)
        if self._sign(given, len(sections), self._unicode, target, room, fault):
            raise _malformed(fault)

    def look_over(self, buffer: Buffer, upper: int) -> NDArray[np.void]:
        """See IRecordScanner."""
        content = self._borrow(self._bytes, buffer)
        rows = np.empty(len(content) // HEADER_BYTES, BATCH)
        room = self._borrow(self._batches, rows)
        count = self._look_over(content, len(content), upper, _MOST_CRC_BYTES, room, len(rows))
        rows = rows[:count]
        return rows if len(content) <= _MOST_CRC_BYTES else with_right_crcs(buffer, rows, _MOST_CRC_BYTES)

    def sign_batches(
        self, pieces: Sequence[tuple[Buffer, NDArray[np.void]]], signature: bytearray | memoryview, hashes: int
    ) -> list[NDArray[np.void]]:
        """See IRecordScanner."""
        bits = check_bits(len(signature) * 8)
        check_hashes(hashes)
        borrow, longest = self._borrow, 1
        signed: list[NDArray[np.void]] = []
        given = self._new("chronik_piece[]", len(pieces))
        borrowed = []  # what C is given must stay borrowed until it is done
        for place, (buffer, rows) in enumerate(pieces):
            check_kind(rows)
            content, table = borrow(self._bytes, buffer), borrow(self._batches, np.ascontiguousarray(rows))
            signed.append(np.empty(len(rows), SIGNED))
            out = borrow(self._signed, signed[-1])
            borrowed.append((content, table, out))
            given[place] = content, len(content), table, len(rows), out
            longest = max(longest, min(int(rows["records_size"].max(initial=1)), len(content)))
        content = borrow(self._bytes, signature, True)
        into = self._new("chronik_signature *", [content, bits - 1, hashes])
        scratch = borrow(self._bytes, np.empty(longest, np.uint8))
        if self._sign_batches(given, len(pieces), self._unicode, into, scratch):
            raise not_within()
        return signed


def _malformed(fault: Any) -> MalformedRecords:
    return MalformedRecords(Reason(fault.reason), fault.record, fault.byte, fault.section)
