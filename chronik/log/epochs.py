"""Which leader epoch wrote which offsets: what followers and consumers ask to find where histories part (KIP-101, KIP-320).

A list of (epoch, first offset), both ascending. Batches carry their epoch, so the list is derived from the log; the
file spares reading the older segments. An epoch enters when it begins to lead, since clients are told of it from then on;
while it has written nothing, the next one takes its place.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from chronik.log.checkpoint import seal, unseal

EPOCHS_FILE = "leader-epochs"
UNKNOWN_EPOCH = -1
UNKNOWN_OFFSET = -1
_KIND = "leader-epochs 1"


class LeaderEpochs:
    """The leader epochs of one log."""

    __slots__ = ("_epochs", "_starts")

    def __init__(self) -> None:
        self._epochs: list[int] = []
        self._starts: list[int] = []

    @property
    def latest(self) -> int:
        """The newest epoch that led or wrote, -1 when none did."""
        return self._epochs[-1] if self._epochs else UNKNOWN_EPOCH

    def entries(self) -> list[tuple[int, int]]:
        """(epoch, first offset), ascending."""
        return list(zip(self._epochs, self._starts, strict=True))

    def assign(self, epoch: int, start_offset: int) -> bool:
        """Note that `epoch` leads from `start_offset` on. Whether that is news: an epoch not above the latest isn't."""
        if epoch <= self.latest:
            return False
        self.truncate_from_end(start_offset)
        self._epochs.append(epoch)
        self._starts.append(start_offset)
        return True

    def end_offset_for(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """(largest epoch at or below `epoch`, the offset where the next one begins); (-1, -1) for an epoch still unknown.

        For the latest epoch that offset is the end of the log. An epoch before all known ones ends where those begin.
        """
        if epoch < 0 or not self._epochs:
            return UNKNOWN_EPOCH, UNKNOWN_OFFSET
        if epoch == self._epochs[-1]:
            return epoch, log_end_offset
        higher = bisect_right(self._epochs, epoch)
        if higher == len(self._epochs):
            return UNKNOWN_EPOCH, UNKNOWN_OFFSET
        return self._epochs[higher - 1] if higher else epoch, self._starts[higher]

    def epoch_for(self, offset: int) -> int:
        """The epoch that wrote `offset`, -1 when the list doesn't reach back that far."""
        index = bisect_right(self._starts, offset)
        return self._epochs[index - 1] if index else UNKNOWN_EPOCH

    def truncate_from_end(self, offset: int) -> bool:
        """Forget epochs that begin at `offset` or later. Whether there were any."""
        keep = bisect_left(self._starts, offset)
        dropped = keep < len(self._starts)
        del self._epochs[keep:], self._starts[keep:]
        return dropped

    def truncate_from_start(self, offset: int) -> bool:
        """Forget epochs that end at `offset` or before; the one that holds it begins there now. Whether that was news."""
        index = bisect_right(self._starts, offset) - 1
        if index < 0 or (index == 0 and self._starts[0] == offset):
            return False
        del self._epochs[:index], self._starts[:index]
        self._starts[0] = offset
        return True

    def encode(self) -> bytes:
        """The content of the file."""
        return seal(_KIND, [f"{epoch} {start}" for epoch, start in self.entries()])

    def restore(self, content: bytes, path: str) -> None:
        """Take over what `encode` made. Raises CorruptLogError."""
        pairs = [line.split() for line in unseal(_KIND, content, path)]
        self._epochs = [int(epoch) for epoch, _ in pairs]
        self._starts = [int(start) for _, start in pairs]
