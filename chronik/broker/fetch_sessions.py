"""Incremental fetch sessions: a client names the partitions it reads once, then sends and gets only what changed.

`FetchSessions.begin` turns a request into the list of partitions to read; `FetchRound.select` then decides which results
belong into the answer: all of them in a full fetch, only those with records, an error or moved offsets in an incremental
one. Sessions live in a cache that is bounded in sessions and in their partitions; one that was not used for `eviction_ms`
makes room for a new one. Whoever gets no session fetches without, which costs bytes but never correctness.

Pure: ids come from an injected source, time is an argument. Source: KIP-227.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from chronik.errors import ErrorCode, KafkaError
from chronik.model import Uuid

NO_SESSION = 0
INITIAL_EPOCH = 0
FINAL_EPOCH = -1
_MAX_EPOCH = 2**31 - 1
MAX_SESSION_PARTITIONS = 20_000
MAX_CACHED_PARTITIONS = 200_000
"""Partitions of all sessions together. One takes some 500 bytes."""


class FetchTarget(NamedTuple):
    """One partition that a client wants to read, and from where. `topic` is a name, or an id from version 13 on."""

    topic: str | Uuid
    partition: int
    fetch_offset: int
    max_bytes: int
    current_leader_epoch: int
    last_fetched_epoch: int
    log_start_offset: int


class Seen(NamedTuple):
    """The offsets that a client was last told for a partition: (high watermark, log start)."""

    high_watermark: int
    log_start: int


PartitionKey = tuple[str | Uuid, int]


class _Session:
    __slots__ = ("epoch", "last_used_ms", "seen", "session_id", "targets", "uses_ids")

    def __init__(
        self, session_id: int, uses_ids: bool, targets: Mapping[PartitionKey, FetchTarget], now_ms: int
    ) -> None:
        self.session_id = session_id
        self.uses_ids = uses_ids
        self.epoch = 1
        self.last_used_ms = now_ms
        self.targets = OrderedDict(targets)
        self.seen: dict[PartitionKey, Seen] = {}


class FetchRound:
    """One request within (or without) a session: what to read, and what of the result to send."""

    __slots__ = ("_session", "full", "session_id", "targets")

    def __init__(self, session: _Session | None, targets: list[FetchTarget], full: bool) -> None:
        self._session = session
        self.session_id = session.session_id if session else NO_SESSION
        self.targets = targets
        self.full = full

    def select(self, target: FetchTarget, error: int, has_records: bool, seen: Seen) -> bool:
        """Whether the result for `target` belongs into the answer; remembers what the client is told with it.

        A partition that sent records goes to the end of the session's order, so that none starves behind a busy one.
        """
        session = self._session
        if session is None:
            return True
        key = (target.topic, target.partition)
        if error:
            session.seen.pop(key, None)  # the partition is sent again once the error is gone
            return True
        changed = has_records or session.seen.get(key) != seen
        if changed:
            session.seen[key] = seen
            if has_records and not self.full and key in session.targets:
                session.targets.move_to_end(key)
        return self.full or changed


class FetchSessions:
    """The cache of sessions of one node: at most `slots`, which have at most `partitions` together."""

    def __init__(
        self, slots: int, eviction_ms: int, new_id: Callable[[], int], partitions: int = MAX_CACHED_PARTITIONS
    ) -> None:
        self._slots = slots
        self._eviction_ms = eviction_ms
        self._new_id = new_id  # a random int in 1..2^31-1
        self._sessions: OrderedDict[int, _Session] = OrderedDict()  # least recently used first
        self._room = partitions

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(
        self,
        session_id: int,
        epoch: int,
        targets: Mapping[PartitionKey, FetchTarget],
        forgotten: Iterable[PartitionKey],
        uses_ids: bool,
        now_ms: int,
    ) -> FetchRound:
        """The round for one request.

        Raises KafkaError: FETCH_SESSION_ID_NOT_FOUND, also when the session has grown beyond its bounds,
        INVALID_FETCH_SESSION_EPOCH, or FETCH_SESSION_TOPIC_ID_ERROR when a session changes between names and ids.
        """
        if epoch in (INITIAL_EPOCH, FINAL_EPOCH):
            if session_id != NO_SESSION:
                self._drop(session_id)
            session = self._open(targets, uses_ids, now_ms) if epoch == INITIAL_EPOCH else None
            return FetchRound(session, list(targets.values()), full=True)
        session = self._sessions.get(session_id)
        if session is None:
            raise KafkaError(ErrorCode.FETCH_SESSION_ID_NOT_FOUND, f"there is no fetch session {session_id}")
        if session.epoch != epoch:
            raise KafkaError(
                ErrorCode.INVALID_FETCH_SESSION_EPOCH, f"fetch session {session_id} is at {session.epoch}, not {epoch}"
            )
        if session.uses_ids != uses_ids:
            raise KafkaError(
                ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR, "a fetch session keeps to topic names or to topic ids"
            )
        before = len(session.targets)
        session.targets.update(targets)
        for key in forgotten:
            session.targets.pop(key, None)
            session.seen.pop(key, None)
        self._room -= len(session.targets) - before
        if len(session.targets) > MAX_SESSION_PARTITIONS or self._room < 0:
            self._drop(session_id)
            raise KafkaError(
                ErrorCode.FETCH_SESSION_ID_NOT_FOUND, f"fetch session {session_id} has too many partitions"
            )
        session.epoch = 1 if epoch == _MAX_EPOCH else epoch + 1
        session.last_used_ms = now_ms
        self._sessions.move_to_end(session_id)
        return FetchRound(session, list(session.targets.values()), full=False)

    def _open(self, targets: Mapping[PartitionKey, FetchTarget], uses_ids: bool, now_ms: int) -> _Session | None:
        """A new session, or None when the cache is full of ones in use: the client then fetches without."""
        if len(targets) > MAX_SESSION_PARTITIONS:
            return None
        while len(self._sessions) >= self._slots or len(targets) > self._room:
            oldest = next(iter(self._sessions.values()), None)
            if oldest is None or now_ms - oldest.last_used_ms < self._eviction_ms:
                return None
            self._drop(oldest.session_id)
        session_id = self._new_id()
        while session_id in self._sessions or session_id == NO_SESSION:
            session_id = self._new_id()
        session = self._sessions[session_id] = _Session(session_id, uses_ids, targets, now_ms)
        self._room -= len(session.targets)
        return session

    def _drop(self, session_id: int) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._room += len(session.targets)
