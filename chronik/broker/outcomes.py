"""What came of an append to a partition, and of a read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chronik.log.aborted import AbortedTransaction
from chronik.wire.codec import Buffer


class Appended(NamedTuple):
    """Where a batch went. `append_time_ms` is -1 unless the topic stamps records with the time of their append.

    For a retry, it is the timestamp of the batch that is here already, as in Kafka.
    """

    base_offset: int
    end_offset: int
    append_time_ms: int
    log_start: int


class Gap(NamedTuple):
    """Offsets without a record, up to `following` (not included), which is in leader epoch `epoch` at its end."""

    first: int
    following: int
    epoch: int


class Fetched(NamedTuple):
    """What a read gave. `limited` means that more is committed: a byte limit or the end of a segment ended the read.

    `aborted` has the aborted transactions that concern what was read, where only what is stable was asked for. `gap` is what
    lies behind the records and has none for this reader.
    """

    records: Buffer
    high_watermark: int
    log_start: int
    limited: bool
    aborted: Sequence[AbortedTransaction] = ()
    gap: Gap | None = None
