"""What is derived of producers and transactions, made anew: from a snapshot, and from the batches after it.

Every way to this state goes through `take_note`, one batch after the other: an opening, a recovery, a cut, and the search for
the aborted transactions of a sealed segment whose snapshot is lost. Only headers are read, and markers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chronik.errors import CorruptLogError
from chronik.interfaces import IDisk
from chronik.log.aborted import AbortedTransactions
from chronik.log.producers import Producers
from chronik.log.segment import SNAPSHOT_SUFFIX, Segment, file_name
from chronik.log.snapshot import Snapshot, decode_snapshot, encode_snapshot
from chronik.wire.markers import decode_marker
from chronik.wire.records import BatchHeader


def take_note(
    producers: Producers, aborted: AbortedTransactions, segment: Segment, position: int, header: BatchHeader
) -> None:
    """Bring the state past one batch of the log, at `position` in its `segment`. What is in the log counts as committed."""
    if header.control:
        marker = decode_marker(segment.file.pread(header.size, position))
        if marker is not None:
            transaction = producers.end(marker, header.base_offset, header.max_timestamp)
            producers.committed(header.next_offset)
            if transaction is not None:
                aborted.add(transaction)
    elif header.idempotent:
        producers.update(header, header.base_offset)


def restore_producers(
    disk: IDisk,
    directory: str,
    producers: Producers,
    snapshots: Iterable[int],
    segments: Sequence[Segment],
    offset: int,
) -> None:
    """The state at `offset`: the newest usable snapshot at or below it, and the batches from there on.

    A snapshot below the first segment is of no use, since the batches after it are gone. The aborted transactions of the
    segments that are gone through are noted with them.
    """
    producers.clear()
    start = segments[0].base_offset
    restored: Snapshot | None = None
    for candidate in sorted((s for s in snapshots if start <= s <= offset), reverse=True):
        restored = _read_snapshot(disk, directory, candidate)
        if restored is not None:  # else an older one and more of the log come to the same
            producers.replace(restored.producers)
            start = candidate
            break
    for segment in segments:
        if segment.next_offset < start or segment.base_offset >= offset:
            continue
        if restored is not None and segment.base_offset < start:
            segment.aborted = restored.aborted
        elif segment.base_offset >= start:
            segment.aborted = AbortedTransactions()
        if segment.next_offset > start:
            _replay(producers, segment, start, offset)


def _replay(producers: Producers, segment: Segment, start: int, stop: int) -> None:
    aborted = segment.aborted
    assert aborted is not None
    for position, header in segment.batches_from(max(start, segment.base_offset)):
        if header.base_offset >= stop:
            break
        if header.base_offset >= start:
            take_note(producers, aborted, segment, position, header)
    aborted.settled_to = min(producers.first_open, stop, segment.next_offset)


def _read_snapshot(disk: IDisk, directory: str, offset: int) -> Snapshot | None:
    path = f"{directory}/{file_name(offset, SNAPSHOT_SUFFIX)}"
    try:
        return decode_snapshot(disk.read(path), offset, path)
    except (CorruptLogError, FileNotFoundError):
        return None


def rebuild_producers(
    disk: IDisk, directory: str, producers: Producers, segments: Sequence[Segment], offset: int
) -> None:
    """The state at `offset`, the end of a log that was cut there; snapshots beyond it go."""
    snapshots = _snapshots(disk, directory)
    for beyond in [snapshot for snapshot in snapshots if snapshot > offset]:
        disk.remove(f"{directory}/{file_name(beyond, SNAPSHOT_SUFFIX)}")
    restore_producers(disk, directory, producers, [s for s in snapshots if s <= offset], segments, offset)


def find_aborted(disk: IDisk, directory: str, segments: Sequence[Segment], segment: Segment) -> AbortedTransactions:
    """The aborted transactions of a sealed segment: from the snapshot at its end, or else from its batches."""
    restored = _read_snapshot(disk, directory, segment.next_offset)
    if restored is not None:
        return restored.aborted
    producers = Producers(directory)
    before = [other for other in segments if other.base_offset <= segment.base_offset]
    restore_producers(disk, directory, producers, _snapshots(disk, directory), before, segment.next_offset)
    assert segment.aborted is not None
    return segment.aborted


def forget_aborted(disk: IDisk, directory: str, base: int, until: int) -> None:
    """Compaction has taken away all aborted records from `base` to `until`, one segment by now: snapshots tell of none there.

    Some of the markers are gone too. A reader that is told of a transaction whose marker never comes would leave out what the
    producer commits after it. Blocks. Once more does the same.
    """
    for offset in _snapshots(disk, directory):
        path = f"{directory}/{file_name(offset, SNAPSHOT_SUFFIX)}"
        if base < offset < until:
            disk.remove(path)
        elif offset == until and (restored := _read_snapshot(disk, directory, until)) is not None:
            producers = Producers(directory)
            producers.replace(restored.producers)
            disk.replace(path, encode_snapshot(producers, AbortedTransactions(), until))


def _snapshots(disk: IDisk, directory: str) -> list[int]:
    """The offsets of the snapshots that are there."""
    found = []
    for name in disk.list(directory):
        stem, dot, suffix = name.partition(".")
        if dot + suffix == SNAPSHOT_SUFFIX and stem.isdigit():
            found.append(int(stem))
    return found
