"""Buckets by value: `terms`, the values that most records have.

Counts are exact while there are at most `2 * kept` distinct values; then those with the smallest counts are forgotten, down to
`kept`, and `doc_count_error_upper_bound` says by how much a count may be too low (as in Space-Saving sketches). The states of
all partitions are merged whole: there is no error from taking only the best of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chronik.search.aggregations.base import Aggregation, Bucket, Group, Result
from chronik.search.dates import format_date
from chronik.search.document import Document
from chronik.search.fields import Field
from chronik.search.match import Scope
from chronik.search.sorting import rank
from chronik.search.values import Key, keys_of

KEPT = 16_384

Order = Sequence[tuple[str, bool]]
"""`_count`, `_key` or a path to a number within; whether the greatest comes first."""


class Terms:
    """Buckets by key, how many values there were in all, and how many a key that is not here may have had."""

    __slots__ = ("buckets", "error", "total")

    def __init__(self) -> None:
        self.buckets: dict[object, Bucket] = {}
        self.total = 0
        self.error = 0


class TermsAggregation(Aggregation[Terms]):
    """The values of a field, each with its records."""

    def __init__(
        self,
        field: Field,
        within: Group,
        size: int,
        order: Order,
        least: int,
        missing: Key | None,
        wanted: Callable[[Key], bool] | None,
        show_error: bool,
        kept: int = KEPT,
    ) -> None:
        self._read = keys_of(field)
        self._is_date = field.kind == "date"
        self._within = within
        self._size = size
        self._order = order
        self._least = least
        self._missing = missing
        self._wanted = wanted
        self._show_error = show_error
        self._kept = max(kept, size)

    def start(self) -> Terms:
        return Terms()

    def add(self, state: Terms, document: Document, scope: Scope) -> None:
        keys = self._read(document, scope)
        if not keys:
            if self._missing is None:
                return
            keys = [self._missing]
        for key in keys if len(keys) == 1 else dict.fromkeys(map(inner, keys)):
            if self._wanted is not None and not self._wanted(outer(key)):
                continue
            key = inner(key)
            bucket = state.buckets.get(key)
            if bucket is None:
                bucket = state.buckets[key] = self._within.bucket()
                if len(state.buckets) > 2 * self._kept:
                    self._forget(state)
            state.total += 1
            self._within.add_to(bucket, document, scope)

    def merge(self, state: Terms, other: Terms) -> None:
        self._within.merge_buckets(state.buckets, other.buckets)
        state.total += other.total
        state.error += other.error
        if len(state.buckets) > 2 * self._kept:
            self._forget(state)

    def pack(self, state: Terms) -> object:
        buckets = [[outer(key), self._within.pack_bucket(bucket)] for key, bucket in state.buckets.items()]
        return [buckets, state.total, state.error]

    def unpack(self, data: Any) -> Terms:
        state = Terms()
        state.buckets = {inner(key): self._within.unpack_bucket(bucket) for key, bucket in data[0]}
        state.total, state.error = data[1], data[2]
        return state

    def result(self, state: Terms) -> Result:
        found = [(outer(key), bucket) for key, bucket in state.buckets.items() if bucket.count >= self._least]
        shown = ordered(found, self._order, self._within)[: self._size]
        return {
            "doc_count_error_upper_bound": state.error,
            "sum_other_doc_count": max(state.total - sum(bucket.count for _, bucket in shown), 0),
            "buckets": [self._shown(key, bucket, state.error) for key, bucket in shown],
        }

    def _shown(self, key: Key, bucket: Bucket, error: int) -> Result:
        shown: Result = {"key": int(key) if isinstance(key, bool) else key}
        if isinstance(key, bool):
            shown["key_as_string"] = "true" if key else "false"
        elif self._is_date and isinstance(key, int):
            shown["key_as_string"] = format_date(key)
        if self._show_error:
            shown["doc_count_error_upper_bound"] = error
        return shown | self._within.result_of(bucket)

    def _forget(self, state: Terms) -> None:
        """Keep the `kept` largest buckets."""
        largest = sorted(state.buckets.items(), key=lambda item: -item[1].count)
        state.error += largest[self._kept][1].count
        self._within.budget.give_back(len(largest) - self._kept)
        state.buckets = dict(largest[: self._kept])


def inner(key: Any) -> Any:
    """A key for a dict, in which true is not 1."""
    return ("boolean", key) if isinstance(key, bool) else key


def outer(key: Any) -> Any:
    """The key as it was."""
    return key[1] if isinstance(key, tuple) else key


def ordered(found: list[tuple[Key, Bucket]], order: Order, within: Group) -> list[tuple[Key, Bucket]]:
    """Buckets in order, and where that leaves it open by their keys."""
    found = sorted(found, key=lambda item: rank(item[0]))
    for name, descending in reversed(order):
        if name == "_key":
            found.sort(key=lambda item: rank(item[0]), reverse=descending)
        elif name == "_count":
            found.sort(key=lambda item: -item[1].count if descending else item[1].count)
        else:
            sign = -1.0 if descending else 1.0
            metrics = [within.metric(bucket, name) for _, bucket in found]
            places = sorted(
                range(len(found)), key=lambda at: (1, 0.0) if (value := metrics[at]) is None else (0, sign * value)
            )
            found = [found[at] for at in places]
    return found
