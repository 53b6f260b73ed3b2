"""The C code, called through cffi. A call lets other threads run for as long as it takes.

The bytes that are handed over are borrowed for the call; arrays and signatures are Python's. C never allocates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cffi import FFI
from zope.interface import implementer

from chronik.native.hashing import check_bits, check_hashes
from chronik.native.interfaces import IRecordScanner
from chronik.native.sections import Columns, MalformedRecords, Reason, Section, check_count, check_size
from chronik.native.sources import HERE
from chronik.native.unicode import flat


@implementer(IRecordScanner)
class CompiledScanner:
    """Records through the library at `path`."""

    def __init__(self, path: Path) -> None:
        self._ffi = ffi = FFI()
        ffi.cdef((HERE / "api.h").read_text())
        self._library: Any = ffi.dlopen(str(path))
        blocks, entries = flat()
        self._borrowed = ffi.from_buffer("uint16_t[]", blocks), ffi.from_buffer("int32_t[]", entries)
        self._unicode = ffi.new("chronik_unicode *", self._borrowed)

    def columns(self, section: Section, last_offset_delta: int) -> Columns:
        """See IRecordScanner."""
        check_size(section)
        check_count(section)  # before there is memory for so many
        ffi = self._ffi
        times, numbers = np.empty(section.count, np.int64), np.empty((7, section.count), np.int32)
        places = [ffi.from_buffer("int64_t[]", times), *(ffi.from_buffer("int32_t[]", row) for row in numbers)]
        out = ffi.new("chronik_columns_out *", places)
        content = ffi.from_buffer("uint8_t[]", section.records)
        given = ffi.new("chronik_section *", [content, len(content), section.count])
        fault = ffi.new("chronik_fault *")
        if self._library.chronik_columns(given, last_offset_delta, out, fault):
            raise _malformed(fault)
        return Columns(times, *numbers)

    def sign(self, sections: Sequence[Section], signature: bytearray | memoryview, hashes: int) -> None:
        """See IRecordScanner."""
        bits = check_bits(len(signature) * 8)
        check_hashes(hashes)
        ffi = self._ffi
        given = ffi.new("chronik_section[]", len(sections))
        contents, longest = [], 1
        for place, section in enumerate(sections):
            check_size(section)
            content = ffi.from_buffer("uint8_t[]", section.records)
            contents.append(content)  # what C is given must stay borrowed until it is done
            given[place] = content, len(content), section.count
            longest = max(longest, len(content))
        content = ffi.from_buffer("uint8_t[]", signature, require_writable=True)
        target = ffi.new("chronik_signature *", [content, bits - 1, hashes])
        scratch = np.empty(longest, np.uint8)
        room = ffi.from_buffer("uint8_t[]", scratch)
        fault = ffi.new("chronik_fault *")
        if self._library.chronik_sign(given, len(sections), self._unicode, target, room, fault):
            raise _malformed(fault)


def _malformed(fault: Any) -> MalformedRecords:
    return MalformedRecords(Reason(fault.reason), fault.record, fault.byte, fault.section)
