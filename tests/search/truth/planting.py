"""A signature with a bit cleared that should be set: what a damaged index would be that nobody notices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import NamedTuple

import numpy as np
from crc32c import crc32c

from chronik.native.hashing import positions
from chronik.search.partition_index import PartitionIndex
from chronik.search.signatures import PAGE_ROWS, OpenGroup, WrittenGroup, _header
from tests.search import oracle
from tests.search.truth.worlds import World

_CRC_OF_CRCS_AT = _header.size - 4


class Planted(NamedTuple):
    """Which word is hidden, and in what."""

    word: str
    written: bool
    """Whether the signature is in a file."""


@contextmanager
def planted(world: World, chance: Random, written: bool) -> Iterator[Planted]:
    """Clear a bit of some word in the signature of some block that holds it, in a file or in memory, for a while."""
    index, number, group = chance.choice(
        [
            (index, number, group)
            for index in world.indexes()
            for number, group in enumerate(index.groups)
            if isinstance(group, WrittenGroup) == written
        ]
    )
    partition = world.indexes().index(index)
    block, word = _word(world, chance, partition, group)
    place = chance.choice(positions(word.encode(), group._bits))
    if isinstance(group, OpenGroup):
        byte, bit = place >> 3, np.uint8(1 << (place & 7))
        assert group._signatures[block, byte] & bit
        group._signatures[block, byte] &= ~bit
        yield Planted(word, False)
        group._signatures[block, byte] |= bit
        return
    content = world.disk._files[group._path]
    before = bytes(content)
    _clear(content, group, block, place)
    _reopen(world, index, number, group._path)
    yield Planted(word, True)
    content[:] = before
    _reopen(world, index, number, group._path)


def _word(world: World, chance: Random, partition: int, group: OpenGroup | WrittenGroup) -> tuple[int, str]:
    """A block of the group, and a word in the value of a record that counts there."""
    counting = sorted(world.partitions[partition].counting().items())
    for _ in range(1000):
        block = chance.randrange(len(group.table))
        first, following = int(group.table["first"][block]), int(group.table["following"][block])
        records = [record for offset, record in counting if first <= offset < following and record.value]
        if records:
            record = chance.choice(records)
            words = [word for word in oracle.tokens(record.value.decode("utf-8", "replace")) if word.isascii()]
            words = [word for word in words if word.isalpha() and len(word) < 200]
            if words:
                return block, chance.choice(words)
    raise AssertionError("no block has a word")


def _clear(content: bytearray, group: WrittenGroup, block: int, place: int) -> None:
    """Clear a bit in the file, and make its CRCs fit."""
    at = group._rows_at + place * group._row + block // 8
    bit = 1 << block % 8
    assert content[at] & bit
    content[at] &= ~bit
    page, size = place // PAGE_ROWS, PAGE_ROWS * group._row
    crcs_at = group._rows_at - group._crcs.nbytes
    start = group._rows_at + page * size
    content[crcs_at + page * 4 : crcs_at + page * 4 + 4] = crc32c(bytes(content[start : start + size])).to_bytes(
        4, "little"
    )
    crcs = bytes(content[crcs_at : group._rows_at])
    content[_CRC_OF_CRCS_AT : _header.size] = crc32c(crcs).to_bytes(4, "little")


def _reopen(world: World, index: PartitionIndex, number: int, path: str) -> None:
    index.groups[number] = WrittenGroup.open(world.disk, path)
