"""Keyed batches, transactions, and compaction carried out here and now, for the tests of the log."""

from __future__ import annotations

from chronik.log.cleaner import clean
from chronik.wire.records import (
    Codec,
    Record,
    assign_offsets,
    check_produced,
    decode_records,
    encode_batch,
    split_batches,
    verify,
)

SECRET = bytes(16)
ABORT, COMMIT = 0, 1


def keyed(records, *, timestamp=1000, codec=Codec.NONE, producer_id=-1, epoch=0, sequence=0, transactional=False):
    """A batch of (key, value) records as a producer sends it: (writable bytes, header)."""
    idempotent = producer_id >= 0
    batch = encode_batch(
        [Record(index, timestamp + index, key, value) for index, (key, value) in enumerate(records)],
        codec=codec,
        producer_id=producer_id,
        producer_epoch=epoch if idempotent else -1,
        base_sequence=sequence if idempotent else -1,
        transactional=transactional,
    )
    return batch, check_produced(batch)


def append_keyed(log, records, *, now_ms=1000, leader_epoch=0, **options):
    """Append such a batch; its base offset."""
    batch, header = keyed(records, **options)
    return log.append(memoryview(batch), header, leader_epoch, now_ms)


def marker(kind, producer_id, epoch=0, timestamp=1000):
    """The control batch that ends a transaction."""
    record = Record(0, timestamp, b"\0\0" + kind.to_bytes(2, "big"), bytes(6))
    return encode_batch([record], producer_id=producer_id, producer_epoch=epoch, transactional=True, control=True)


def append_marker(log, kind, producer_id, epoch=0, timestamp=1000):
    """End a transaction; the marker's offset."""
    batch, offset = marker(kind, producer_id, epoch, timestamp), log.end_offset
    assign_offsets(batch, offset, 0)
    log.append_replicated(batch, timestamp)
    return offset


def compact(log, disk, now_ms, *, upper=None, buffer_bytes=1 << 20, between=lambda: None):
    """One whole compaction, every step of it here and now; its result, or None where nothing was dirty.

    `between()` is called while each swap is between its steps.
    """
    segments = log.cleanable(now_ms, log.end_offset if upper is None else upper)
    if not segments:
        return None
    request = log.clean_request(segments, now_ms, secret=SECRET, dedupe_buffer_bytes=buffer_bytes)
    return carry_out(log, disk, request, between)


def carry_out(log, disk, request, between=lambda: None):
    """A request, and the swaps that come of it."""

    def drive(swap):
        while swap is not None and swap.job is not None:
            swap.run()
            between()
            swap.advance()

    def report(progress):
        if progress.segment is not None:
            drive(log.begin_swap(progress.segment))

    try:
        result = clean(request, disk, report, lambda size: None)
    except FileNotFoundError:
        if request.segments[0][0] >= log.start_offset:
            raise
        return None  # its segments were given up meanwhile: the job ends there, and a later one goes on
    drive(log.cleaned_to(result.cleaned_to))
    return result


def read_all(log, max_bytes=700):
    """(header, records) of every batch from the log's start on, as a consumer comes by them; CRCs verified."""
    offset, found = log.start_offset, []
    while offset < log.end_offset:
        data = log.read(offset, max_bytes, log.end_offset)[0]
        assert data, f"nothing at offset {offset} of {log.end_offset}"
        for position, header in split_batches(data):
            batch = bytes(data[position : position + header.size])
            verify(batch)
            assert header.last_offset >= offset, (header, offset)
            found.append((header, list(decode_records(batch, 1 << 20))))
            offset = header.next_offset
    return found


def records_of(log):
    """{offset: record} of all data in the log."""
    return {record.offset: record for header, records in read_all(log) if not header.control for record in records}
