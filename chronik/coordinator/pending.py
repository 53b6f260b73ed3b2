"""Offsets that transactions have committed and whose outcome is not known yet.

They are kept by the producer that wrote them, until the marker of its transaction comes in the same log: committed, they
become offsets of their groups, aborted, they go. Pure.

Sources: KIP-98 (transactional offsets), KIP-447 (consumers that wait until none are pending).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from chronik.model import TopicPartition

_T = TypeVar("_T")


class PendingOffsets(Generic[_T]):
    """What is pending, by producer id, group and partition."""

    def __init__(self) -> None:
        self._by_producer: dict[int, dict[str, dict[TopicPartition, _T]]] = {}
        self._producers: dict[str, set[int]] = {}  # of each group that has something pending

    def add(self, producer_id: int, group_id: str, where: TopicPartition, committed: _T) -> None:
        """A transaction of the producer commits something for the group, in place of what it did before."""
        self._by_producer.setdefault(producer_id, {}).setdefault(group_id, {})[where] = committed
        self._producers.setdefault(group_id, set()).add(producer_id)

    def take(self, producer_id: int) -> Iterator[tuple[str, TopicPartition, _T]]:
        """The transaction of the producer ends: all that is pending of it, which is forgotten here."""
        for group_id, offsets in self._by_producer.pop(producer_id, {}).items():
            self._discard(group_id, producer_id)
            for where, committed in offsets.items():
                yield group_id, where, committed

    def forget(self, group_id: str, where: TopicPartition) -> None:
        """The group's offset of a partition was deleted: what is pending there goes with it, as in Kafka."""
        for producer_id in tuple(self._producers.get(group_id, ())):
            groups = self._by_producer[producer_id]
            groups[group_id].pop(where, None)
            if not groups[group_id]:
                del groups[group_id]
                self._discard(group_id, producer_id)
                if not groups:
                    del self._by_producer[producer_id]

    def _discard(self, group_id: str, producer_id: int) -> None:
        producers = self._producers[group_id]
        producers.discard(producer_id)
        if not producers:
            del self._producers[group_id]

    def groups(self) -> Iterator[str]:
        """The groups that have something pending."""
        return iter(self._producers)

    def of_group(self, group_id: str) -> dict[TopicPartition, _T]:
        """Where the group has something pending, with one of the transactions' offsets each."""
        found: dict[TopicPartition, _T] = {}
        for producer_id in self._producers.get(group_id, ()):
            found.update(self._by_producer[producer_id][group_id])
        return found

    def has(self, group_id: str, where: TopicPartition | None = None) -> bool:
        """Whether something is pending for the group, in partition `where` or anywhere."""
        producers = self._producers.get(group_id, ())
        if where is None:
            return bool(producers)
        return any(where in self._by_producer[producer_id][group_id] for producer_id in producers)
