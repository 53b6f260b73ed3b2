"""The state of a continuous query as records of a compacted topic: what each is, and how it is read back.

Three kinds of keys, all of which begin with the query's id: the progress; a pane or session of a key. A tombstone takes a state
back. Whoever reads the topic up to its end, the last record of each key counting, has what the query goes on from.

Keys and values are MessagePack. A value begins with the version of its format: another one is refused, since a state that is
misunderstood would be worse than none.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from chronik.analytics.progress import Progress
from chronik.analytics.window import Kept

FORMAT = 1
_PROGRESS, _STATE = 0, 1


class StateError(ValueError):
    """A state that cannot be read: of another format, or damaged."""


class Entry(NamedTuple):
    """A record of the state topic; `value` None is a tombstone."""

    key: bytes
    value: bytes | None


class StateCodec:
    """For one query. `dump` and `load` are those of its aggregates."""

    def __init__(
        self, query_id: bytes, dump: Callable[[Any], list[Any]], load: Callable[[list[Any]], list[Any]]
    ) -> None:
        self._query_id = query_id
        self._dump = dump
        self._load = load

    def progress(self, progress: Progress) -> Entry:
        """The progress, whose offsets belong to all states that were written with it."""
        return Entry(
            _encode([self._query_id, _PROGRESS]), _encode([FORMAT, msgspec.to_builtins(progress, str_keys=False)])
        )

    def kept(self, kept: Kept) -> Entry:
        """A pane or a session."""
        key = _encode([self._query_id, _STATE, list(kept.key), kept.first])
        return Entry(key, None if kept.state is None else _encode([FORMAT, kept.last, self._dump(kept.state)]))

    def read(self, entries: Iterable[tuple[bytes, bytes | None]]) -> tuple[Progress | None, list[Kept]]:
        """What the records of the topic come to; those of other queries are passed over. Raises StateError."""
        progress: Progress | None = None
        kept: dict[bytes, Kept] = {}
        for key, value in entries:
            try:
                query_id, kind, *place = _decode(key)
                if query_id != self._query_id:
                    continue
                if value is None:
                    kept.pop(key, None)
                    continue
                version, *content = _decode(value)
                if version != FORMAT:
                    raise StateError(f"its state has format {version}; this release knows {FORMAT}")
                if kind == _PROGRESS:
                    progress = msgspec.convert(content[0], Progress, strict=False)
                else:
                    group, first = place
                    last, dumped = content
                    kept[key] = Kept(tuple(group), first, last, self._load(dumped))
            except (msgspec.MsgspecError, ValueError, TypeError, RuntimeError) as problem:
                raise StateError(f"its state cannot be read: {problem}") from problem
        return progress, list(kept.values())


def unowned(entries: Iterable[tuple[bytes, bytes | None]], known: Collection[bytes]) -> list[bytes]:
    """The keys that have a value and belong to no query of these. A key that cannot be read is nobody's."""
    left: dict[bytes, None] = {}
    for key, value in entries:
        if value is None:
            left.pop(key, None)
        elif _owner(key) not in known:
            left[key] = None
    return list(left)


def _owner(key: bytes) -> bytes | None:
    try:
        owner = _decode(key)[0]
    except (msgspec.MsgspecError, ValueError, TypeError, IndexError):
        return None
    return owner if isinstance(owner, bytes) else None


def entries_of(codec: StateCodec, progress: Progress, kept: Iterable[Kept]) -> Iterator[Entry]:
    """What a step writes."""
    for each in kept:
        yield codec.kept(each)
    yield codec.progress(progress)


_EXTENSIONS: dict[int, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    1: (Decimal, str, Decimal),
    2: (datetime, datetime.isoformat, datetime.fromisoformat),
    3: (date, date.isoformat, date.fromisoformat),
    4: (time, time.isoformat, time.fromisoformat),
    5: (
        timedelta,
        lambda value: str(value // timedelta(microseconds=1)),
        lambda text: timedelta(microseconds=int(text)),
    ),
    6: (int, str, int),
}
"""Values of SQL that MessagePack has no kind for, as text; integers beyond 64 bits among them."""


_PLAIN = frozenset({int, float, str, bytes, bool, type(None)})


def _encode(value: Sequence[Any]) -> bytes:
    if _is_plain(value):
        try:
            return msgspec.msgpack.encode(value)
        except OverflowError:  # an integer beyond 64 bits
            pass
    return msgspec.msgpack.encode(_packed(value))


def _is_plain(value: Sequence[Any]) -> bool:
    """Whether MessagePack has all of it, but for integers that are too large."""
    for each in value:
        kind = type(each)
        if kind not in _PLAIN and not (kind in (list, tuple) and _is_plain(each)):
            return False
    return True


def _packed(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_packed(each) for each in value]
    if isinstance(value, dict):
        return {name: _packed(each) for name, each in value.items()}
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return msgspec.msgpack.Ext(6, str(value).encode())
    for code, (kind, text, _) in _EXTENSIONS.items():
        if code != 6 and type(value) is kind:
            return msgspec.msgpack.Ext(code, text(value).encode())
    return value


def _decode(data: bytes) -> Any:
    return msgspec.msgpack.decode(data, ext_hook=_extension)


def _extension(code: int, data: memoryview) -> Any:
    if code not in _EXTENSIONS:
        raise ValueError(f"a value of unknown kind {code}")
    return _EXTENSIONS[code][2](bytes(data).decode())
