"""The assignors: complete, valid, balanced, and moving no more than they must."""

from __future__ import annotations

from itertools import chain

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.coordinator.assignors import ASSIGNORS, Subscriber, assign_range, assign_uniform
from chronik.coordinator.reconciling import Assignment

TOPICS = [name.encode() * 16 for name in "ABCDE"]

counts = st.dictionaries(st.sampled_from(TOPICS), st.integers(0, 7), min_size=1)


@st.composite
def groups(draw: st.DrawFn, homogeneous: bool = False) -> tuple[dict[str, Subscriber], dict[bytes, int]]:
    """Members with subscriptions and any earlier assignment, also one that makes no sense now."""
    partitions = draw(counts)
    names = draw(st.lists(st.sampled_from([f"m{i}" for i in range(8)]), min_size=1, max_size=8, unique=True))
    some = st.frozensets(st.sampled_from(sorted(partitions)))
    shared = draw(some)
    places = st.frozensets(st.integers(0, 9), min_size=1, max_size=4)
    members = {}
    for name in names:
        previous = draw(st.dictionaries(st.sampled_from(TOPICS), places, max_size=3))
        instance = f"i{name}" if draw(st.booleans()) else None
        members[name] = Subscriber(shared if homogeneous else draw(some), previous, instance)
    return members, partitions


def places_of(assignment: Assignment) -> set[tuple[bytes, int]]:
    return {(topic, partition) for topic, partitions in assignment.items() for partition in partitions}


def as_members(members: dict[str, Subscriber], assigned: dict[str, Assignment]) -> dict[str, Subscriber]:
    return {name: subscriber._replace(previous=assigned[name]) for name, subscriber in members.items()}


class AssignorTests(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(groups(), st.sampled_from(sorted(ASSIGNORS)))
    def test_complete_and_valid(self, group: tuple[dict[str, Subscriber], dict[bytes, int]], name: str) -> None:
        """Every partition that somebody wants goes to exactly one who wants it."""
        members, partitions = group
        assigned = ASSIGNORS[name](members, partitions)
        self.assertEqual(assigned.keys(), members.keys())
        given_out = list(chain.from_iterable(places_of(part) for part in assigned.values()))
        wanted = frozenset().union(*(subscriber.topics for subscriber in members.values()))
        self.assertEqual(sorted(given_out), sorted((t, p) for t in wanted for p in range(partitions[t])))
        for member_id, part in assigned.items():
            self.assertLessEqual(part.keys(), members[member_id].topics)
            self.assertNotIn(frozenset(), part.values())

    @settings(max_examples=300, deadline=None)
    @given(groups())
    def test_uniform_cannot_be_improved(self, group: tuple[dict[str, Subscriber], dict[bytes, int]]) -> None:
        """Nobody has two more than another who could, directly or along others, take one: then the loads are the best."""
        members, partitions = group
        assigned = assign_uniform(members, partitions)
        loads = {name: len(places_of(part)) for name, part in assigned.items()}
        for start in members:
            reached, waiting = {start}, [start]
            while waiting:
                topics = assigned[waiting.pop()].keys()
                near = {name for name, other in members.items() if other.topics & topics} - reached
                reached |= near
                waiting += near
            self.assertLessEqual(loads[start], min(loads[name] for name in reached) + 1)

    @settings(max_examples=200, deadline=None)
    @given(groups(homogeneous=True))
    def test_uniform_moves_as_little_as_balance_takes(
        self, group: tuple[dict[str, Subscriber], dict[bytes, int]]
    ) -> None:
        members, partitions = group
        before = assign_uniform(members, partitions)
        self.assertEqual(assign_uniform(as_members(members, before), partitions), before)
        gone = sorted(members)[0]
        left = {name: member for name, member in as_members(members, before).items() if name != gone}
        if left:
            after = assign_uniform(left, partitions)
            for name in left:  # who stays loses nothing
                self.assertLessEqual(places_of(before[name]), places_of(after[name]))
        some = next(iter(members.values())).topics
        more = {**as_members(members, before), "new": Subscriber(some, {})}
        after = assign_uniform(more, partitions)
        moved = sum(len(places_of(before[name]) - places_of(after[name])) for name in members)
        self.assertEqual(moved, len(places_of(after["new"])))

    @settings(max_examples=200, deadline=None)
    @given(groups())
    def test_uniform_is_stable(self, group: tuple[dict[str, Subscriber], dict[bytes, int]]) -> None:
        members, partitions = group
        before = assign_uniform(members, partitions)
        self.assertEqual(assign_uniform(as_members(members, before), partitions), before)

    @settings(max_examples=200, deadline=None)
    @given(groups(), st.integers(1, 7))
    def test_range_is_copartitioned(self, group: tuple[dict[str, Subscriber], dict[bytes, int]], count: int) -> None:
        """Members with the same topics, and as many partitions each: the same numbers of every topic."""
        members, partitions = group
        topics = frozenset(partitions)
        same = {name: member._replace(topics=topics) for name, member in members.items()}
        for part in assign_range(same, dict.fromkeys(topics, count)).values():
            self.assertLessEqual(len(set(part.values())), 1)

    def test_range_keeps_static_members_in_order(self) -> None:
        topic = frozenset(TOPICS[:1])
        members = {
            "z": Subscriber(topic, {}, "i1"),
            "a": Subscriber(topic, {}),
            "y": Subscriber(topic, {}, "i2"),
        }
        assigned = assign_range(members, {TOPICS[0]: 4})
        self.assertEqual(
            {name: sorted(part[TOPICS[0]]) for name, part in assigned.items()}, {"z": [0, 1], "y": [2], "a": [3]}
        )

    def test_a_chain_of_members_relieves_the_first(self) -> None:
        """A only shares with B, B with C: what A gives to B makes B give to C."""
        a, b, _ = TOPICS[:3]
        members = {
            "m1": Subscriber(frozenset([a]), {a: frozenset(range(3))}),
            "m2": Subscriber(frozenset([a, b]), {b: frozenset(range(2))}),
            "m3": Subscriber(frozenset([b]), {}),
        }
        assigned = assign_uniform(members, {a: 3, b: 3})
        self.assertEqual(sorted(len(places_of(part)) for part in assigned.values()), [2, 2, 2])
