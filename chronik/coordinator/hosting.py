"""What a coordinator's partition holds, as its edge sees it: the shapes that the groups' and the transactions' shards share.

A shard is a pure replay of one partition's log. `chronik.coordinator.replay` feeds it, `chronik.coordinator.hosted` appends
what it has decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

_E_contra = TypeVar("_E_contra", contravariant=True)


class LogEntry(Protocol):
    """One record that a shard decided on, or read back."""

    def encode(self) -> tuple[bytes, bytes | None]:
        """Key and value as they stand in the log; a value of None is a tombstone."""


class HostedShard(Protocol[_E_contra]):
    """A state that is a replay of one partition's log."""

    def replay(self, entry: _E_contra, offset: int, producer_id: int) -> None:
        """Take over the record at `offset`, in the order of the log; of a transaction if there is a `producer_id`."""

    def end_transaction(self, producer_id: int, committed: bool) -> None:
        """Take over a marker, in the order of the log."""

    def opening(self, now: int) -> Iterator[None]:
        """The log is read: bring to life what was in it, step by step. `now` is the clock of deadlines, in ms."""

    def begin(self, entries: Sequence[_E_contra]) -> None:
        """These records are being appended."""

    def end(self, entries: Sequence[_E_contra]) -> None:
        """The append of these records came to its end, one way or the other; what reached the log has been replayed."""

    def held(self) -> str:
        """What is in it, for the node's log: "12 groups"; empty where there is nothing."""
