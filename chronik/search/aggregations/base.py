"""What every aggregation can do, and the buckets that some of them make.

An aggregation is what was asked for; what it has counted so far is its **state**, which it alone understands: it starts one,
adds records to it, merges another of its states into it, and makes a result of it. `pack` makes plain data of a state, for
msgpack, and `unpack` a state of that again. So a worker counts its partitions, and the node merges and finishes.

A `Group` is several aggregations under their names. Buckets hold a count and the states of a group: the aggregations within.
How many buckets there may be in all is bounded by a `Budget`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from chronik.search.document import Document
from chronik.search.match import Scope
from chronik.search.query import QueryError

State = TypeVar("State")
Result = dict[str, object]


class TooManyBuckets(QueryError):
    """The aggregations make more buckets than are allowed."""


class Budget:
    """How many buckets may still be made."""

    __slots__ = ("left", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.left = limit

    def take(self, count: int = 1) -> None:
        """Make so many. Raises TooManyBuckets."""
        self.left -= count
        if self.left < 0:
            raise TooManyBuckets(f"the aggregations make more than {self.limit} buckets", path="aggs")

    def give_back(self, count: int) -> None:
        """So many are no more."""
        self.left += count


class Aggregation(ABC, Generic[State]):
    """One aggregation. States are changed in place."""

    @abstractmethod
    def start(self) -> State:
        """The state of no records."""

    @abstractmethod
    def add(self, state: State, document: Document, scope: Scope) -> None:
        """One record more."""

    @abstractmethod
    def merge(self, state: State, other: State) -> None:
        """The records of another state, which is not used any more after that."""

    @abstractmethod
    def result(self, state: State) -> Result:
        """What it comes to, as Elasticsearch says it."""

    def pack(self, state: State) -> object:
        """The state as plain data."""
        return state

    def unpack(self, data: Any) -> State:
        """The state out of plain data."""
        return data  # type: ignore[no-any-return]

    def metric(self, state: State, name: str) -> float | None:
        """A number to order buckets by; `name` is which, or empty. Raises QueryError where there is no such."""
        raise QueryError("this aggregation has no number to order by")


class Bucket:
    """The records of one bucket: how many, and the states of the aggregations within."""

    __slots__ = ("count", "states")

    def __init__(self, count: int, states: list[Any]) -> None:
        self.count = count
        self.states = states


class Group:
    """Aggregations under their names, and what makes buckets of them."""

    def __init__(self, aggregations: Mapping[str, Aggregation[Any]], budget: Budget) -> None:
        self.aggregations = dict(aggregations)
        self.budget = budget
        self._all = list(self.aggregations.values())

    def start(self) -> list[Any]:
        """The states of no records."""
        return [one.start() for one in self._all]

    def add(self, states: list[Any], document: Document, scope: Scope) -> None:
        """One record more, in each."""
        for one, state in zip(self._all, states, strict=True):
            one.add(state, document, scope)

    def merge(self, states: list[Any], other: list[Any]) -> None:
        """The records of other states."""
        for one, state, more in zip(self._all, states, other, strict=True):
            one.merge(state, more)

    def pack(self, states: list[Any]) -> list[object]:
        """The states as plain data."""
        return [one.pack(state) for one, state in zip(self._all, states, strict=True)]

    def unpack(self, data: list[Any]) -> list[Any]:
        """The states out of plain data."""
        return [one.unpack(packed) for one, packed in zip(self._all, data, strict=True)]

    def result(self, states: list[Any]) -> Result:
        """The results under their names."""
        return {name: one.result(state) for (name, one), state in zip(self.aggregations.items(), states, strict=True)}

    # Buckets

    def bucket(self) -> Bucket:
        """A new bucket. Raises TooManyBuckets."""
        self.budget.take()
        return Bucket(0, self.start() if self._all else [])

    def add_to(self, bucket: Bucket, document: Document, scope: Scope) -> None:
        """One record more in a bucket."""
        bucket.count += 1
        if self._all:
            self.add(bucket.states, document, scope)

    def merge_into(self, bucket: Bucket, other: Bucket) -> None:
        """The records of another bucket, too."""
        bucket.count += other.count
        self.merge(bucket.states, other.states)

    def merge_buckets(self, buckets: dict[Any, Bucket], other: dict[Any, Bucket]) -> None:
        """The buckets of another state, by their keys."""
        for key, bucket in other.items():
            mine = buckets.get(key)
            if mine is None:
                self.budget.take()
                buckets[key] = bucket
            else:
                self.merge_into(mine, bucket)

    def pack_bucket(self, bucket: Bucket) -> list[object]:
        """A bucket as plain data."""
        return [bucket.count, self.pack(bucket.states)]

    def unpack_bucket(self, data: Any) -> Bucket:
        """A bucket out of plain data."""
        return Bucket(data[0], self.unpack(data[1]))

    def result_of(self, bucket: Bucket) -> Result:
        """What a bucket is in a result, but for its key."""
        return {"doc_count": bucket.count, **self.result(bucket.states)}

    def metric(self, bucket: Bucket, path: str) -> float | None:
        """A number of an aggregation within, to order by: `name`, `name.avg` or `name[95]`. Raises QueryError."""
        name, _, rest = path.replace("[", ".", 1).partition(".")
        if name not in self.aggregations:
            raise QueryError(f"`{path:.80}` is no aggregation within this one")
        index = list(self.aggregations).index(name)
        return self._all[index].metric(bucket.states[index], rest.rstrip("]"))
