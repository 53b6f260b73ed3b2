"""The best hits: one order for all, for pages and for what several processes kept; blocks that are left out; memory."""

from __future__ import annotations

from functools import cmp_to_key
from unittest.mock import patch

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.search import kept
from chronik.search.body import Body
from chronik.search.document import Document
from chronik.search.gathering import Found, Options
from chronik.search.kept import keeping
from chronik.search.mapping import NO_MAPPING
from chronik.search.match import Scope
from chronik.search.messages import Answer, Costs, Hit, SearchedPart
from chronik.search.sorting import (
    NEWEST_FIRST,
    OLDEST_FIRST,
    After,
    Sort,
    SortField,
    parse_search_after,
    written_place,
)
from tests.search.records import FIELDS, NOW, documents, mappings

PLACES = [(topic, partition) for topic in "tu" for partition in (0, 1)]

sort_fields = st.builds(
    SortField,
    st.sampled_from(FIELDS),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, None, None, 7, "m", 0.5]),
    st.booleans(),
)
placed = st.lists(st.tuples(documents, st.integers(0, 3)), max_size=12)
sorts = st.one_of(
    st.sampled_from([NEWEST_FIRST, OLDEST_FIRST]),
    st.lists(sort_fields, max_size=3).map(lambda fields: Sort(tuple(fields))),
)


def kind(value):
    return 2 if isinstance(value, bool) else 1 if isinstance(value, str) else 0


def compared(one, other, sort):
    """As the docs say, one pair at a time; each is (values, place)."""
    for a, b, field in zip(one[0], other[0], sort.fields, strict=True):
        if a is None or b is None:
            if (a is None) != (b is None):
                return (1 if a is None else -1) * (-1 if field.first else 1)
            continue
        x, y = (kind(a), a), (kind(b), b)
        if x != y:
            return (-1 if x < y else 1) * (-1 if field.descending else 1)
    if one[1] == other[1]:
        return 0
    return (-1 if one[1] < other[1] else 1) * (-1 if sort.descending else 1)


def scopes_of(mapping, places=PLACES):
    return [Scope(topic, partition, NOW, mapping) for topic, partition in places]


def told(hits, scopes):
    """(values, place) of the hits, in order."""
    return [
        (list(hit.values), (scopes[hit.part].topic, scopes[hit.part].partition, hit.document.offset))
        for hit in hits.in_order()
    ]


class Orders(SynchronousTestCase):
    @given(sorts, placed, mappings, st.integers(1, 4), st.randoms())
    def test_one_order_for_pages_and_processes(self, sort, records, mapping, size, chance):
        records = list({(document.offset, part): (document, part) for document, part in records}.values())
        scopes = scopes_of(mapping)
        whole = keeping(sort, scopes, 100, -1)
        for document, part in records:
            whole.found(part, document)
        hits = told(whole, scopes)
        self.assertEqual(len(hits), len(records))
        self.assertEqual(hits, sorted(hits, key=cmp_to_key(lambda a, b: compared(a, b, sort))))
        pages, after = [], None
        while True:
            page = keeping(sort, scopes, size, -1, after)
            for document, part in chance.sample(records, len(records)):
                page.found(part, document)
            found = told(page, scopes)
            if not found:
                break
            pages += found
            sent = msgspec.json.decode(msgspec.json.encode([*found[-1][0], written_place(found[-1][1])]))
            after = parse_search_after(Body(sent, "search_after"), sort)
        self.assertEqual(pages, hits)
        self.assertEqual(self.gathered(sort, records, mapping, size), [place for _, place in hits[:size]])

    def gathered(self, sort, records, mapping, size):
        """What the node makes of two processes that own two partitions each."""
        found = Found([SearchedPart(topic, b"", partition, 0, 9, mapping) for topic, partition in PLACES])
        for numbers in ([0, 3], [1, 2]):
            scopes = scopes_of(mapping, [PLACES[number] for number in numbers])
            mine = keeping(sort, scopes, size, -1)
            for document, part in records:
                if part in numbers:
                    mine.found(numbers.index(part), document)
            hits = tuple(
                Hit(each.part, each.document.offset, each.document.timestamp, values=tuple(each.values))
                for each in mine.in_order()
            )
            answer = Answer(hits=hits, total=0, exact=True, timed_out=False, unknown=(), failures=(), costs=Costs())
            travelled = msgspec.msgpack.decode(msgspec.msgpack.encode(answer), type=Answer)
            found.add(travelled, numbers)
        for _ in found.finishing(Options(NOW, 1.0, size=size, sort=sort)):
            pass
        return [(each.topic, each.partition, each.hit.offset) for each in found.hits]

    def test_without_a_place_all_with_equal_times_are_behind(self):
        scopes = scopes_of(NO_MAPPING)
        for sort, expected in ((OLDEST_FIRST, [3, 4]), (NEWEST_FIRST, [0])):
            hits = keeping(sort, scopes, 10, -1, After((10,)))
            for offset, when in enumerate([9, 10, 10, 11, 12]):
                hits.found(0, Document(offset, when, None, None))
            self.assertEqual([place[2] for _, place in told(hits, scopes)], expected)
            self.assertEqual(hits.total, 5)

    def test_behind_a_place_that_is_not_here(self):
        scopes = scopes_of(NO_MAPPING, [("b", 0), ("d", 0)])
        for sort, expected in ((OLDEST_FIRST, ["d"]), (NEWEST_FIRST, ["b"])):
            hits = keeping(sort, scopes, 10, -1, After((5,), ("c", 0, 3)))
            for part in (0, 1):
                hits.found(part, Document(3, 5, None, None))
            self.assertEqual([place[0] for _, place in told(hits, scopes)], expected)


class Wanted(SynchronousTestCase):
    @given(
        st.booleans(), st.integers(0, 3), st.integers(-1, 6), st.none() | st.integers(-1, 9),
        st.lists(st.lists(st.integers(-1, 9), min_size=1, max_size=4), max_size=6),
    )  # fmt: skip
    def test_nothing_that_would_be_kept_or_counted_is_left_out(self, oldest_first, size, count_to, after, blocks):
        sort = OLDEST_FIRST if oldest_first else NEWEST_FIRST
        behind = None if after is None else After((after if after >= 0 else None,), ("t", 0, 2))
        scopes = scopes_of(NO_MAPPING, [("t", 0)])
        plain, quick = (keeping(sort, scopes, size, count_to, behind) for _ in range(2))
        offset = 0
        for times in blocks:
            records = [Document(offset + number, time, None, b"x") for number, time in enumerate(times)]
            offset += len(records)
            for record in records:
                plain.found(0, record)
            if quick.wanted(min(times), max(times)):
                for record in records:
                    quick.found(0, record)
        self.assertEqual(told(quick, scopes), told(plain, scopes))
        if not quick.stopped:
            self.assertEqual(quick.total, plain.total)
        else:
            self.assertTrue(count_to >= 0 and quick.total >= min(count_to, plain.total))


class Memory(SynchronousTestCase):
    def test_only_so_much_is_held_and_the_first_keep_what_they_have(self):
        scopes = scopes_of(NO_MAPPING, [("t", 0)])
        for sort in (NEWEST_FIRST, OLDEST_FIRST, Sort((SortField("offset"),))):
            with patch.object(kept, "MAX_BYTES", 80_000):
                hits = keeping(sort, scopes, 1000, -1)
                for number in range(300):
                    at = number * 7 % 300
                    hits.found(0, Document(at, at, None, b"v" * 1000))
                    self.assertLessEqual(hits._bytes, 80_000)
            found = hits.in_order()
            self.assertEqual(len(found), 300)
            whole = [each.whole for each in found]
            self.assertTrue(all(whole[:9]))
            self.assertLess(sum(whole) * 1000, 80_000)
            for each in found:
                self.assertEqual(each.document.value, b"v" * 1000 if each.whole else None)
