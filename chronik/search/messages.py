"""What the node tells the processes that search, and asks them: msgspec structs, carried by `chronik.workers`."""

from __future__ import annotations

import msgspec


class Follow(msgspec.Struct, frozen=True):
    """A partition's log is at `log`, its index belongs to `index`; it may be read so far (`chronik.log.committed.Bounds`).

    `aborted` are transactions (producer id, first and last offset) that the process may not know of yet.
    """

    topic_id: bytes
    partition: int
    log: str
    index: str
    start: int
    stable: int
    generation: int
    aborted: tuple[tuple[int, int, int], ...]


class Forget(msgspec.Struct, frozen=True):
    """A partition is gone, and its index goes with it."""

    topic_id: bytes
    partition: int
    index: str


class Save(msgspec.Struct, frozen=True):
    """Write what is in memory only: the node stops in order."""


class Saved(msgspec.Struct, frozen=True):
    """It is written, as far as that was possible."""


class AskState(msgspec.Struct, frozen=True):
    """How far have the indexes of these partitions come? (topic id, partition)"""

    partitions: tuple[tuple[bytes, int], ...]


class PartitionState(msgspec.Struct, frozen=True):
    """How far the index of a partition has come: see `chronik.search.partition_index.IndexState`. Bytes are those on disk."""

    topic_id: bytes
    partition: int
    start: int
    stable: int
    indexed_to: int
    read_to: int
    blocks: int
    undecodable: int
    damage: str


class States(msgspec.Struct, frozen=True):
    """Of the partitions that this process knows."""

    partitions: tuple[PartitionState, ...]
