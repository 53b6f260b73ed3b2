"""A request about many things, cut into requests about a few, for APIs that answer each thing by itself.

A handler serves requests of many elements so which has `parts(request)`, an iterator of requests like that about a few things
each, and `joined(answers)`, the steps that make one answer of theirs. Each part is handled as a request of its own, some a turn
of the reactor; where `in_turn` is true, each when the one before it is answered. What is small is never cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from typing import Any, TypeVar

from chronik.steps import Steps

PART = 200
"""Partitions, or other things, of one part: some milliseconds of work at the most."""

_Request = TypeVar("_Request")
_Item = TypeVar("_Item")


def in_parts(request: _Request, field: str, size: int = PART) -> Iterator[_Request]:
    """Requests like `request` with `size` elements of its array `field` each, the last one with what is left."""
    items = getattr(request, field)
    for start in range(0, len(items), size):
        yield _with(request, field, items[start : start + size])


def topics_in_parts(request: _Request, topics: str, partitions: str) -> Iterator[_Request]:
    """Requests like `request` with some of its `topics` each, which have at most `PART` `partitions` together.

    A topic that has more is cut too. One without any counts for one.
    """
    some: list[Any] = []
    room = PART
    for topic in getattr(request, topics):
        items, start = getattr(topic, partitions), 0
        while True:
            taken = items[start : start + room]
            some.append(topic if len(taken) == len(items) else _with(topic, partitions, taken))
            start += len(taken)
            room -= max(1, len(taken))
            if room <= 0:
                yield _with(request, topics, some)
                some, room = [], PART
            if start >= len(items):
                break
    if some:
        yield _with(request, topics, some)


def joined_items(answers: Iterable[Sequence[_Item]]) -> Steps[list[_Item]]:
    """The elements of the answers to parts, one after the other."""
    whole: list[_Item] = []
    for items in answers:
        whole += items
        yield
    return whole


def joined_topics(
    answers: Iterable[Sequence[Any]], named: Callable[[Any], object], partitions: str
) -> Steps[list[Any]]:
    """The topics of the answers to parts, with those put together that were cut; `named` tells what a topic is called."""
    whole: list[Any] = []
    for topics in answers:
        for place, topic in enumerate(topics):
            if place == 0 and whole and named(whole[-1]) == named(topic):
                getattr(whole[-1], partitions).extend(getattr(topic, partitions))
            else:
                whole.append(topic)
        yield
    return whole


def _with(message: Any, field: str, items: Sequence[Any]) -> Any:
    changed = copy(message)
    setattr(changed, field, items)
    return changed
