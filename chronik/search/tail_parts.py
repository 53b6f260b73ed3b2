"""The partitions of a node as tails know them: by topic, by a number each, and with their lanes.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

from chronik.model import PartitionId
from chronik.search.parcels import Place
from chronik.search.tail_group import Lane, Part


class TailParts:
    """Those that are led here."""

    def __init__(self) -> None:
        self._parts: dict[int, Part] = {}
        self._numbers: dict[PartitionId, int] = {}
        self._topics: dict[str, dict[int, None]] = {}
        self._lanes: dict[tuple[int, bool], Lane] = {}
        self._next = 0

    def add(self, partition: PartitionId, name: Place, process: int) -> Part:
        """Another partition, which a process owns."""
        self._next += 1
        part = Part(self._next, name, partition, process)
        self._parts[part.number] = part
        self._numbers[partition] = part.number
        self._topics.setdefault(name.topic, {})[part.number] = None
        return part

    def remove(self, partition: PartitionId) -> Part | None:
        """It is gone."""
        number = self._numbers.pop(partition, None)
        if number is None:
            return None
        part = self._parts.pop(number)
        for wide in (False, True):
            self._lanes.pop((number, wide), None)
        of_topic = self._topics[part.name.topic]
        del of_topic[number]
        if not of_topic:
            del self._topics[part.name.topic]
        return part

    @property
    def topics(self) -> list[str]:
        """The names of the topics that there are."""
        return list(self._topics)

    def of_topic(self, topic: str) -> Iterator[Part]:
        """The partitions of a topic."""
        return (self._parts[number] for number in self._topics.get(topic, ()))

    @property
    def newest(self) -> int:
        """The number of the one that came last."""
        return self._next

    def newer(self, number: int) -> list[Part]:
        """Those that came after the one of that number."""
        return list(takewhile(lambda part: part.number > number, reversed(self._parts.values())))

    def get(self, number: int) -> Part | None:
        """The partition of that number."""
        return self._parts.get(number)

    def name(self, number: int) -> Place:
        """Its name; for one that is gone, an empty one."""
        part = self._parts.get(number)
        return Place("", -1) if part is None else part.name

    def lane(self, number: int, wide: bool) -> Lane:
        """A lane of it."""
        return self._lanes.setdefault((number, wide), Lane())

    def known_lane(self, number: int, wide: bool) -> Lane | None:
        """A lane of it, if it has any."""
        return self._lanes.get((number, wide))
