"""Client quotas: how much a client may send, take or have worked for it, and how long it has to pause beyond that.

A quota belongs to an entity: a user, a client id, both, or the default of any of these. The most particular one that fits
counts, and those it is for share it: all connections of a user, say, or each client id by itself. Kafka's order is kept::

    user and client id > user and any client id > user > any user and client id > any user and any client id > any user >
    client id > any client id

What is measured is a rate over the last `samples` windows of `window_ms`. Above its quota, a client pauses for as long as it
takes until the rate is within it again: `excess / quota`. Nothing is refused, it only takes its time (KIP-124, KIP-219).
Creating and deleting topics has a quota of another kind (`chronik.broker.mutation_quota`).

Pure: the time is an argument, in ms.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TypeVar

from chronik.broker.mutation_quota import MutationQuota, NoMutationQuota, TokenBucket
from chronik.model import (
    CLIENT_ID,
    CONNECTION_CREATION_RATE,
    CONSUMER_BYTE_RATE,
    CONTROLLER_MUTATION_RATE,
    IP,
    PRODUCER_BYTE_RATE,
    REQUEST_PERCENTAGE,
    USER,
    QuotaEntity,
)

MAX_METERS = 20_000
"""Rates that are kept; of more clients than that the one used longest ago is forgotten, and begins anew."""
OF_REQUESTS = (PRODUCER_BYTE_RATE, CONSUMER_BYTE_RATE, REQUEST_PERCENTAGE)
_KINDS = (*OF_REQUESTS, CONNECTION_CREATION_RATE, CONTROLLER_MUTATION_RATE)
_NO_LIMIT = math.inf
_NO_MUTATION_QUOTA = NoMutationQuota()
_Key = tuple[str, str | None, str | None]
_T = TypeVar("_T")


class Rate:
    """A sum by windows of time, of which the last `samples` count. Source: Kafka's SampledStat and Rate."""

    __slots__ = ("_sums", "_window_ms")

    def __init__(self, samples: int, window_ms: int) -> None:
        self._window_ms = window_ms
        self._sums: list[list[float]] = [[-math.inf, 0.0] for _ in range(samples)]  # start of the window, sum

    def add(self, value: float, now_ms: float) -> None:
        """`value` more at this time."""
        newest = self._sums[-1]
        if now_ms - newest[0] >= self._window_ms:
            self._sums.pop(0)
            self._sums.append([now_ms, value])
        else:
            newest[1] += value

    def measure(self, now_ms: float) -> tuple[float, float]:
        """What came within the windows that still count, and over how many ms that was: all of them but one, at least."""
        oldest_allowed = now_ms - self._window_ms * len(self._sums)
        counted = [each for each in self._sums if each[0] > oldest_allowed]
        elapsed = now_ms - counted[0][0] if counted else 0.0
        missing = len(self._sums) - 1 - int(elapsed / self._window_ms)
        return sum(each[1] for each in counted), max(elapsed + max(missing, 0) * self._window_ms, 1.0)


class Quotas:
    """The quotas of one node. `samples` windows of `window_ms` each are measured."""

    def __init__(self, samples: int, window_ms: int) -> None:
        self._samples = samples
        self._window_ms = window_ms
        self._limits: dict[str, dict[QuotaEntity, float]] = {kind: {} for kind in _KINDS}
        self._meters: OrderedDict[_Key, Rate] = OrderedDict()
        self._buckets: OrderedDict[_Key, TokenBucket] = OrderedDict()

    def configure(self, quotas: Mapping[QuotaEntity, Mapping[str, float]]) -> set[str]:
        """Enforce these from now on, and no others; which kinds there are."""
        self._limits = {
            kind: {entity: values[kind] for entity, values in quotas.items() if kind in values} for kind in _KINDS
        }
        return {kind for kind, limits in self._limits.items() if limits}

    def limit(self, kind: str, user: str, client_id: str) -> tuple[float, str | None, str | None]:
        """(quota a second, user and client id whose rate it is for); infinity where there is none."""
        limits = self._limits[kind]
        if not limits:
            return _NO_LIMIT, None, None
        for names, shared_by in (
            ({USER: user, CLIENT_ID: client_id}, (user, client_id)),
            ({USER: user, CLIENT_ID: None}, (user, client_id)),
            ({USER: user}, (user, None)),
            ({USER: None, CLIENT_ID: client_id}, (user, client_id)),
            ({USER: None, CLIENT_ID: None}, (user, client_id)),
            ({USER: None}, (user, None)),
            ({CLIENT_ID: client_id}, (None, client_id)),
            ({CLIENT_ID: None}, (None, client_id)),
        ):
            found = limits.get(tuple(sorted(names.items())))
            if found is not None:
                return found, *shared_by
        return _NO_LIMIT, None, None

    def record(self, kind: str, user: str, client_id: str, value: float, now_ms: float, longest_ms: float) -> int:
        """Note that a client used `value`; returns how long it has to pause in ms, at most `longest_ms`."""
        limit, shared_user, shared_id = self.limit(kind, user, client_id)
        if limit == _NO_LIMIT:
            return 0
        return self._use(self._meter(kind, shared_user, shared_id), limit, value, now_ms, longest_ms)

    def connect(self, address: str, now_ms: float, longest_ms: float) -> int:
        """An address opened a connection: 0, or the pause in ms after which it may; then it isn't counted."""
        limits = self._limits[CONNECTION_CREATION_RATE]
        limit = limits.get(((IP, address),), limits.get(((IP, None),), _NO_LIMIT))
        if limit == _NO_LIMIT:
            return 0
        meter = self._meter(CONNECTION_CREATION_RATE, None, address)
        pause = self._use(meter, limit, 1, now_ms, longest_ms)
        if pause:
            meter.add(-1, now_ms)
        return pause

    def _use(self, rate: Rate, limit: float, value: float, now_ms: float, longest_ms: float) -> int:
        rate.add(value, now_ms)
        used, over_ms = rate.measure(now_ms)
        allowed = limit * over_ms / 1000
        if used <= allowed:
            return 0
        return round(min((used - allowed) / limit * 1000, longest_ms))

    def take_back(self, kind: str, user: str, client_id: str, value: float, now_ms: float) -> None:
        """What `record` noted was not given to the client after all."""
        limit, shared_user, shared_id = self.limit(kind, user, client_id)
        if limit != _NO_LIMIT:
            self._meter(kind, shared_user, shared_id).add(-value, now_ms)

    def most(self, kind: str, user: str, client_id: str) -> float:
        """The most that can be used at once without having to pause for it in any case."""
        limit = self.limit(kind, user, client_id)[0]
        return limit * (self._samples - 1) * self._window_ms / 1000 if self._samples > 1 else limit

    def mutations(
        self, user: str, client_id: str, strict: bool, seconds: float, now_ms: Callable[[], float]
    ) -> MutationQuota | NoMutationQuota:
        """What a request of a client may create and delete. A quiet client saves up what its quota gives in `seconds`."""
        rate, shared_user, shared_id = self.limit(CONTROLLER_MUTATION_RATE, user, client_id)
        if rate == _NO_LIMIT:
            return _NO_MUTATION_QUOTA
        burst = rate * seconds
        key = (CONTROLLER_MUTATION_RATE, shared_user, shared_id)
        bucket = _kept(self._buckets, key, lambda: TokenBucket(burst, now_ms()))
        return MutationQuota(bucket, rate, burst, strict, now_ms)

    def _meter(self, kind: str, user: str | None, client_id: str | None) -> Rate:
        return _kept(self._meters, (kind, user, client_id), lambda: Rate(self._samples, self._window_ms))


def _kept(store: OrderedDict[_Key, _T], key: _Key, make: Callable[[], _T]) -> _T:
    """What is kept for `key`, made where there is nothing; then the one used longest ago is forgotten if there are too many."""
    found = store.get(key)
    if found is None:
        if len(store) >= MAX_METERS:
            store.popitem(last=False)
        found = store[key] = make()
    else:
        store.move_to_end(key)
    return found
