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


def choose(
    expression: str, topics: Sequence[Topic], find: Callable[[str], Topic | None], choice: Choice
) -> Generator[None, None, list[Topic]]:
    """The topics, in the order of their names, as `topics` has all; `find` finds one. Raises NamesError."""
    wanted = _parts(expression)
    if all(part.pattern is None for part in wanted):
        topics = [topic for name in sorted({part.name for part in wanted}) if (topic := find(name)) is not None]
    exact = {part.name for part in wanted if part.pattern is None and not part.takes_out}
    chosen: list[Topic] = []
    for number, topic in enumerate(topics):
        if number % _AT_ONCE == _AT_ONCE - 1:
            yield
        if topic.name in INTERNAL_TOPICS:
            continue
        if topic.search is not None:
            if topic.name in exact and not choice.ignore_unavailable:
                raise NamesError(f"[{topic.name}] is a saved search: search the topic that it is a view of", topic.name)
            continue
        exact.discard(topic.name)
        for part in reversed(wanted):  # the last part that fits decides
            if part.name == topic.name if part.pattern is None else part.pattern.fullmatch(topic.name):
                if not part.takes_out:
                    chosen.append(topic)
                break
    if exact and not choice.ignore_unavailable:
        missing = next(part.name for part in wanted if part.name in exact)
        raise NamesError(f"no such index [{missing}]", missing)
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
