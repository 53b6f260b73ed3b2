"""The batches of some offsets of a partition, decoded: from the tail that its index keeps, and else from its log's files."""

from __future__ import annotations

from collections.abc import Iterator

from chronik.errors import KafkaError
from chronik.log.committed import Place, StoredBatch
from chronik.search.messages import Costs
from chronik.search.partition_index import DecodedBatch, PartitionIndex


def batches(index: PartitionIndex, first: int, following: int, in_block: bool, costs: Costs) -> Iterator[DecodedBatch]:
    """The batches with anything from offset `first` on and below `following`, in their order; those that cannot be decoded
    are counted in `costs`.

    `in_block`: they are a block's, which begins at `first`. Raises KafkaError where the log is damaged, and OSError.
    """
    at = first
    hint = None
    if in_block:
        hint = index.place(first)
    elif index.tail_is_kept and index.indexed_to <= at:
        kept, read_to = list(index.tail), index.read_to
        for batch in kept:
            if batch.header.next_offset > at and batch.header.base_offset < following:
                yield batch
        at = max(at, read_to)
    for stored in _stored(index, at, following, hint):
        decoded = index.decoded(stored)
        if decoded is None:
            costs.undecodable += 1
        else:
            yield decoded


def _stored(index: PartitionIndex, at: int, following: int, hint: Place | None) -> Iterator[StoredBatch]:
    """The batches of these offsets, though the log's files may be replaced while they are read."""
    while True:
        generation = index.files.bounds.generation
        try:
            for stored in index.files.read(at, following, hint):
                at = stored.header.next_offset
                yield stored
            return
        except KafkaError:
            if index.files.bounds.generation == generation:
                raise
            hint = None
