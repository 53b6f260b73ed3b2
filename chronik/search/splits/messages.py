"""What the node and the processes say to each other about splits: msgspec structs, carried by `chronik.workers`."""

from __future__ import annotations

import msgspec


class AskDue(msgspec.Struct, frozen=True):
    """Which splits are to be made? The first `most` of them."""

    most: int


class BuildSplit(msgspec.Struct, frozen=True, kw_only=True):
    """Make a split of the offsets `first` to `following` of the log at `log`, below the directory `index`.

    The log may be read from `start` to `stable`; `aborted` are transactions (producer id, first and last offset). `exact`:
    nothing was compacted.
    """

    topic_id: bytes
    partition: int
    log: str
    index: str
    start: int
    stable: int
    aborted: tuple[tuple[int, int, int], ...]
    first: int
    following: int
    exact: bool


class Due(msgspec.Struct, frozen=True):
    """The splits that a process would like to have, one of each partition at most."""

    splits: tuple[BuildSplit, ...]


class Building(msgspec.Struct, frozen=True):
    """It goes on."""

    records: int = 0


class Built(msgspec.Struct, frozen=True):
    """The split is there, by this name."""

    name: str
    records: int
    bytes: int


class SplitBuilt(msgspec.Struct, frozen=True):
    """A split of this partition is there."""

    topic_id: bytes
    partition: int
    name: str
