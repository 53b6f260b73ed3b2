"""Which topics a request is for: `events`, `a,b`, `log-*`, `log-*,-log-old`, `_all`, as Elasticsearch reads names of indices.

Parts count in their order: one that begins with `-` takes out, if a part before it has a wildcard. A wildcard matches users'
topics only, and no saved search. With one, all topics are gone through, in steps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

from chronik.model import INTERNAL_TOPICS, Topic
from chronik.search.wildcards import compiled, parts

MAX_PARTS = 100
"""Of one expression."""
_AT_ONCE = 200
_NAME = re.compile(r"[a-zA-Z0-9._*-]+")

RESERVED = frozenset({"v1", "tail"})
"""First parts of paths that have a meaning of their own, beside all that begin with an underscore."""


class NamesError(Exception):
    """Names that cannot be, or are of no topic: then `missing` is the name."""

    def __init__(self, reason: str, missing: str | None = None) -> None:
        super().__init__(reason)
        self.missing = missing


class Choice(NamedTuple):
    """What to do about names that are of no topic."""

    ignore_unavailable: bool = False
    allow_no_indices: bool = True


class _Part(NamedTuple):
    name: str
    takes_out: bool
    pattern: re.Pattern[str] | None


class Names:
    """The topics of an expression. Raises NamesError for one that can name none."""

    def __init__(self, expression: str) -> None:
        self._parts = _parts(expression)
        self.exact = tuple(part.name for part in self._parts if part.pattern is None and not part.takes_out)
        """Those that are named without a wildcard."""

    def __str__(self) -> str:
        return ",".join(f"-{part.name}" if part.takes_out else part.name for part in self._parts)

    @property
    def wild(self) -> bool:
        """Whether there may be others than those that are named."""
        return any(part.pattern is not None for part in self._parts)

    def has(self, topic: str) -> bool:
        """Whether the topic is one of them: the last part that fits decides."""
        if topic in INTERNAL_TOPICS:
            return False
        for part in reversed(self._parts):
            if part.name == topic if part.pattern is None else part.pattern.fullmatch(topic):
                return not part.takes_out
        return False


def choose(
    expression: str, topics: Sequence[Topic], find: Callable[[str], Topic | None], choice: Choice
) -> Generator[None, None, list[Topic]]:
    """The topics, in the order of their names, as `topics` has all; `find` finds one. Raises NamesError."""
    names = Names(expression)
    if not names.wild:
        topics = [topic for name in sorted(set(names.exact)) if (topic := find(name)) is not None]
    missing = dict.fromkeys(names.exact)
    chosen: list[Topic] = []
    for number, topic in enumerate(topics):
        if number % _AT_ONCE == _AT_ONCE - 1:
            yield
        if topic.name in INTERNAL_TOPICS:
            continue
        if topic.search is not None:
            if topic.name in missing and not choice.ignore_unavailable:
                raise NamesError(f"[{topic.name}] is a saved search: search the topic that it is a view of", topic.name)
            continue
        missing.pop(topic.name, None)
        if names.has(topic.name):
            chosen.append(topic)
    if missing and not choice.ignore_unavailable:
        first = next(iter(missing))
        raise NamesError(f"no such index [{first}]", first)
    if not chosen and not choice.allow_no_indices:
        raise NamesError(f"no such index [{expression}]", expression)
    return chosen


def _parts(expression: str) -> list[_Part]:
    if expression in ("", "_all", "*"):
        return [_Part("*", False, re.compile(".*", re.DOTALL))]
    texts = expression.split(",", MAX_PARTS + 1)
    if len(texts) > MAX_PARTS:
        raise NamesError(f"more than {MAX_PARTS} names")
    found: list[_Part] = []
    for text in texts:
        wild = any(part.pattern is not None for part in found)
        takes_out = wild and text.startswith("-")
        name = text[1:] if takes_out else text
        if name == "_all":
            name = "*"
        if not _NAME.fullmatch(name) or len(name) > 249:
            raise NamesError(f"`{text[:80]}` can be no name of a topic, nor a pattern with *")
        found.append(_Part(name, takes_out, compiled(parts(name)) if "*" in name else None))
    return found
