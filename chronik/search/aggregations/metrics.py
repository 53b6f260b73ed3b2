"""Numbers about numbers: count, min, max, sum, average, variance."""

from __future__ import annotations

import math

from chronik.search.aggregations.base import Aggregation, Result
from chronik.search.dates import format_date
from chronik.search.document import Document
from chronik.search.fields import Field
from chronik.search.match import Scope
from chronik.search.query import QueryError
from chronik.search.values import as_double, keys_of, numbers_of

_LARGEST_PACKED = 1 << 63


class Numbers:
    """What is kept of some numbers. Sums of ints are exact."""

    __slots__ = ("count", "greatest", "least", "squares", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.sum: int | float = 0
        self.least: int | float = math.inf
        self.greatest: int | float = -math.inf
        self.squares = 0.0


class Metric(Aggregation[Numbers]):
    """One or all of the numbers about the values of a field. `missing` counts for a record without a value."""

    NAMES = ("min", "max", "sum", "avg", "stats", "extended_stats")

    def __init__(self, name: str, field: Field, missing: float | None = None, sigma: float = 2.0) -> None:
        self._name = name
        self._read = numbers_of(field)
        self._is_date = field.kind == "date"
        self._missing = missing
        self._sigma = sigma

    def start(self) -> Numbers:
        return Numbers()

    def add(self, state: Numbers, document: Document, scope: Scope) -> None:
        values = self._read(document, scope)
        if not values:
            if self._missing is None:
                return
            values = [self._missing]
        for value in values:
            state.count += 1
            state.sum += value
            if value < state.least:
                state.least = value
            if value > state.greatest:
                state.greatest = value
            state.squares += as_double(value) ** 2 if -1e150 < value < 1e150 else math.inf

    def merge(self, state: Numbers, other: Numbers) -> None:
        state.count += other.count
        state.sum += other.sum
        state.least = min(state.least, other.least)
        state.greatest = max(state.greatest, other.greatest)
        state.squares += other.squares

    def pack(self, state: Numbers) -> object:
        total = state.sum if abs(state.sum) < _LARGEST_PACKED else as_double(state.sum)
        return [state.count, total, state.least, state.greatest, state.squares]

    def unpack(self, data: list[int | float]) -> Numbers:
        state = Numbers()
        state.count = int(data[0])
        state.sum, state.least, state.greatest, state.squares = data[1:]
        return state

    def result(self, state: Numbers) -> Result:
        everything = self._everything(state)
        if self._name in ("stats", "extended_stats"):
            return everything
        found: Result = {"value": everything[self._name]}
        if self._is_date and self._name in ("min", "max", "avg") and state.count:
            found["value_as_string"] = format_date(math.floor(self.metric(state, self._name) or 0))
        return found

    def metric(self, state: Numbers, name: str) -> float | None:
        everything = self._everything(state)
        if not name and self._name not in ("stats", "extended_stats"):
            name = self._name
        if name == "value":
            name = self._name
        value = everything.get(name, self)
        if value is self or isinstance(value, dict):
            raise QueryError(f"`{name:.50}` is no number of {self._name}")
        return value  # type: ignore[return-value]

    def _everything(self, state: Numbers) -> Result:
        count = state.count
        found: Result = {
            "count": count,
            "min": as_double(state.least) if count else None,
            "max": as_double(state.greatest) if count else None,
            "avg": as_double(state.sum) / count if count else None,
            "sum": as_double(state.sum),
        }
        if self._name == "extended_stats":
            found |= self._spread(state)
        return found

    def _spread(self, state: Numbers) -> Result:
        count, total, squares = state.count, as_double(state.sum), as_double(state.squares)
        names = ("variance", "variance_population", "variance_sampling", "std_deviation", "std_deviation_population",
                 "std_deviation_sampling")  # fmt: skip
        found: Result = {"sum_of_squares": squares if count else None, **dict.fromkeys(names)}
        bounds: Result = dict.fromkeys(("upper", "lower"))
        if count:
            off = max(squares - total * total / count, 0.0) if math.isfinite(total * total) else 0.0
            population = off / count
            sampling = off / (count - 1) if count > 1 else None
            deviation = math.sqrt(population)
            values = (
                population,
                population,
                sampling,
                deviation,
                deviation,
                None if sampling is None else math.sqrt(sampling),
            )
            found |= dict(zip(names, values, strict=True))
            bounds = {
                "upper": total / count + self._sigma * deviation,
                "lower": total / count - self._sigma * deviation,
            }
        return found | {"std_deviation_bounds": bounds}


class ValueCount(Aggregation[list[int]]):
    """How many values there are, of any type."""

    def __init__(self, field: Field) -> None:
        self._read = keys_of(field)

    def start(self) -> list[int]:
        return [0]

    def add(self, state: list[int], document: Document, scope: Scope) -> None:
        state[0] += len(self._read(document, scope))

    def merge(self, state: list[int], other: list[int]) -> None:
        state[0] += other[0]

    def result(self, state: list[int]) -> Result:
        return {"value": state[0]}

    def metric(self, state: list[int], name: str) -> float | None:
        if name not in ("", "value"):
            raise QueryError(f"`{name:.50}` is no number of value_count")
        return state[0]
