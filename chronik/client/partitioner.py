"""Which partition a record goes to, as Java's default partitioner decides it.

A record with a key goes to `murmur2(key) % partitions`, so that every client puts the same key in the same place. Records
without one stick to a partition until its batch is full, then to another, which makes larger batches than taking turns.

Sources: KIP-480 (sticky partitioner), KIP-794; the hash is Austin Appleby's MurmurHash2 with Kafka's seed.
"""

from __future__ import annotations

import random
import struct

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The 32-bit MurmurHash2 of `data` as Kafka's clients compute it, as an unsigned number."""
    length = len(data)
    h = (_SEED ^ length) & _MASK
    words = length >> 2
    for k in struct.unpack_from(f"<{words}I", data):
        k = k * _M & _MASK
        k ^= k >> 24
        h = (h * _M & _MASK) ^ (k * _M & _MASK)
    tail = data[words << 2 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_for_key(key: bytes, partitions: int) -> int:
    """The partition of a keyed record in a topic of `partitions` partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


class StickyPartition:
    """The partition that a topic's keyless records go to until `move` is called."""

    def __init__(self, choose: random.Random) -> None:
        self._choose = choose
        self.partition = -1

    def move(self, partitions: int, available: list[int]) -> int:
        """Pick another partition, of those with a leader where there are any, and return it."""
        candidates = available or list(range(partitions))
        others = [p for p in candidates if p != self.partition] or candidates
        self.partition = self._choose.choice(others)
        return self.partition
