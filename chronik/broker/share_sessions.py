"""Share sessions: which partitions a member of a share group fetches from this node, said once and then only what changes.

A session belongs to a member and to its connection, and ends with the connection: what the member has then is free for others.
Each request carries the session's epoch, the next in turn; so one that comes late or twice is known.

Pure. Sources: KIP-932; the checks and codes of Kafka 4.1.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple

from chronik.errors import ErrorCode, KafkaError
from chronik.model import PartitionId, Uuid

INITIAL_EPOCH = 0
FINAL_EPOCH = -1
_MAX_EPOCH = 2**31 - 1
MAX_SESSION_PARTITIONS = 20_000
"""Partitions that one session may have; each takes some 300 bytes."""


class Sharer(NamedTuple):
    """A member of a share group, as its session knows it."""

    group_id: str
    member_id: Uuid


class _Session:
    __slots__ = ("connection", "epoch", "partitions")

    def __init__(self, connection: Hashable, partitions: Iterable[PartitionId]) -> None:
        self.connection = connection
        self.epoch = 1
        self.partitions: dict[PartitionId, bool] = dict.fromkeys(partitions, False)
        """In order, whether each is to be in the next answer whatever there is of it."""


class ShareRound:
    """One request of a session: what to fetch, in order, and what of the result to send."""

    __slots__ = ("_session", "full", "targets")

    def __init__(self, session: _Session, targets: list[PartitionId], full: bool) -> None:
        self._session = session
        self.targets = targets
        self.full = full

    def select(self, target: PartitionId, error: int, has_records: bool) -> bool:
        """Whether the result for `target` belongs into the answer. One that has sent records goes to the end of the order."""
        partitions = self._session.partitions
        if self.full:
            return True
        must = has_records or error != 0 or partitions.get(target, False)
        if target in partitions:
            if has_records:
                del partitions[target]
            partitions[target] = error != 0
        return must


class ShareSessions:
    """The sessions of one node, at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sessions: dict[Sharer, _Session] = {}
        self._connections: dict[Hashable, set[Sharer]] = {}
        self._members: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def has_members(self, group_id: str) -> bool:
        """Whether any member of a group has a session here."""
        return group_id in self._members

    def fetch(
        self,
        sharer: Sharer,
        epoch: int,
        wanted: Iterable[PartitionId],
        forgotten: Iterable[PartitionId],
        acknowledges: bool,
        connection: Hashable,
    ) -> ShareRound | None:
        """The round for a ShareFetch; None for the last request of a session, which fetches nothing.

        Raises KafkaError: SHARE_SESSION_NOT_FOUND, INVALID_SHARE_SESSION_EPOCH, SHARE_SESSION_LIMIT_REACHED;
        INVALID_REQUEST where the first request acknowledges something.
        """
        if epoch == INITIAL_EPOCH:
            if acknowledges:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "the first request of a share session acknowledges nothing")
            self._drop(sharer)
            session = self._open(sharer, wanted, connection)
            return ShareRound(session, list(session.partitions), full=True)
        session = self._known(sharer)
        if epoch == FINAL_EPOCH:
            return None
        self._check_epoch(session, epoch)
        for target in wanted:
            session.partitions.setdefault(target, True)
        for target in forgotten:
            session.partitions.pop(target, None)
        if len(session.partitions) > MAX_SESSION_PARTITIONS:
            self._drop(sharer)
            raise KafkaError(
                ErrorCode.SHARE_SESSION_NOT_FOUND, f"a share session has at most {MAX_SESSION_PARTITIONS} partitions"
            )
        session.epoch = _next(epoch)
        targets = list(session.partitions)
        turn = epoch % len(targets) if targets else 0
        return ShareRound(session, targets[turn:] + targets[:turn], full=False)

    def acknowledge(self, sharer: Sharer, epoch: int) -> None:
        """Take the epoch of a ShareAcknowledge. Raises KafkaError: SHARE_SESSION_NOT_FOUND, INVALID_SHARE_SESSION_EPOCH."""
        if epoch == INITIAL_EPOCH:
            raise KafkaError(ErrorCode.INVALID_SHARE_SESSION_EPOCH, "a share session begins with a ShareFetch")
        session = self._known(sharer)
        if epoch != FINAL_EPOCH:
            self._check_epoch(session, epoch)
            session.epoch = _next(epoch)

    def close(self, sharer: Sharer) -> bool:
        """End a session; whether there was one."""
        return self._drop(sharer)

    def disconnected(self, connection: Hashable) -> list[Sharer]:
        """A connection is gone; whose sessions ended with it."""
        return [sharer for sharer in list(self._connections.get(connection, ())) if self._drop(sharer)]

    def _known(self, sharer: Sharer) -> _Session:
        session = self._sessions.get(sharer)
        if session is None:
            raise KafkaError(
                ErrorCode.SHARE_SESSION_NOT_FOUND,
                f"the member has no share session of group {sharer.group_id:.200} here",
            )
        return session

    def _check_epoch(self, session: _Session, epoch: int) -> None:
        if session.epoch != epoch:
            raise KafkaError(
                ErrorCode.INVALID_SHARE_SESSION_EPOCH, f"the share session is at epoch {session.epoch}, not {epoch}"
            )

    def _open(self, sharer: Sharer, wanted: Iterable[PartitionId], connection: Hashable) -> _Session:
        session = _Session(connection, wanted)
        if len(self._sessions) >= self._limit or len(session.partitions) > MAX_SESSION_PARTITIONS:
            raise KafkaError(
                ErrorCode.SHARE_SESSION_LIMIT_REACHED, f"there are {len(self._sessions)} share sessions already"
            )
        self._sessions[sharer] = session
        self._connections.setdefault(connection, set()).add(sharer)
        self._members[sharer.group_id] = self._members.get(sharer.group_id, 0) + 1
        return session

    def _drop(self, sharer: Sharer) -> bool:
        session = self._sessions.pop(sharer, None)
        if session is None:
            return False
        sharers = self._connections[session.connection]
        sharers.discard(sharer)
        if not sharers:
            del self._connections[session.connection]
        left = self._members.pop(sharer.group_id) - 1
        if left:
            self._members[sharer.group_id] = left
        return True


def _next(epoch: int) -> int:
    return 1 if epoch == _MAX_EPOCH else epoch + 1
