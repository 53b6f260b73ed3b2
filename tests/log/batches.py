"""Batches for the tests of the log."""

from __future__ import annotations

from chronik.model import TransactionMarker
from chronik.wire.records import Record, check_produced, encode_batch


def produced(records=1, *, timestamp=1000, producer_id=-1, epoch=0, sequence=0, size=20, transactional=False):
    """A batch as a producer sends it: (writable bytes, header)."""
    idempotent = producer_id >= 0
    batch = encode_batch(
        [Record(index, timestamp + index, None, b"%d" % index * size) for index in range(records)],
        producer_id=producer_id,
        producer_epoch=epoch if idempotent else -1,
        base_sequence=sequence if idempotent else -1,
        transactional=transactional,
    )
    return batch, check_produced(batch)


def append(log, *args, now_ms=1000, leader_epoch=0, **options):
    """Append such a batch; its base offset."""
    batch, header = produced(*args, **options)
    return log.append(memoryview(batch), header, leader_epoch, now_ms)


def end(log, producer_id, epoch=0, *, commit, coordinator_epoch=0, now_ms=1000, leader_epoch=0):
    """Append the marker that ends a transaction; its offset."""
    marker = TransactionMarker(producer_id, epoch, commit, coordinator_epoch)
    return log.append_marker(marker, leader_epoch, now_ms)[0] - 1
