"""Long work in steps: generators that pause every few elements, and return the result at last.

Whoever drives one decides how much of it is done at a time, and by which clock: the reactor's thread does other things
in between, a test or a client takes all of it at once. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

_T = TypeVar("_T")
_Item = TypeVar("_Item")
_Group = TypeVar("_Group")
_Joined = TypeVar("_Joined")

Steps = Generator[None, None, _T]


def at_once(steps: Steps[_T]) -> _T:
    """The result, without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _T = end.value
            return result


def each(items: Iterable[_Item], make: Callable[[_Item], _T]) -> Steps[list[_T]]:
    """What `make` makes of every item, with a pause after each: `made = yield from each(items, make)`."""
    made = []
    for item in items:
        made.append(make(item))
        yield
    return made


def counted(items: Iterable[_Item]) -> Steps[Counter[_Item]]:
    """How often each of `items` is there."""
    times: Counter[_Item] = Counter()
    for item in items:
        times[item] += 1
        yield
    return times


def each_of(
    groups: Iterable[_Group],
    items: Callable[[_Group], Iterable[_Item]],
    make: Callable[[_Group, _Item], _T],
    joined: Callable[[_Group, list[_T]], _Joined],
) -> Steps[list[_Joined]]:
    """As `each`, of the `items` of groups, as partitions are of topics; `joined` puts together what was made of a group's."""
    whole = []
    for group in groups:
        made = []
        for item in items(group):
            made.append(make(group, item))
            yield
        whole.append(joined(group, made))
        yield
    return whole
