"""What a start makes of a compaction that was broken off: a swap that counts is ended, what never counted goes.

A `<base>.log.swap` counts (see `chronik.log.compacted`). It stands for all offsets up to the end of its last batch, which
compaction never drops: the segments that begin in there are the ones that it replaces, as far as they are still there.
"""

from __future__ import annotations

from collections.abc import Sequence

from chronik.errors import CorruptLogError, KafkaError
from chronik.interfaces import IDisk
from chronik.log.restoring import forget_aborted
from chronik.log.scan import scan_batches
from chronik.log.segment import (
    CLEANED_SUFFIX,
    INDEX_SUFFIX,
    LOG_SUFFIX,
    SWAP_SUFFIX,
    TIME_INDEX_SUFFIX,
    file_name,
)

_INDEXES = (INDEX_SUFFIX, TIME_INDEX_SUFFIX)


def finish_swaps(disk: IDisk, directory: str, names: Sequence[str]) -> Sequence[str]:
    """End or undo in `directory`, which holds `names`; the names that it holds then. A crash in here is followed by the same.

    Raises CorruptLogError where a `.swap` cannot be read, OSError, StorageError.
    """
    cleaned = [name for name in names if name.endswith(CLEANED_SUFFIX)]
    for name in cleaned:
        disk.remove(f"{directory}/{name}")
    swaps = [name for name in names if name.endswith(SWAP_SUFFIX)]
    bases = sorted(int(name.partition(".")[0]) for name in swaps if name.endswith(LOG_SUFFIX + SWAP_SUFFIX))
    for base in bases:
        _finish(disk, directory, base, disk.list(directory))
    for name in swaps:
        disk.remove(f"{directory}/{name}")  # indexes whose log has its name already, or never got this far
    return disk.list(directory) if cleaned or swaps else names


def _finish(disk: IDisk, directory: str, base: int, names: Sequence[str]) -> None:
    swap = f"{directory}/{file_name(base, LOG_SUFFIX)}{SWAP_SUFFIX}"
    until = _end_of(disk, swap)
    forget_aborted(disk, directory, base, until)
    for name in names:
        stem, dot, suffix = name.partition(".")
        if not stem.isdigit() or not base <= int(stem) < until:
            continue
        if dot + suffix in (*_INDEXES, LOG_SUFFIX):
            disk.remove(f"{directory}/{name}")
    disk.sync_directory(directory)  # could the next rename come to the disk alone, some of these would stand beside it
    for suffix in _INDEXES:
        if file_name(base, suffix) + SWAP_SUFFIX in names:
            path = f"{directory}/{file_name(base, suffix)}"
            disk.rename(path + SWAP_SUFFIX, path)
    disk.rename(swap, swap.removesuffix(SWAP_SUFFIX))
    disk.sync_directory(directory)


def _end_of(disk: IDisk, path: str) -> int:
    file = disk.open(path)
    end = -1
    try:
        for _, header in scan_batches(file, 0, disk.size(path)):
            end = header.next_offset
    except KafkaError as fault:
        raise CorruptLogError(
            f"{path} was compacted, and is damaged: {fault.message}; restore the partition from a backup"
        ) from fault
    finally:
        file.close()
    if end < 0:
        raise CorruptLogError(f"{path} was compacted, and is empty; restore the partition from a backup")
    return end
