"""Transaction markers: the control batches that commit or abort what a producer wrote in one partition.

A marker is a batch of one record with the transactional and the control bit, the producer's id and epoch, and no sequence::

    key:   version 2 (0) | type 2 (0: abort, 1: commit)
    value: version 2 (0) | coordinator epoch 4

Consumers skip it and need none of its fields but the type. Sources: KIP-98; KIP-890 (the epoch of a marker may be newer
than that of the batches which it ends).
"""

from __future__ import annotations

from struct import Struct

from chronik.errors import KafkaError
from chronik.model import TransactionMarker
from chronik.wire.batches import Buffer, read_header
from chronik.wire.records import Record, decode_records, encode_batch

_key = Struct(">hh")
_value = Struct(">hi")
_VERSION = 0
_ABORT, _COMMIT = 0, 1
COMMIT_KEY = _key.pack(_VERSION, _COMMIT)
"""The key of a record that commits."""
_MAX_BYTES = 1024
"""What the records of a control batch may have uncompressed; a marker has less than a tenth of that."""


def encode_marker(marker: TransactionMarker, now_ms: int) -> bytearray:
    """The control batch of `marker`, stamped with `now_ms`; writable, for `assign_offsets`."""
    record = Record(
        0,
        now_ms,
        _key.pack(_VERSION, _COMMIT if marker.committed else _ABORT),
        _value.pack(_VERSION, marker.coordinator_epoch),
    )
    return encode_batch(
        [record],
        producer_id=marker.producer_id,
        producer_epoch=marker.producer_epoch,
        transactional=True,
        control=True,
    )


def decode_marker(batch: Buffer) -> TransactionMarker | None:
    """The marker in a whole control batch; None for a control batch of another kind (those of Raft logs), or an empty one.

    Later versions of key and value begin as version 0 does.
    """
    header = read_header(batch)
    try:
        record = next(decode_records(batch, _MAX_BYTES), None)
    except KafkaError:
        return None
    if record is None or record.key is None or len(record.key) < _key.size or not header.idempotent:
        return None
    _, kind = _key.unpack_from(record.key)
    if kind not in (_ABORT, _COMMIT) or record.value is None or len(record.value) < _value.size:
        return None
    _, coordinator_epoch = _value.unpack_from(record.value)
    return TransactionMarker(header.producer_id, header.producer_epoch, kind == _COMMIT, coordinator_epoch)
