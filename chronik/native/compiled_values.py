"""The C code for values, called through cffi. See `chronik.native.compiled`, which does the same for whole records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cffi import FFI
from numpy.typing import NDArray
from zope.interface import implementer

from chronik.native.interfaces import IValueScanner
from chronik.native.sections import MalformedRecords, Reason
from chronik.native.sources import HERE
from chronik.native.tokens import Buffer
from chronik.native.value_checks import check_names, check_places, room
from chronik.native.values import Gathered, HeaderPlaces, Members


@implementer(IValueScanner)
class CompiledValueScanner:
    """Values through the library at `path`."""

    def __init__(self, path: Path) -> None:
        self._ffi = ffi = FFI()
        ffi.cdef((HERE / "api.h").read_text())
        self._library: Any = ffi.dlopen(str(path))
        self._bytes, self._int32s = ffi.typeof("uint8_t[]"), ffi.typeof("int32_t[]")

    def members(
        self, content: Buffer, starts: NDArray[np.int32], lengths: NDArray[np.int32], names: Sequence[bytes]
    ) -> Members:
        """See IValueScanner."""
        check_places(content, starts, lengths)
        check_names(names)
        count, shape = len(starts), (len(names), len(starts))
        states, kinds = np.empty(count, np.uint8), np.empty(shape, np.uint8)
        places, sizes = np.empty(shape, np.int32), np.empty(shape, np.int32)
        joined, ends = b"".join(names), np.cumsum([len(name) for name in names], dtype=np.int32)
        lent = self._lend(joined, ends, states, kinds, places, sizes)
        wanted = self._ffi.new("chronik_names *", [lent[0], lent[1], len(names)])
        out = self._ffi.new("chronik_members *", lent[2:])
        self._library.chronik_read_members(*self._lend(content), count, *self._lend(starts, lengths), wanted, out)
        return Members(states, kinds, places, sizes)

    def gather(
        self,
        content: Buffer,
        starts: NDArray[np.int32],
        lengths: NDArray[np.int32],
        kinds: NDArray[np.uint8] | None = None,
        as_text: bool = False,
    ) -> Gathered:
        """See IValueScanner."""
        check_places(content, starts, lengths)
        count = len(starts)
        if kinds is not None and len(kinds) != count:
            raise ValueError("not as many kinds as places")
        data = np.empty(room(lengths), np.uint8)
        ends, valid = np.empty(count, np.int32), np.empty(count, np.uint8)
        lent_kinds = self._ffi.NULL if kinds is None else self._lend(kinds)[0]
        self._library.chronik_gather(
            *self._lend(content), count, *self._lend(starts, lengths), lent_kinds, int(as_text), *self._lend(data, ends, valid)
        )  # fmt: skip
        return Gathered(data[: int(ends[-1]) if count else 0], ends, valid.view(np.bool_))

    def header_places(self, content: Buffer, starts: NDArray[np.int32], counts: NDArray[np.int32]) -> HeaderPlaces:
        """See IValueScanner."""
        check_places(content, starts, counts)
        total = int(counts.sum(dtype=np.int64))
        found = np.empty((4, total), np.int32)
        lent = self._lend(content, starts, counts, found)
        reason = self._library.chronik_header_places(lent[0], len(content), len(starts), *lent[1:3], total, lent[3])
        if reason:
            raise MalformedRecords(Reason(reason), 0, 0)
        return HeaderPlaces(*found)

    def _lend(self, *buffers: Any) -> list[Any]:
        """The buffers as C takes them. They are borrowed for as long as this is held."""
        borrow = self._ffi.from_buffer
        return [
            borrow(self._int32s if isinstance(each, np.ndarray) and each.dtype == np.int32 else self._bytes, each)
            for each in buffers
        ]
