"""Making a split: the records of a range of a log, as its files have them, into an index in a directory of its own.

It is made under a name that is no split's, and gets its own when all of it is written, the manifest last. What an earlier
build has left unfinished is removed first. Nothing is synced but what tantivy syncs: a split that a power loss has torn is
found out when it is verified.

A job of a process of its own: tantivy holds the interpreter while it writes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from chronik.interfaces import IDisk
from chronik.log.cleaning import AbortedRange
from chronik.log.committed import Bounds, CommittedFiles
from chronik.native.interfaces import IRecordScanner
from chronik.native.records import headers
from chronik.native.sections import MalformedRecords
from chronik.search.pending import DecodedBatch, decode
from chronik.search.splits.inverted import LOCKS, InvertedWriter, SplitError
from chronik.search.splits.manifest import (
    MANIFEST,
    UNFINISHED_SUFFIX,
    Manifest,
    described,
    name_of,
    written,
)
from chronik.search.splits.messages import Building, BuildSplit, Built
from chronik.search.splits.texts import other_text, text_of

LEAST_FREE_BYTES = 1 << 30
"""Of the disk. With less no split is made."""
_TELL_EVERY = 16
"""Batches."""


def build(request: BuildSplit, disk: IDisk, scanner: IRecordScanner, report: Callable[[Building], object]) -> Built:
    """Make the split, unless it is there.

    Raises SplitError, KafkaError where the log is damaged or isn't there any more, and OSError.
    """
    name = name_of(request.first, request.following)
    path, unfinished = f"{request.index}/{name}", f"{request.index}/{name}{UNFINISHED_SUFFIX}"
    if disk.exists(path):
        return Built(name, 0, 0)
    disk.make_directory(request.index, durable=False)
    if disk.volume(request.index)[1] < LEAST_FREE_BYTES:
        raise SplitError(
            f"less than {LEAST_FREE_BYTES >> 20} MiB are free for {request.index}: they are left to the logs"
        )
    for each in disk.list(request.index):
        if each.endswith(UNFINISHED_SUFFIX):
            disk.remove(f"{request.index}/{each}")
    disk.make_directory(unfinished, durable=False)
    files = CommittedFiles(disk, request.log, scanner)
    files.follow(Bounds(request.start, request.stable), [AbortedRange(*each) for each in request.aborted])
    filling = _Filling(InvertedWriter(unfinished), scanner, request)
    last = None
    for number, stored in enumerate(files.read(request.first, request.following)):
        last = stored.header
        batch = decode(stored)
        if batch is not None:
            filling.add(batch)
        if not number % _TELL_EVERY:
            report(Building(filling.records))
    files.forget_files()
    filling.writer.finish()
    report(Building(filling.records))
    for lock in LOCKS:
        disk.remove(f"{unfinished}/{lock}")
    manifest = Manifest(
        first=request.first,
        following=request.following,
        records=filling.records,
        words=filling.words,
        exact=request.exact,
        last_offset=-1 if last is None else last.base_offset,
        last_crc=0 if last is None else last.crc,
        last_epoch=0 if last is None else last.partition_leader_epoch,
        files={each: (size, crc) for each, size, crc in described(disk, unfinished)},
    )
    disk.replace(f"{unfinished}/{MANIFEST}", written(manifest), durable=False)
    disk.rename(unfinished, path)
    return Built(name, filling.records, manifest.bytes)


class _Filling:
    """Gives the records of batches to a writer, and counts them."""

    def __init__(self, writer: InvertedWriter, scanner: IRecordScanner, request: BuildSplit) -> None:
        self.writer = writer
        self._scanner = scanner
        self._first = max(request.first, request.start)
        self._following = request.following
        self.records = self.words = 0

    def add(self, batch: DecodedBatch) -> None:
        """All records of a batch that are in the range. One with malformed records has none, for a search too."""
        header, section = batch
        try:
            columns = self._scanner.columns(section, header.last_offset_delta)
        except MalformedRecords:
            return
        offsets = columns.offset_delta + np.int64(header.base_offset)
        if header.log_append_time:
            times = np.full(len(offsets), header.max_timestamp, np.int64)
        else:
            times = columns.timestamp_delta + np.int64(header.base_timestamp)
        data, add = bytes(section.records), self.writer.add
        for offset, time, key_at, key_size, value_at, value_size, headers_at, header_count in zip(
            offsets.tolist(),
            times.tolist(),
            columns.key_start.tolist(),
            columns.key_length.tolist(),
            columns.value_start.tolist(),
            columns.value_length.tolist(),
            columns.headers_start.tolist(),
            columns.header_count.tolist(),
            strict=True,
        ):
            if not self._first <= offset < self._following:
                continue
            key = data[key_at : key_at + key_size] if key_size > 0 else None
            value = data[value_at : value_at + value_size] if value_size > 0 else b""
            named = headers(data, headers_at, header_count) if header_count else ()
            text = text_of(value)
            add(offset, time, text, other_text(key, value, named))
            self.words += len(text.split())
            self.records += 1
