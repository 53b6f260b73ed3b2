"""Making the indexes of a large segment anew without holding up the event loop: beside the rotten ones, slice by slice.

The batches are replayed into a twin of the segment, which takes what is appended meanwhile too. At the end the segment takes
over the twin's indexes. Where the log itself turns out to have rotted, look-ups say so from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from chronik.errors import KafkaError
from chronik.log.scan import scan_batches
from chronik.wire.records import BatchHeader

if TYPE_CHECKING:
    from chronik.log.segment import Segment

SLICE_BYTES = 4 << 20
"""How much of the log is looked through in one piece: some milliseconds, from the page cache."""


class Mending:
    """Makes the indexes of `segment` anew by means of `twin`, an empty one of the same base offset."""

    def __init__(self, segment: Segment, twin: Segment) -> None:
        self._segment = segment
        self._twin = twin
        self._steps = self._replayed()

    def begin(self, soon: Callable[[Callable[[], None]], object]) -> None:
        """Do it, a slice a call of `soon`, until it is done or the segment no longer wants it."""

        def go_on() -> None:
            segment = self._segment
            if not segment.is_mended_by(self):
                return
            try:
                next(self._steps)
            except StopIteration:
                segment.mended_by(self._twin)
            except (KafkaError, OSError):
                segment.mended_by(None)
            else:
                soon(go_on)

        soon(go_on)

    def _replayed(self) -> Iterator[None]:
        read = 0
        for _, header in self._twin.replay(self._batches()):
            read += header.size
            if read >= SLICE_BYTES:
                read = 0
                yield

    def _batches(self) -> Iterator[tuple[int, BatchHeader]]:
        """All batches, with those that are appended meanwhile."""
        segment, end = self._segment, 0
        while end < segment.size:
            for position, header in scan_batches(segment.file, end, segment.size):
                end = position + header.size
                yield position, header
