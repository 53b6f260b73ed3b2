"""Windows over event time, and what is aggregated in them: open, touched, closed, late.

What was aggregated of a few thousand records comes as a `Part`: a key, a stretch of event time and the state of the aggregates
there. Windows take it in, merge what belongs together, and hand out what has changed and what is over:

- `FixedWindows`: tumbling and hopping ones. They keep *panes*, stretches of the greatest common divisor of size and hop: a
  record counts in one pane, a window is merged of its panes when somebody asks (Li et al., "No pane, no gain", 2005).
- `SessionWindows`: stretches of activity of a key, apart by at least a gap. What bridges a gap makes one session of two.

**Late** is what belongs only to windows that are closed. A window is closed when the watermark has passed its end by the grace
period, and then for good: `close` hands it out once, and nothing is added to it any more.

Pure. Times are in ms since 1970 (or any origin), may be negative; a window has its start and not its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from math import gcd
from typing import Any, NamedTuple, Protocol

Key = tuple[Any, ...]
State = list[object]
NEVER = -(2**63)
"""A watermark before any time."""


class Fixed(NamedTuple):
    """Windows of `size` ms, of which one begins every `hop` ms, at multiples of that; tumbling ones have hop = size."""

    size: int
    hop: int

    @property
    def pane(self) -> int:
        """The length of a pane in ms."""
        return gcd(self.size, self.hop)

    def starts(self, pane: int) -> range:
        """Where the windows begin that have the pane which begins at `pane`, first to last."""
        last = pane // self.hop * self.hop
        count = (last + self.size - pane - 1) // self.hop + 1 if last + self.size > pane else 0
        return range(last - (count - 1) * self.hop, last + 1, self.hop)


class Session(NamedTuple):
    """A key's session ends when nothing came of it for `gap` ms."""

    gap: int


class Part(NamedTuple):
    """The aggregates of records of `key`, whose times are from `first` to `last`.

    For fixed windows they are all in the pane that begins at `first`, for sessions no two neighbours are apart by a gap.
    """

    key: Key
    first: int
    last: int
    state: State


class Row(NamedTuple):
    """A window of a key. `state` is None for a session that there is no more, because it became part of another one."""

    start: int
    end: int
    key: Key
    state: State | None


class Kept(NamedTuple):
    """What is to be kept of a key, to go on from: of a pane, or of a session. `state` None: nothing any more."""

    key: Key
    first: int
    last: int
    state: State | None


class Merging(Protocol):
    """How states are merged."""

    def merge(self, into: State, other: State) -> None:
        """Add `other` to `into`, which changes; `other` doesn't."""

    def copy(self, state: State) -> State:
        """A state that can be merged into, with `state` as it was."""


class Windows(Protocol):
    """What both kinds can do."""

    closed_to: int

    def add(self, parts: Iterable[Part]) -> list[Part]:
        """Take in what was aggregated. Those that are late are not taken: they are returned."""

    def changed(self) -> list[Row]:
        """The open windows that have changed since they were last asked for, as they are now."""

    def close(self, watermark: int) -> list[Row]:
        """Close what is over by `watermark`, which never goes back; by end, and key. Each window comes once."""

    def kept(self) -> list[Kept]:
        """What has changed of what must be kept, since this was last asked."""

    def restore(self, kept: Kept) -> None:
        """Take back what was kept, before anything is added."""

    def rows(self, key: Key | None = None) -> Iterator[Row]:
        """The open windows as they are now, of a key or of all."""

    def __len__(self) -> int:
        """How many states are held."""


def windows_of(spec: Fixed | Session, grace: int, merging: Merging, order: Callable[[Key], str]) -> Windows:
    """The windows that `spec` says, closed `grace` ms behind their end. Those of one time come in the `order` of keys."""
    if isinstance(spec, Session):
        return SessionWindows(spec, grace, merging, order)
    return FixedWindows(spec, grace, merging, order)


class FixedWindows:
    """Tumbling and hopping windows."""

    def __init__(self, spec: Fixed, grace: int, merging: Merging, order: Callable[[Key], str]) -> None:
        self._spec = spec
        self._grace = grace
        self._merging = merging
        self._order = order
        self._panes: dict[int, dict[Key, State]] = {}
        self._starts: list[int] = []  # a heap: of windows that are open and have a pane
        self._known: set[int] = set()  # the same
        self._count = 0
        self._changed: dict[int, set[Key]] = {}
        self._unkept: dict[int, set[Key]] = {}
        self._gone: list[tuple[int, Key]] = []
        self.closed_to = NEVER
        """Windows that end here or before are closed."""

    def __len__(self) -> int:
        return self._count

    def add(self, parts: Iterable[Part]) -> list[Part]:
        """See `Windows`."""
        late = []
        for part in parts:
            pane, key = part.first, part.key
            if pane // self._spec.hop * self._spec.hop + self._spec.size <= self.closed_to:
                late.append(part)
                continue
            states = self._panes.get(pane)
            if states is None:
                states = self._open(pane)
            state = states.get(key)
            if state is None:
                states[key] = part.state
                self._count += 1
            else:
                self._merging.merge(state, part.state)
            self._changed.setdefault(pane, set()).add(key)
            self._unkept.setdefault(pane, set()).add(key)
        return late

    def _open(self, pane: int) -> dict[Key, State]:
        for start in self._spec.starts(pane):
            if start + self._spec.size > self.closed_to and start not in self._known:
                self._known.add(start)
                heappush(self._starts, start)
        return self._panes.setdefault(pane, {})

    def changed(self) -> list[Row]:
        """See `Windows`."""
        by_start: dict[int, set[Key]] = {}
        for pane, keys in self._changed.items():
            for start in self._spec.starts(pane):
                if start + self._spec.size > self.closed_to:
                    by_start.setdefault(start, set()).update(keys)
        self._changed = {}
        return [row for start in sorted(by_start) for row in self._window(start, by_start[start])]

    def close(self, watermark: int) -> list[Row]:
        """See `Windows`."""
        closed_to = max(self.closed_to, watermark - self._grace)
        rows: list[Row] = []
        while self._starts and self._starts[0] + self._spec.size <= closed_to:
            start = heappop(self._starts)
            self._known.discard(start)
            rows += self._window(start, None)
        self.closed_to = closed_to
        for pane in [pane for pane in self._panes if self._last_end(pane) <= closed_to]:
            states = self._panes.pop(pane)
            self._count -= len(states)
            self._gone += [(pane, key) for key in states]
            self._changed.pop(pane, None)
            self._unkept.pop(pane, None)
        return rows

    def _last_end(self, pane: int) -> int:
        return pane // self._spec.hop * self._spec.hop + self._spec.size

    def kept(self) -> list[Kept]:
        """See `Windows`. Panes have `first` only."""
        kept = [Kept(key, pane, pane, None) for pane, key in self._gone]
        kept += [Kept(key, pane, pane, self._panes[pane][key]) for pane, keys in self._unkept.items() for key in keys]
        self._gone, self._unkept = [], {}
        return kept

    def restore(self, kept: Kept) -> None:
        """See `Windows`."""
        if kept.state is not None:
            states = self._open(kept.first)
            self._count += kept.key not in states
            states[kept.key] = kept.state

    def rows(self, key: Key | None = None) -> Iterator[Row]:
        """See `Windows`."""
        for start in sorted(self._known):
            yield from self._window(start, None if key is None else {key})

    def _window(self, start: int, keys: set[Key] | None) -> list[Row]:
        """The window that begins at `start`, of these keys or of all, merged of its panes."""
        end = start + self._spec.size
        panes = [
            states
            for pane in range(start, end, self._spec.pane)
            if (states := self._panes.get(pane)) is not None
        ]  # fmt: skip
        if len(panes) == 1:
            merged = panes[0]
        else:
            merged = {}
            for states in panes:
                for key in states if keys is None else keys & states.keys():
                    known = merged.get(key)
                    if known is None:
                        merged[key] = self._merging.copy(states[key])
                    else:
                        self._merging.merge(known, states[key])
        found = merged.keys() if keys is None else keys & merged.keys()
        return [Row(start, end, key, merged[key]) for key in sorted(found, key=self._order)]


class _Activity:
    """A session as it is so far: its first and last time."""

    __slots__ = ("first", "last", "state")

    def __init__(self, first: int, last: int, state: State) -> None:
        self.first = first
        self.last = last
        self.state = state


class SessionWindows:
    """Sessions. One that spans from `first` to `last` has the window [first, last + gap)."""

    def __init__(self, spec: Session, grace: int, merging: Merging, order: Callable[[Key], str]) -> None:
        self._gap = spec.gap
        self._grace = grace
        self._merging = merging
        self._order = order
        self._sessions: dict[Key, list[_Activity]] = {}
        self._ends: list[tuple[int, int, Key]] = []  # a heap of (end, tie, key): when to look at a key
        self._ties = 0
        self._count = 0
        self._changed: dict[tuple[Key, int], None] = {}
        self._unkept: dict[tuple[Key, int], None] = {}
        self.closed_to = NEVER

    def __len__(self) -> int:
        return self._count

    def add(self, parts: Iterable[Part]) -> list[Part]:
        """See `Windows`. What belongs to an open session is not late, however old it is."""
        late = []
        for part in parts:
            sessions = self._sessions.setdefault(part.key, [])
            near = [each for each in sessions if self._touches(each, part)]
            if max([part.last, *(each.last for each in near)]) + self._gap <= self.closed_to:
                late.append(part)
                if not sessions:
                    del self._sessions[part.key]
                continue
            self._merge(part, sessions, near)
        return late

    def _touches(self, session: _Activity, part: Part) -> bool:
        return part.first < session.last + self._gap and session.first < part.last + self._gap

    def _merge(self, part: Part, sessions: list[_Activity], near: list[_Activity]) -> None:
        made = _Activity(part.first, part.last, part.state)
        for each in near:
            made.first, made.last = min(made.first, each.first), max(made.last, each.last)
            self._merging.merge(made.state, each.state)
            sessions.remove(each)
            self._changed[part.key, each.first] = self._unkept[part.key, each.first] = None
        sessions.append(made)
        sessions.sort(key=lambda each: each.first)
        self._count += 1 - len(near)
        self._changed[part.key, made.first] = self._unkept[part.key, made.first] = None
        self._watch(part.key, made)

    def _watch(self, key: Key, session: _Activity) -> None:
        self._ties += 1
        heappush(self._ends, (session.last + self._gap, self._ties, key))

    def changed(self) -> list[Row]:
        """See `Windows`. What became part of another session is among them, without a state."""
        rows = []
        for key, first in self._changed:
            session = self._at(key, first)
            if session is None:
                rows.append(Row(first, first, key, None))
            else:
                rows.append(Row(first, session.last + self._gap, key, session.state))
        self._changed = {}
        return sorted(rows, key=lambda row: (row.state is not None, row.start, self._order(row.key)))

    def close(self, watermark: int) -> list[Row]:
        """See `Windows`."""
        self.closed_to = max(self.closed_to, watermark - self._grace)
        rows: list[Row] = []
        while self._ends and self._ends[0][0] <= self.closed_to:
            _, _, key = heappop(self._ends)
            sessions = self._sessions.get(key, [])
            for session in [each for each in sessions if each.last + self._gap <= self.closed_to]:
                sessions.remove(session)
                self._count -= 1
                self._changed.pop((key, session.first), None)
                self._unkept[key, session.first] = None
                rows.append(Row(session.first, session.last + self._gap, key, session.state))
            if not sessions:
                self._sessions.pop(key, None)
        return sorted(rows, key=lambda row: (row.end, row.start, self._order(row.key)))

    def kept(self) -> list[Kept]:
        """See `Windows`."""
        kept = []
        for key, first in self._unkept:
            session = self._at(key, first)
            if session is None:
                kept.append(Kept(key, first, first, None))
            else:
                kept.append(Kept(key, first, session.last, session.state))
        self._unkept = {}
        return kept

    def restore(self, kept: Kept) -> None:
        """See `Windows`."""
        if kept.state is not None:
            session = _Activity(kept.first, kept.last, kept.state)
            sessions = self._sessions.setdefault(kept.key, [])
            sessions.append(session)
            sessions.sort(key=lambda each: each.first)
            self._count += 1
            self._watch(kept.key, session)

    def rows(self, key: Key | None = None) -> Iterator[Row]:
        """See `Windows`."""
        for each in list(self._sessions) if key is None else [key]:
            for session in self._sessions.get(each, ()):
                yield Row(session.first, session.last + self._gap, each, session.state)

    def _at(self, key: Key, first: int) -> _Activity | None:
        return next((each for each in self._sessions.get(key, ()) if each.first == first), None)
