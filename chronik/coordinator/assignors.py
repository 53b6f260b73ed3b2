"""The assignors that run in the coordinator: which member of a consumer group gets which partitions.

Both see members by id with their topics and what they were to have before, and answer with what they shall have. Every
partition of a topic that somebody subscribes to goes to exactly one of its subscribers.

- `range`: topic by topic, the members in order, each with a stretch of partitions. Members with the same topics get the same
  numbers of every topic that has as many partitions, so joins of topics find their keys together. Static members come
  first, by instance id, so a restart doesn't reorder them.
- `uniform`: no member has more than one partition more than another that could take it, and as much as possible stays
  where it was. Where all subscribe to the same topics this takes one pass; otherwise partitions move one by one from
  members with many to members with few, along chains of members if need be, until none can be improved.

Pure. Sources: KIP-848 (the assignors and their guarantees); the balance of a heterogeneous group is that of a
semi-matching (Harvey, Ladner, Lovasz and Tamir, 2006): it is optimal when no cost-reducing path is left.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from chronik.coordinator.reconciling import Assignment
from chronik.model import Uuid


class Subscriber(NamedTuple):
    """A member as assignors see it. `previous` may name topics and partitions that are no longer there."""

    topics: frozenset[Uuid]
    previous: Assignment
    instance_id: str | None = None


Partitions = Mapping[Uuid, int]
"""How many partitions each topic has."""

Assignor = Callable[[Mapping[str, Subscriber], Partitions], dict[str, Assignment]]


def assign_range(members: Mapping[str, Subscriber], partitions: Partitions) -> dict[str, Assignment]:
    """Stretches of every topic, members in a fixed order."""
    order = sorted(members, key=lambda m: (members[m].instance_id is None, members[m].instance_id or m))
    assigned: dict[str, dict[Uuid, frozenset[int]]] = {member_id: {} for member_id in order}
    takers: dict[Uuid, list[str]] = defaultdict(list)
    for member_id in order:
        for topic_id in members[member_id].topics:
            takers[topic_id].append(member_id)
    for topic_id, subscribers in takers.items():
        share, extra = divmod(partitions[topic_id], len(subscribers))
        start = 0
        for position, member_id in enumerate(subscribers):
            end = start + share + (position < extra)
            if end > start:
                assigned[member_id][topic_id] = frozenset(range(start, end))
            start = end
    return dict(assigned)


def assign_uniform(members: Mapping[str, Subscriber], partitions: Partitions) -> dict[str, Assignment]:
    """As even as the subscriptions allow, with as few moves as that takes."""
    held, free = _kept(members, partitions)
    if len({subscriber.topics for subscriber in members.values()}) <= 1:
        _level(held, free)
    else:
        _spread(held, free, members)
    return {member_id: _grouped(places) for member_id, places in held.items()}


_Place = tuple[Uuid, int]
_Held = dict[str, dict[_Place, None]]  # ordered sets: the result must not depend on hashes


def _kept(members: Mapping[str, Subscriber], partitions: Partitions) -> tuple[_Held, list[_Place]]:
    """What members may keep of what they had, and the partitions that nobody has. What two claim goes to the first."""
    held: _Held = {}
    taken: set[_Place] = set()
    for member_id in sorted(members):
        subscriber = members[member_id]
        mine: dict[_Place, None] = {}
        for topic_id in sorted(subscriber.topics & subscriber.previous.keys()):
            count = partitions[topic_id]
            for partition in sorted(subscriber.previous[topic_id]):
                place = (topic_id, partition)
                if partition < count and place not in taken:
                    taken.add(place)
                    mine[place] = None
        held[member_id] = mine
    wanted = sorted({topic_id for subscriber in members.values() for topic_id in subscriber.topics})
    free = [(t, p) for t in wanted for p in range(partitions[t]) if (t, p) not in taken]
    return held, free


def _level(held: _Held, free: list[_Place]) -> None:
    """All subscribe to the same: everybody gets the share, and those who had most one of what is left over."""
    if not held:
        return
    share, extra = divmod(sum(map(len, held.values())) + len(free), len(held))
    by_load = sorted(held, key=lambda member_id: -len(held[member_id]))
    quotas = {member_id: share + (position < extra) for position, member_id in enumerate(by_load)}
    for member_id, mine in held.items():
        while len(mine) > quotas[member_id]:
            free.append(mine.popitem()[0])
    free.sort(key=lambda place: (place[1], place[0]))  # a topic's partitions are spread over the members
    rest = iter(free)
    for member_id, mine in held.items():
        for _ in range(quotas[member_id] - len(mine)):
            mine[next(rest)] = None


def _spread(held: _Held, free: list[_Place], members: Mapping[str, Subscriber]) -> None:
    """Subscriptions differ: give each free partition to its least loaded subscriber, then shorten every path that helps."""
    subscribers: dict[Uuid, list[str]] = defaultdict(list)
    for member_id in sorted(members):
        for topic_id in members[member_id].topics:
            subscribers[topic_id].append(member_id)
    # The partitions with the fewest subscribers first: the others have more choice.
    for place in sorted(free, key=lambda place: (len(subscribers[place[0]]), place[1], place[0])):
        least = min(subscribers[place[0]], key=lambda member_id: (len(held[member_id]), member_id))
        held[least][place] = None
    improved = True
    while improved:
        improved = False
        settled: set[str] = set()
        for member_id in sorted(held, key=lambda m: (-len(held[m]), m)):
            if len(held[member_id]) - min(map(len, held.values())) < 2:
                break  # nor can anyone with fewer be relieved
            while member_id not in settled and _relieve(member_id, held, subscribers, settled):
                improved = True


def _relieve(start: str, held: _Held, subscribers: Mapping[Uuid, list[str]], settled: set[str]) -> bool:
    """Move partitions along the shortest chain from `start` to a member with at least two fewer. False when there is none.

    Then whoever was reached and has no more than `start` cannot be relieved either: it joins `settled`.
    """
    limit = len(held[start]) - 2
    came_from: dict[str, tuple[str, _Place]] = {}
    seen_topics: set[Uuid] = set()
    waiting = deque([start])
    while waiting:
        giver = waiting.popleft()
        for place in reversed(held[giver]):  # the latest got first: what it had before stays
            if place[0] in seen_topics:
                continue
            seen_topics.add(place[0])
            for taker in subscribers[place[0]]:
                if taker == start or taker in came_from:
                    continue
                came_from[taker] = giver, place
                if len(held[taker]) <= limit:
                    _shift(start, taker, held, came_from)
                    return True
                waiting.append(taker)
    settled.add(start)
    settled.update(reached for reached in came_from if len(held[reached]) <= len(held[start]))
    return False


def _shift(start: str, end: str, held: _Held, came_from: Mapping[str, tuple[str, _Place]]) -> None:
    while end != start:
        giver, place = came_from[end]
        del held[giver][place]
        held[end][place] = None
        end = giver


def _grouped(places: Mapping[_Place, None]) -> Assignment:
    by_topic: dict[Uuid, set[int]] = defaultdict(set)
    for topic_id, partition in places:
        by_topic[topic_id].add(partition)
    return {topic_id: frozenset(found) for topic_id, found in by_topic.items()}


ASSIGNORS: Mapping[str, Assignor] = {"uniform": assign_uniform, "range": assign_range}
"""By the names that clients ask for."""
