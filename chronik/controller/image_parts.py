"""Small parts of the metadata image: names that collide, which searches are over which topic, and who is told of changes."""

from __future__ import annotations

from collections.abc import Callable

from chronik.interfaces import MetadataDelta
from chronik.model import Uuid


class UnifiedNames:
    """Names of topics, as far as '.' and '_' are the same in them: so it is in names of metrics."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def add(self, name: str) -> None:
        """There is a topic of that name."""
        self._names.setdefault(_unify(name), set()).add(name)

    def discard(self, name: str) -> None:
        """There is none any more."""
        others = self._names[_unify(name)]
        others.discard(name)
        if not others:
            del self._names[_unify(name)]

    def colliding(self, name: str) -> str | None:
        """Another name that is the same, or None."""
        return min((other for other in self._names.get(_unify(name), ()) if other != name), default=None)

    def clear(self) -> None:
        """Forget all."""
        self._names.clear()


class Sources:
    """Which searches are saved over which topics."""

    def __init__(self) -> None:
        self._searches: dict[Uuid, set[Uuid]] = {}

    def add(self, source_id: Uuid, search_id: Uuid) -> None:
        """A search was saved."""
        self._searches.setdefault(source_id, set()).add(search_id)

    def discard(self, source_id: Uuid, search_id: Uuid) -> None:
        """It was deleted."""
        searches = self._searches[source_id]
        searches.discard(search_id)
        if not searches:
            del self._searches[source_id]

    def of(self, source_id: Uuid) -> set[Uuid] | tuple[()]:
        """Those over one topic. Not to be changed."""
        return self._searches.get(source_id, ())

    def clear(self) -> None:
        """Forget all."""
        self._searches.clear()


class Listeners:
    """Who is told of changes."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[MetadataDelta], None]] = []

    def subscribe(self, listener: Callable[[MetadataDelta], None]) -> Callable[[], None]:
        """Tell `listener` from now on; returns what ends that."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def tell(self, delta: MetadataDelta) -> None:
        """Tell all."""
        for listener in tuple(self._listeners):
            listener(delta)


def _unify(name: str) -> str:
    return name.replace(".", "_")
