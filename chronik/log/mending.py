"""Making the indexes of a large segment anew without holding up the event loop: beside the rotten ones, if any, in slices.

The batches are replayed into a twin of the segment, which takes what is appended meanwhile too. At the end the segment takes
over the twin's indexes. Where the log itself turns out to have rotted, they end there, and look-ups of what is behind say so.
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
SLICE_BATCHES = 1000
"""How much of the log is looked through in one piece at the most: some two milliseconds, from the page cache."""


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
            except (StopIteration, KafkaError):  # where the log itself has rotted, up to there
                segment.mended_by(self._twin)
            except OSError:
                segment.not_mended()
            else:
                soon(go_on)

        soon(go_on)

    def _replayed(self) -> Iterator[None]:
        read = batches = 0
        for _, header in self._twin.replay(self._batches()):
            read, batches = read + header.size, batches + 1
            if read >= SLICE_BYTES or batches >= SLICE_BATCHES:
                read = batches = 0
                yield

    def _batches(self) -> Iterator[tuple[int, BatchHeader]]:
        """All batches, with those that are appended meanwhile."""
        segment, end = self._segment, 0
        while end < segment.size:
            for position, header in scan_batches(segment.file, end, segment.size):
                end = position + header.size
                yield position, header
