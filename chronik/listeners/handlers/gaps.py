"""How a reader is told that there is nothing for him up to some offset: as a batch without records.

Its last offset delta reaches to the end of the gap, as in a batch of which compaction has taken all records; so positions
advance.

**librdkafka** moves on by such a batch too, but takes an answer without any record for one whose limits were too small: it
asks for twice as much, and after ten of them in a consumer's whole life it tells its application, of each, that a message is
too large. Nor does it commit beyond the last record that it saw. To clients that say that they are built on it the gap is one
control record at its end, as a transaction's marker is: that they pass over in silence, and commit.
"""

from __future__ import annotations

from chronik.broker.outcomes import Fetched, Gap
from chronik.listeners.context import Software
from chronik.wire.batches import MAGIC, NO_PRODUCER_ID, NO_TIMESTAMP, BatchHeader, Buffer, assemble
from chronik.wire.markers import COMMIT_KEY
from chronik.wire.records import Record, encode_batch

_MOST = 2**31 - 1
"""The largest last offset delta: of a wider gap a part is told."""


def with_gap(fetched: Fetched, software: Software) -> Buffer:
    """What was read, with what tells of the gap behind it."""
    if fetched.gap is None:
        return fetched.records
    return b"".join((fetched.records, gap_batch(fetched.gap, software)))


def gap_batch(gap: Gap, software: Software) -> bytearray:
    """The batch that tells of `gap` to a client that uses `software`."""
    last = min(gap.following - 1, gap.first + _MOST)
    if _is_librdkafka(software):
        marker = Record(last, NO_TIMESTAMP, COMMIT_KEY, None)
        return encode_batch([marker], base_offset=gap.first, leader_epoch=gap.epoch, control=True)
    header = BatchHeader(
        base_offset=gap.first,
        batch_length=0,
        partition_leader_epoch=gap.epoch,
        magic=MAGIC,
        crc=0,
        attributes=0,
        last_offset_delta=last - gap.first,
        base_timestamp=NO_TIMESTAMP,
        max_timestamp=NO_TIMESTAMP,
        producer_id=NO_PRODUCER_ID,
        producer_epoch=-1,
        base_sequence=-1,
        record_count=0,
    )
    return assemble(header, b"")


def _is_librdkafka(software: Software) -> bool:
    """Whether a client is built on librdkafka: it says so itself, or its version does."""
    return "rdkafka" in software.name or "rdkafka" in software.version
