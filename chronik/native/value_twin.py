"""What the C code does with values, in Python and numpy: for machines without a compiler, and to hold the C code against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from zope.interface import implementer

from chronik.native import records
from chronik.native.escapes import unescape
from chronik.native.interfaces import IValueScanner
from chronik.native.records import header_places
from chronik.native.sections import MalformedRecords
from chronik.native.tokens import Buffer
from chronik.native.value_checks import check_names, check_places, room
from chronik.native.values import Gathered, HeaderPlaces, Kind, Members, read_value


@implementer(IValueScanner)
class PlainValueScanner:
    """Values by the definition itself."""

    def members(
        self, content: Buffer, starts: NDArray[np.int32], lengths: NDArray[np.int32], names: Sequence[bytes]
    ) -> Members:
        """See IValueScanner."""
        check_places(content, starts, lengths)
        check_names(names)
        count, shape = len(starts), (len(names), len(starts))
        states, kinds = np.zeros(count, np.uint8), np.zeros(shape, np.uint8)
        places, sizes = np.zeros(shape, np.int32), np.full(shape, -1, np.int32)
        rows = {name: row for row, name in enumerate(names)}
        for number, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
            if length < 0:
                continue
            states[number], found = read_value(content[start : start + length], rows)
            for name, (kind, at, size) in found.items():
                row = rows[name]
                kinds[row, number], places[row, number], sizes[row, number] = kind, start + at, size
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
        room(lengths)
        pieces: list[bytes] = []
        valid = lengths >= 0
        how = [0] * len(starts) if kinds is None else kinds.tolist()
        for number, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
            piece = bytes(content[start : start + length]) if length > 0 else b""
            if as_text and not _is_utf8(piece):
                valid[number], piece = False, b""
            pieces.append(unescape(piece) if how[number] == Kind.ESCAPED else piece)
        data = np.frombuffer(b"".join(pieces), np.uint8)
        return Gathered(data, np.cumsum([len(piece) for piece in pieces], dtype=np.int32), valid)

    def header_places(self, content: Buffer, starts: NDArray[np.int32], counts: NDArray[np.int32]) -> HeaderPlaces:
        """See IValueScanner."""
        check_places(content, starts, counts)
        try:
            found = [
                place
                for start, count in zip(starts.tolist(), counts.tolist(), strict=True)
                for place in header_places(content, start, count)[0]
            ]
        except records.Fault as fault:
            raise MalformedRecords(fault.reason, 0, 0) from None
        return HeaderPlaces(*np.array(found, np.int32).reshape(-1, 4).T)


def _is_utf8(piece: bytes) -> bool:
    try:
        piece.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
