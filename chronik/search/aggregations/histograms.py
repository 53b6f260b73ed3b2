"""Buckets of equal width: `histogram` over numbers, `date_histogram` over time, by fixed or by calendar intervals.

A bucket's key is where it begins. With `min_doc_count` 0 the empty buckets between the first and the last are there, too, and
those within `extended_bounds`; how many in all is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, timedelta, tzinfo
from typing import Any

from chronik.search.aggregations.base import Aggregation, Bucket, Group, Result
from chronik.search.aggregations.terms import Order, ordered
from chronik.search.dates import at, format_date, next_start, round_down
from chronik.search.document import Document
from chronik.search.fields import Field
from chronik.search.match import Scope
from chronik.search.query import QueryError
from chronik.search.values import instants_of, numbers_of

Bound = tuple[float | None, float | None]
"""From and to, both inclusive."""
Buckets = dict[int | float, Bucket]

_MILLISECOND = timedelta(milliseconds=1)


class Rounding:
    """Where the bucket of a value begins, and where the next one does."""

    def start_of(self, value: int | float) -> int | float | None:
        """The beginning of the bucket; None for a value that has none."""
        raise NotImplementedError

    def after(self, start: int | float) -> int | float:
        """The beginning of the next bucket."""
        raise NotImplementedError


class Linear(Rounding):
    """Multiples of an interval, from an offset on."""

    def __init__(self, interval: float, offset: float) -> None:
        self._interval = interval
        self._offset = offset

    def start_of(self, value: int | float) -> int | float | None:
        quotient = (value - self._offset) / self._interval
        if not math.isfinite(quotient):
            return None
        start = math.floor(quotient) * self._interval + self._offset
        return start if math.isfinite(start) else None

    def after(self, start: int | float) -> int | float:
        number = round((start - self._offset) / self._interval) + 1
        return number * self._interval + self._offset


class FixedTime(Rounding):
    """Multiples of milliseconds, by the clock of a time zone."""

    def __init__(self, interval: int, offset: int, zone: tzinfo) -> None:
        self._interval = interval
        self._offset = offset
        self._zone = zone

    def start_of(self, value: int | float) -> int | float | None:
        ms = int(value)
        shift = 0 if self._zone is UTC else _shift(ms, self._zone)
        return None if shift is None else ms - (ms + shift - self._offset) % self._interval

    def after(self, start: int | float) -> int | float:
        return start + self._interval


class CalendarTime(Rounding):
    """Calendar units of a time zone. What is beyond the years 1 to 9999 has no bucket."""

    def __init__(self, unit: str, offset: int, zone: tzinfo) -> None:
        self._unit = unit
        self._offset = offset
        self._zone = zone
        self._first, self._next = 0, 0  # records come mostly in the order of time

    def start_of(self, value: int | float) -> int | float | None:
        ms = int(value) - self._offset
        if not self._first <= ms < self._next:
            try:
                first = round_down(ms, self._unit, self._zone)
                self._first, self._next = first, next_start(first, self._unit, self._zone)
            except (OverflowError, ValueError):
                return None
        return self._first + self._offset

    def after(self, start: int | float) -> int | float:
        return next_start(int(start) - self._offset, self._unit, self._zone) + self._offset


def _shift(ms: int, zone: tzinfo) -> int | None:
    try:
        return (at(ms, zone).utcoffset() or timedelta()) // _MILLISECOND
    except (OverflowError, ValueError):
        return None


class Histogram(Aggregation[Buckets]):
    """Buckets of a field's values, by where they begin."""

    def __init__(
        self,
        field: Field,
        within: Group,
        rounding: Rounding,
        write: Callable[[int | float], str] | None,
        least: int,
        keyed: bool,
        order: Order,
        missing: int | float | None,
        extended: Bound = (None, None),
        hard: Bound = (None, None),
        dates: bool = False,
    ) -> None:
        self._read: Callable[[Document, Scope], list[Any]] = instants_of(field) if dates else numbers_of(field)
        self._within = within
        self._rounding = rounding
        self._write = write
        self._least = least
        self._keyed = keyed
        self._order = order
        self._missing = missing
        self._extended = extended
        self._hard = hard

    def start(self) -> Buckets:
        return {}

    def add(self, state: Buckets, document: Document, scope: Scope) -> None:
        values = self._read(document, scope)
        if not values:
            if self._missing is None:
                return
            values = [self._missing]
        starts = [self._rounding.start_of(value) for value in values if self._is_within(value)]
        for start in starts if len(starts) == 1 else dict.fromkeys(starts):
            if start is None:
                continue
            bucket = state.get(start)
            if bucket is None:
                bucket = state[start] = self._within.bucket()
            self._within.add_to(bucket, document, scope)

    def merge(self, state: Buckets, other: Buckets) -> None:
        self._within.merge_buckets(state, other)

    def pack(self, state: Buckets) -> object:
        return [[start, self._within.pack_bucket(bucket)] for start, bucket in state.items()]

    def unpack(self, data: Any) -> Buckets:
        return {start: self._within.unpack_bucket(bucket) for start, bucket in data}

    def result(self, state: Buckets) -> Result:
        found = sorted(state.items()) if self._least else list(self._filled(state))
        shown = [item for item in found if item[1].count >= self._least]
        if self._order:
            shown = ordered(shown, self._order, self._within)  # type: ignore[assignment, arg-type]
        results = [self._shown(start, bucket) for start, bucket in shown]
        if self._keyed:
            return {"buckets": {str(one.get("key_as_string", one["key"])): one for one in results}}
        return {"buckets": results}

    def _shown(self, start: int | float, bucket: Bucket) -> Result:
        shown: Result = {} if self._write is None else {"key_as_string": self._write(start)}
        return shown | {"key": start} | self._within.result_of(bucket)

    def _filled(self, state: Buckets) -> Iterator[tuple[int | float, Bucket]]:
        """The buckets, and the empty ones between them."""
        first, last = self._ends(state)
        if first is None or last is None:
            return
        start, count = first, 0
        while start <= last:
            bucket = state.get(start)
            if bucket is None:
                bucket = self._within.bucket()
            yield start, bucket
            count += 1
            try:
                start = self._rounding.after(start)
            except (OverflowError, ValueError):  # time ends
                return

    def _ends(self, state: Buckets) -> tuple[int | float | None, int | float | None]:
        bounds = [None if bound is None else self._rounding.start_of(bound) for bound in self._extended]
        if state:
            low, high = min(state), max(state)
            first = low if bounds[0] is None else min(low, bounds[0])
            last = high if bounds[1] is None else max(high, bounds[1])
            return first, last
        return bounds[0], bounds[1]

    def _is_within(self, value: int | float) -> bool:
        low, high = self._hard
        return (low is None or value >= low) and (high is None or value <= high)


def date_writer(formats: str | None, zone: tzinfo) -> Callable[[int | float], str]:
    """How an instant is written: ISO 8601, or as epoch milliseconds or seconds. Raises QueryError."""
    match (formats or "strict_date_optional_time").split("||")[0]:
        case "epoch_millis":
            return lambda ms: str(int(ms))
        case "epoch_second":
            return lambda ms: str(int(ms) // 1000)
        case "strict_date_optional_time" | "date_optional_time" | "strict_date_time" | "date_time":
            return lambda ms: format_date(int(ms), zone)
    raise QueryError(f"`{formats:.50}` is not supported: strict_date_optional_time, epoch_millis and epoch_second are")
