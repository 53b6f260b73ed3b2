"""Opening a log: what is trusted, what is verified, and what a crash is allowed to have taken.

After a clean shutdown nothing is scanned: the checkpoint says where the log ends, and the size of its last file
confirms it. An empty partition has no directory, and costs the look for it.

After anything else every batch from the recovery point's segment on is read and its CRC verified, and what is derived
(indexes, leader epochs, producers with their transactions) is built anew from there. The first batch that isn't whole,
doesn't verify or leaves a gap ends the log: it and everything after it was never synced, and goes. Is that place *below* the
recovery point, synced bytes are damaged, and the log isn't opened but a CorruptLogError raised; nothing is cut then.

A gigabyte takes a second or two to verify: loading is a generator, which lets go every few MB, or thousand batches, to say
how far it is.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from chronik.errors import CorruptLogError, KafkaError
from chronik.interfaces import IDisk
from chronik.log.aborted import AbortedTransactions
from chronik.log.checkpoint import CHECKPOINT_FILE, CLEANER_FILE, NEVER_CLEANED, Checkpoint, CleanerCheckpoint
from chronik.log.config import LogConfig
from chronik.log.epochs import EPOCHS_FILE, LeaderEpochs
from chronik.log.producers import Producers
from chronik.log.restoring import restore_producers, take_note
from chronik.log.scan import scan_batches
from chronik.log.segment import (
    DELETED_SUFFIX,
    INDEX_SUFFIX,
    LOG_SUFFIX,
    MENDED_AT_ONCE,
    SNAPSHOT_SUFFIX,
    TIME_INDEX_SUFFIX,
    Segment,
    file_name,
)
from chronik.log.snapshot import encode_snapshot
from chronik.log.swap_recovery import finish_swaps

_TEMPORARY_SUFFIX = ".tmp"
_STEP_BYTES = 8 << 20
_STEP_BATCHES = 1000


class Progress(NamedTuple):
    """How much of what a log must verify is verified, in bytes."""

    verified: int
    total: int


@dataclass(slots=True)
class Recovery:
    """What had to be done to a log that wasn't closed. Sizes in bytes."""

    verified_bytes: int = 0
    cut_bytes: int = 0
    cut_offset: int = -1
    reason: str = ""


@dataclass(slots=True)
class LoadedLog:
    """A log as it was found. `recovery` is None when it was trusted as it stands; `first_unsynced` indexes `segments`.

    `exists` says whether its directory is there, `clean` whether the names in it are known to be durable. `snapshots` has
    those that recovery has made anew, by path.
    """

    segments: list[Segment]
    start_offset: int
    recovery_point: int
    producers: Producers
    epochs: LeaderEpochs
    exists: bool
    clean: bool
    first_unsynced: int = 0
    recovery: Recovery | None = None
    cleaner: CleanerCheckpoint = NEVER_CLEANED
    snapshots: dict[str, bytes] = field(default_factory=dict)


def load(
    disk: IDisk, directory: str, config: LogConfig, now_ms: int, clean: bool
) -> Generator[Progress, None, LoadedLog]:
    """Load the log in `directory`; one that has none is empty. Raises CorruptLogError, OSError."""
    producers, epochs = Producers(directory.rpartition("/")[2]), LeaderEpochs()
    exists = True
    try:
        names = disk.list(directory)
    except FileNotFoundError:
        exists, names = False, []
    checkpoint = Checkpoint(0, 0)
    known = CHECKPOINT_FILE in names
    if known:
        path = f"{directory}/{CHECKPOINT_FILE}"
        checkpoint = Checkpoint.decode(disk.read(path), path)
    loaded = LoadedLog([], checkpoint.log_start, checkpoint.recovery_point, producers, epochs, exists, clean)
    if names:
        yield from _Loader(disk, directory, config, now_ms, loaded).load(names, checkpoint, clean, known)
    if not loaded.segments:
        if loaded.recovery_point > loaded.start_offset:
            raise CorruptLogError(
                f"{directory} has no segment, but offsets {loaded.start_offset} to {loaded.recovery_point - 1} were synced; "
                f"restore the files, or delete {CHECKPOINT_FILE} to start empty"
            )
        loaded.segments.append(Segment(disk, directory, loaded.start_offset, config.index_interval_bytes, now_ms))
        loaded.recovery_point = loaded.start_offset
    return loaded


class _Loader:
    """The steps of loading one log that has files."""

    def __init__(self, disk: IDisk, directory: str, config: LogConfig, now_ms: int, loaded: LoadedLog) -> None:
        self._disk = disk
        self._directory = directory
        self._config = config
        self._now_ms = now_ms
        self._loaded = loaded
        self._snapshots: list[int] = []

    def load(
        self, names: Sequence[str], checkpoint: Checkpoint, clean: bool, known: bool
    ) -> Generator[Progress, None, None]:
        """Fill in what the files hold."""
        loaded = self._loaded
        names = finish_swaps(self._disk, self._directory, names)
        bases = self._sort(names, checkpoint.log_start)
        segments = loaded.segments
        for base in bases:
            size = self._disk.size(self._path(base, LOG_SUFFIX))
            segments.append(
                Segment(self._disk, self._directory, base, self._config.index_interval_bytes, self._now_ms, size)
            )
        if len(segments) > 1 and not segments[-1].size:
            self._disk.remove(segments.pop().path(LOG_SUFFIX))  # an empty file after others says nothing
        for segment, follower in pairwise(segments):
            segment.next_offset = follower.base_offset
        if EPOCHS_FILE in names:
            path = f"{self._directory}/{EPOCHS_FILE}"
            loaded.epochs.restore(self._disk.read(path), path)
        if CLEANER_FILE in names:
            path = f"{self._directory}/{CLEANER_FILE}"
            loaded.cleaner = CleanerCheckpoint.decode(self._disk.read(path), path)
        if not segments:
            return
        if not known:  # nothing was ever synced for certain, or the operator wants all of it verified
            loaded.recovery_point = bases[0]
        elif bases[0] > loaded.start_offset >= loaded.recovery_point:
            # Nothing was synced from the start on: a truncation that a crash broke off has left these.
            size = sum(segment.size for segment in segments)
            reason = f"the first segment that is left begins at offset {bases[0]}"
            loaded.recovery = Recovery(cut_bytes=size, cut_offset=loaded.start_offset, reason=reason)
            self._start_over()
            self._drop_snapshots_after(loaded.start_offset)
            return
        elif bases[0] > loaded.start_offset:
            raise CorruptLogError(
                f"{self._directory} begins at offset {bases[0]}, it should at {loaded.start_offset}: segments are missing; "
                f"restore them, or delete {CHECKPOINT_FILE} in it to go on with those that are there"
            )
        loaded.start_offset = max(loaded.start_offset, bases[0])
        last = segments[-1]
        if clean and last.base_offset == checkpoint.active_base and last.size == checkpoint.active_size:
            if last.size > MENDED_AT_ONCE and not last.has_indexes():
                yield from self._reindex(last)  # appends would have to wait for it
            last.resume(
                checkpoint.recovery_point,
                checkpoint.first_timestamp,
                checkpoint.max_timestamp,
                checkpoint.max_timestamp_offset,
            )
            loaded.first_unsynced = len(segments)
            self._restore_producers(last.next_offset, len(segments) - 1)
        else:
            yield from self._recover()
        self._drop_stray_snapshots()
        if segments[-1].next_offset < loaded.start_offset:
            self._start_over()

    def _reindex(self, segment: Segment) -> Generator[Progress, None, None]:
        """Make the indexes of a segment anew, as far as it can be read."""
        told = batches = 0
        with suppress(KafkaError):
            for position, _ in segment.replay(scan_batches(segment.file, 0, segment.size)):
                batches += 1
                if position - told >= _STEP_BYTES or batches >= _STEP_BATCHES:
                    told, batches = position, 0
                    yield Progress(position, segment.size)

    def _sort(self, names: Sequence[str], log_start: int) -> list[int]:
        """The segments' base offsets; clears away what earlier deletions and replacements have left."""
        stems: dict[str, list[int]] = {LOG_SUFFIX: [], INDEX_SUFFIX: [], TIME_INDEX_SUFFIX: [], SNAPSHOT_SUFFIX: []}
        for name in names:
            stem, dot, suffix = name.partition(".")
            if name.endswith((_TEMPORARY_SUFFIX, DELETED_SUFFIX)):
                self._disk.remove(f"{self._directory}/{name}")
            elif stem.isdigit() and dot + suffix in stems:
                stems[dot + suffix].append(int(stem))
        bases = sorted(stems[LOG_SUFFIX])
        gone = [base for base, follower in pairwise(bases) if follower <= log_start]
        for base in gone:
            self._remove_segment(base)
        kept = bases[len(gone) :]
        for suffix in (INDEX_SUFFIX, TIME_INDEX_SUFFIX):
            for base in set(stems[suffix]).difference(kept, gone):
                self._disk.remove(self._path(base, suffix))
        self._snapshots = sorted(set(stems[SNAPSHOT_SUFFIX]).difference(gone))
        return kept

    # -- after an unclean shutdown ------------------------------------------------------------------------------------

    def _recover(self) -> Generator[Progress, None, None]:
        loaded = self._loaded
        segments, point = loaded.segments, loaded.recovery_point
        first = max((i for i, segment in enumerate(segments) if segment.base_offset <= point), default=0)
        report = loaded.recovery = Recovery()
        loaded.first_unsynced = first
        loaded.epochs.truncate_from_end(segments[first].base_offset)
        expected = segments[first].base_offset
        self._restore_producers(expected, first)
        self._drop_snapshots_after(expected)
        total = sum(segment.size for segment in segments[first:])
        for index in range(first, len(segments)):
            segment = segments[index]
            if segment.base_offset != expected and not self._may_skip(expected, segment.base_offset):
                report.reason = f"the next segment begins at offset {segment.base_offset}"
                self._cut(index, expected, report)
                break
            if index > first:
                self._snapshot(segments[index - 1], segment.base_offset)
            expected, whole = yield from self._verify(segment, report, total)
            segment.next_offset = expected
            report.verified_bytes += whole
            if whole < segment.size:
                self._refuse_synced(expected, report.reason)
                report.cut_bytes += segment.size - whole
                segment.file.truncate(whole)
                segment.size = whole
                self._cut(index + 1, expected, report)
                break
        self._refuse_synced(segments[-1].next_offset, report.reason or "the log ends there")

    def _verify(self, segment: Segment, report: Recovery, total: int) -> Generator[Progress, None, tuple[int, int]]:
        """Read a segment through; (next offset, bytes) of the whole batches at its beginning."""
        loaded = self._loaded
        aborted = segment.aborted = AbortedTransactions()
        expected, whole, told, batches = segment.base_offset, 0, 0, 0
        yield Progress(report.verified_bytes, total)
        try:
            for position, header in segment.replay(scan_batches(segment.file, 0, segment.size, check_crc=True)):
                base_offset = header.base_offset
                if (
                    base_offset != expected and not self._may_skip(expected, base_offset)
                ) or header.last_offset_delta < 0:
                    report.reason = f"the batch there says it has offsets {base_offset} to {header.last_offset}"
                    break
                loaded.epochs.assign(header.partition_leader_epoch, base_offset)
                take_note(loaded.producers, aborted, segment, position, header)
                expected, whole = header.next_offset, position + header.size
                batches += 1
                if whole - told >= _STEP_BYTES or batches >= _STEP_BATCHES:
                    told, batches = whole, 0
                    yield Progress(report.verified_bytes + whole, total)
        except KafkaError as fault:
            report.reason = fault.message or str(fault)
        aborted.settled_to = min(loaded.producers.first_open, expected)
        return expected, whole

    def _may_skip(self, expected: int, base_offset: int) -> bool:
        """Whether compaction may have taken what lay between two offsets."""
        return base_offset > expected and (self._config.compacted or base_offset < self._loaded.cleaner.gaps_below)

    def _snapshot(self, sealed: Segment, offset: int) -> None:
        """Have the snapshot at the end of a verified segment written anew: the one that is there may be of lost batches."""
        aborted = sealed.aborted
        assert aborted is not None
        self._loaded.snapshots[self._path(offset, SNAPSHOT_SUFFIX)] = encode_snapshot(
            self._loaded.producers, aborted, offset
        )

    def _cut(self, index: int, offset: int, report: Recovery) -> None:
        """Take away the segments from `index` on: the log ends at `offset`."""
        self._refuse_synced(offset, report.reason)
        report.cut_offset = offset
        segments = self._loaded.segments
        for segment in segments[index:]:
            report.cut_bytes += segment.size
            self._remove_segment(segment.base_offset)
        del segments[index:]

    def _refuse_synced(self, end: int, reason: str) -> None:
        """The log can only be read up to `end`: is that less than what was synced, it must not be opened.

        Below the log start nothing is missed.
        """
        loaded = self._loaded
        if end < loaded.recovery_point > loaded.start_offset:
            raise CorruptLogError(
                f"{self._directory} is damaged at offset {end}, but was synced up to {loaded.recovery_point}: "
                f"{reason}; restore the partition from a replica or a backup, or delete {CHECKPOINT_FILE} in it to keep only "
                f"the offsets before {end}"
            )

    def _restore_producers(self, offset: int, index: int) -> None:
        """The producers' state at `offset`, which is in or at the end of segment `index`: a snapshot, then batches."""
        segments = self._loaded.segments[: index + 1]
        restore_producers(self._disk, self._directory, self._loaded.producers, self._snapshots, segments, offset)

    def _drop_snapshots_after(self, end: int) -> None:
        for offset in self._snapshots:
            if offset > end:
                self._disk.remove(self._path(offset, SNAPSHOT_SUFFIX))

    def _drop_stray_snapshots(self) -> None:
        """Keep those at the ends of segments: what a close left in the midst of one has served when it was opened again."""
        segments = self._loaded.segments
        kept = {segments[-1].next_offset, *(segment.base_offset for segment in segments)}
        for offset in self._snapshots:
            if offset not in kept:
                self._disk.remove(self._path(offset, SNAPSHOT_SUFFIX))

    def _start_over(self) -> None:
        """The start was moved beyond all that is left: the log is empty, and goes on there."""
        loaded = self._loaded
        for segment in loaded.segments:
            self._remove_segment(segment.base_offset)
        loaded.segments.clear()
        loaded.producers.clear()
        loaded.epochs.truncate_from_end(0)
        loaded.recovery_point = min(loaded.recovery_point, loaded.start_offset)

    def _remove_segment(self, base: int) -> None:
        remove_segment_files(self._disk, self._directory, base)

    def _path(self, offset: int, suffix: str) -> str:
        return f"{self._directory}/{file_name(offset, suffix)}"


def remove_segment_files(disk: IDisk, directory: str, base: int) -> None:
    """Remove all files of a segment; the log itself last, so that a crash in between leaves a segment and no orphans."""
    for suffix in (INDEX_SUFFIX, TIME_INDEX_SUFFIX, SNAPSHOT_SUFFIX, LOG_SUFFIX):
        disk.remove(f"{directory}/{file_name(base, suffix)}")
