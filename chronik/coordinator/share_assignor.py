"""The assignor of share groups, `simple`: who reads which partitions, where several may read one (KIP-932).

Every partition has a reader, and every member something to read; beyond that, as even as it goes, and as it was:

1. each member gets one partition, by a hash of its id: so members that are more than the partitions spread over them;
2. of what is left, members keep what they had, up to an even share;
3. what nobody has then goes to the member with the fewest.

Pure. Source: KIP-932 (the assignor and its guarantees).
"""

from __future__ import annotations

from collections.abc import Mapping

from chronik.coordinator.reconciling import Assignment
from chronik.coordinator.records import java_hash
from chronik.model import Uuid

_Place = tuple[Uuid, int]


def assign_simple(
    members: Mapping[str, frozenset[Uuid]],
    partitions: Mapping[Uuid, frozenset[int]],
    before: Mapping[str, Assignment],
) -> dict[str, Assignment]:
    """What each member shall have. `members` has the topics of each, `partitions` what can be assigned of each topic."""
    order = sorted(members)
    wanted = {member_id: _places(members[member_id], partitions) for member_id in order}
    held: dict[str, set[_Place]] = {member_id: set() for member_id in order}
    taken: set[_Place] = set()
    for member_id in order:
        places = wanted[member_id]
        if places:
            place = places[abs(java_hash(member_id)) % len(places)]
            held[member_id].add(place)
            taken.add(place)
    left = sorted({place for places in wanted.values() for place in places} - taken)
    share = -(-(len(left) + len(taken)) // len(order)) if order else 0
    open_places = set(left)
    for member_id in order:
        for topic_id, numbers in sorted(before.get(member_id, {}).items()):
            if topic_id in members[member_id]:
                for number in sorted(numbers):
                    if (topic_id, number) in open_places and len(held[member_id]) < share:
                        held[member_id].add((topic_id, number))
                        taken.add((topic_id, number))
    for place in left:
        if place not in taken:
            subscribers = (member_id for member_id in order if place[0] in members[member_id])
            held[min(subscribers, key=lambda member_id: len(held[member_id]))].add(place)
    return {member_id: _grouped(places) for member_id, places in held.items()}


def _places(topics: frozenset[Uuid], partitions: Mapping[Uuid, frozenset[int]]) -> list[_Place]:
    return [(topic_id, number) for topic_id in sorted(topics) for number in sorted(partitions.get(topic_id, ()))]


def _grouped(places: set[_Place]) -> Assignment:
    by_topic: dict[Uuid, set[int]] = {}
    for topic_id, number in places:
        by_topic.setdefault(topic_id, set()).add(number)
    return {topic_id: frozenset(by_topic[topic_id]) for topic_id in sorted(by_topic)}
