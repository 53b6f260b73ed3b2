"""Percentiles and distinct counts: exact while there are few values, then by sketches of bounded size.

Sketches are those of Apache DataSketches: t-digest (Dunning and Ertl, 2019) and HyperLogLog (Flajolet et al., 2007). The result
of a t-digest depends a little on the order in which states are merged. The library, which loads numpy, is imported when it is
first needed: in workers.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from chronik.search.aggregations.base import Aggregation, Result
from chronik.search.document import Document
from chronik.search.fields import Field
from chronik.search.match import Scope
from chronik.search.query import QueryError
from chronik.search.values import Key, as_double, keys_of, numbers_of

if TYPE_CHECKING:
    from datasketches import hll_sketch, tdigest_double

EXACT_VALUES = 1000
"""So many values of a field are kept as they are for percentiles."""
DEFAULT_PERCENTS = (1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0)
HLL_BITS = 14
"""The standard error of a distinct count is 1.04 / sqrt(2**14), 0.8 %."""
MAX_PRECISION = 40_000
_ALL_BUT_SIGN = (1 << 63) - 1


class Spread:
    """Numbers: all of them, or a digest."""

    __slots__ = ("digest", "values")

    def __init__(self) -> None:
        self.values: list[float] = []
        self.digest: tdigest_double | None = None


class Percentiles(Aggregation[Spread]):
    """The values below which so many percent of the numbers are; or, with `ranks`, how many percent are not above each."""

    def __init__(
        self, field: Field, points: tuple[float, ...], keyed: bool, missing: float | None, compression: int, ranks: bool
    ) -> None:
        self._read = numbers_of(field)
        self._points = points
        self._keyed = keyed
        self._missing = missing
        self._compression = compression
        self._ranks = ranks

    def start(self) -> Spread:
        return Spread()

    def add(self, state: Spread, document: Document, scope: Scope) -> None:
        values = self._read(document, scope) or (() if self._missing is None else (self._missing,))
        for value in values:
            if state.digest is not None:
                state.digest.update(as_double(value))
            else:
                state.values.append(as_double(value))
                if len(state.values) > EXACT_VALUES:
                    self._to_digest(state)

    def merge(self, state: Spread, other: Spread) -> None:
        if state.digest is None and other.digest is None and len(state.values) + len(other.values) <= EXACT_VALUES:
            state.values += other.values
            return
        digest = state.digest or self._to_digest(state)
        if other.digest is not None:
            digest.merge(other.digest)
        else:
            for value in other.values:
                digest.update(value)

    def pack(self, state: Spread) -> object:
        return state.values if state.digest is None else state.digest.serialize()

    def unpack(self, data: Any) -> Spread:
        state = Spread()
        if isinstance(data, bytes):
            from datasketches import tdigest_double

            state.digest = tdigest_double.deserialize(data)
        else:
            state.values = [float(value) for value in data]
        return state

    def result(self, state: Spread) -> Result:
        pairs = [(point, self._at(state, point)) for point in self._points]
        if self._keyed:
            return {"values": {str(point): value for point, value in pairs}}
        return {"values": [{"key": point, "value": value} for point, value in pairs]}

    def metric(self, state: Spread, name: str) -> float | None:
        try:
            return self._at(state, float(name))
        except ValueError:
            raise QueryError(f"`{name:.50}` is no percentile: name[95] is one") from None

    def _at(self, state: Spread, point: float) -> float | None:
        if state.digest is not None:
            if self._ranks:
                return float(state.digest.get_rank(point)) * 100.0
            return _quantile(state.digest, point / 100.0)
        values = sorted(state.values)
        if not values:
            return None
        if self._ranks:
            return bisect_right(values, point) * 100.0 / len(values)
        place = (len(values) - 1) * point / 100.0
        low = math.floor(place)
        high = min(low + 1, len(values) - 1)
        return (
            values[low] if values[low] == values[high] else values[low] + (values[high] - values[low]) * (place - low)
        )

    def _to_digest(self, state: Spread) -> tdigest_double:
        from datasketches import tdigest_double

        digest = state.digest = tdigest_double(self._compression)
        for value in state.values:
            digest.update(value)
        state.values = []
        return digest


def _quantile(digest: tdigest_double, rank: float) -> float:
    """The value of a rank, found by halving over all doubles.

    The library's own `get_quantile` is off by up to 2.6 % of the ranks, `get_rank` by 0.04 % (20,000 values, compression 100).
    """
    low, high = _ordinal(digest.get_min_value()), _ordinal(digest.get_max_value())
    if rank <= 0.0 or rank >= 1.0:
        return _double(low if rank <= 0.0 else high)
    while low < high:
        middle = (low + high) // 2
        if digest.get_rank(_double(middle)) < rank:
            low = middle + 1
        else:
            high = middle
    return _double(high)


def _ordinal(number: float) -> int:
    """Which of all doubles it is, in their order; 0 is 0."""
    (bits,) = struct.unpack("<q", struct.pack("<d", number))
    return int(bits) if bits >= 0 else -(int(bits) & _ALL_BUT_SIGN)


def _double(ordinal: int) -> float:
    (number,) = struct.unpack("<d", struct.pack("<q", abs(ordinal)))
    return float(number) if ordinal >= 0 else -float(number)


class Distinct:
    """Hashes: all of them, or a sketch."""

    __slots__ = ("hashes", "sketch")

    def __init__(self) -> None:
        self.hashes: set[int] = set()
        self.sketch: hll_sketch | None = None


class Cardinality(Aggregation[Distinct]):
    """How many distinct values a field has. Exact up to `precision` of them."""

    def __init__(self, field: Field, precision: int, missing: Key | None) -> None:
        self._read = keys_of(field)
        self._precision = precision
        self._missing = missing

    def start(self) -> Distinct:
        return Distinct()

    def add(self, state: Distinct, document: Document, scope: Scope) -> None:
        keys = self._read(document, scope) or ([] if self._missing is None else [self._missing])
        for key in keys:
            self._note(state, _hash(key))

    def merge(self, state: Distinct, other: Distinct) -> None:
        if other.sketch is None:
            for number in other.hashes:
                self._note(state, number)
            return
        from datasketches import HLL_8, hll_union

        union = hll_union(HLL_BITS)
        union.update(state.sketch or self._to_sketch(state))
        union.update(other.sketch)
        state.sketch = union.get_result(HLL_8)

    def pack(self, state: Distinct) -> object:
        return sorted(state.hashes) if state.sketch is None else state.sketch.serialize_compact()

    def unpack(self, data: Any) -> Distinct:
        state = Distinct()
        if isinstance(data, bytes):
            from datasketches import hll_sketch

            state.sketch = hll_sketch.deserialize(data)
        else:
            state.hashes = set(data)
        return state

    def result(self, state: Distinct) -> Result:
        return {"value": self._count(state)}

    def metric(self, state: Distinct, name: str) -> float | None:
        if name not in ("", "value"):
            raise QueryError(f"`{name:.50}` is no number of cardinality")
        return self._count(state)

    def _count(self, state: Distinct) -> int:
        return len(state.hashes) if state.sketch is None else round(state.sketch.get_estimate())

    def _note(self, state: Distinct, number: int) -> None:
        if state.sketch is not None:
            state.sketch.update(number)
            return
        state.hashes.add(number)
        if len(state.hashes) > self._precision:
            self._to_sketch(state)

    def _to_sketch(self, state: Distinct) -> hll_sketch:
        from datasketches import HLL_8, hll_sketch

        sketch = state.sketch = hll_sketch(HLL_BITS, HLL_8)
        for number in state.hashes:
            sketch.update(number)
        state.hashes = set()
        return sketch


def _hash(key: Key) -> int:
    """63 bits: the sketch takes signed integers."""
    kind = b"b" if isinstance(key, bool) else b"s" if isinstance(key, str) else b"n"
    text = key if isinstance(key, str) else repr(key)
    return int.from_bytes(blake2b(kind + text.encode(), digest_size=8).digest(), "big") >> 1
