"""The small parts of tails: where they begin, names of topics, hits as JSON, how far a group is, what a subscriber keeps."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from chronik.model import PartitionId
from chronik.search.document import Document
from chronik.search.fitting import Fitting
from chronik.search.hit_json import MAX_HIT_BYTES, hit_json
from chronik.search.mapping import NO_MAPPING
from chronik.search.names import Names
from chronik.search.parcels import Missing, Note, Parcel, ParcelHit, Place
from chronik.search.query import ALL, QueryError
from chronik.search.starts import parse_start, start_offset
from chronik.search.subscriber import Budget, Subscriber
from chronik.search.tail_group import Cover, Group, Key, Lane, Part
from chronik.search.tail_messages import Reached
from chronik.search.tail_request import read_wish


class StartTests(SynchronousTestCase):
    def test_what_is_said(self):
        self.assertEqual(parse_start("latest", 0).kind, "latest")
        self.assertEqual(parse_start("earliest", 0).kind, "earliest")
        self.assertEqual(parse_start("2026", 5).time_ms, 2026)
        self.assertEqual(parse_start("2026-01-01", 5).time_ms, 1_767_225_600_000)
        self.assertEqual(parse_start("now-1h", 7_200_000).time_ms, 3_600_000)
        self.assertEqual(parse_start('{"t":{"0":3,"11":4}}', 0).positions, {Place("t", 0): 3, Place("t", 11): 4})

    def test_what_is_none(self):
        for text in (
            "yesterday", "-5x", "{", "{}}", '{"t":3}', '{"t":{"0":-1}}', '{"t":{"x":1}}', '{"t":{"0":1.5}}', "{" * 5000,
            '{"t":{"0":9223372036854775808}}', '{"t":{"\u0661x":1}}', "1" * 30,
        ):  # fmt: skip
            with self.assertRaises(QueryError, msg=text[:50]):
                parse_start(text, 0)

    def test_offsets(self):
        place = Place("t", 0)

        def begun(text, at_time=None):
            found = start_offset(parse_start(text, 0), place, 10, 20, lambda ms: at_time)
            return found.offset, found.missing

        self.assertEqual(begun("latest"), (20, None))
        self.assertEqual(begun("earliest"), (10, None))
        self.assertEqual(begun("5000", 15), (15, None))
        self.assertEqual(begun("5000", 3), (10, None))
        self.assertEqual(begun("5000", 25), (20, None))
        self.assertEqual(begun("5000", None), (20, None))
        self.assertEqual(begun('{"t":{"0":12}}'), (12, None))
        self.assertEqual(begun('{"t":{"0":20}}'), (20, None))
        self.assertEqual(begun('{"t":{"1":12}}'), (10, None))
        self.assertEqual(begun('{"t":{"0":4}}'), (10, Missing(place, 4, 9)))
        self.assertEqual(begun('{"t":{"0":24}}'), (20, Missing(place, 20, 23)))


class WishTests(SynchronousTestCase):
    def test_now_is_said_only_where_the_query_says_it(self):
        self.assertEqual(read_wish("t", "error", "", 17).now_ms, 0)
        self.assertEqual(read_wish("t", "timestamp:>now-5m", "", 17).now_ms, 17)
        self.assertIs(read_wish("t", "  ", "", 17).query, ALL)

    def test_errors_say_where(self):
        with self.assertRaises(QueryError) as caught:
            read_wish("t", "a AND (b", "", 0)
        self.assertEqual(caught.exception.position, 6)
        for topic in ("", "a,,b", "a/b", "__transaction_state", "x" * 250, ",".join("a" * 101)):
            with self.assertRaises(QueryError, msg=topic[:50]):
                read_wish(topic, "a", "", 0)


class HitTests(SynchronousTestCase):
    def test_what_is_no_text_is_base64(self):
        hit = json.loads(
            hit_json("t", 3, Document(5, 1000, b"\xff", "é".encode(), [("a", None), ("b", b"\xfe"), ("b", b"x")]))
        )
        self.assertEqual(
            hit,
            {
                "topic": "t", "partition": 3, "offset": 5, "timestamp": 1000, "key_base64": "/w==", "value": "é",
                "headers": [{"name": "a", "value": None}, {"name": "b", "value_base64": "/g=="}, {"name": "b", "value": "x"}],
            },
        )  # fmt: skip

    def test_what_is_not_there(self):
        hit = json.loads(hit_json("t", 3, Document(5, -1, None, None)))
        self.assertEqual(
            hit, {"topic": "t", "partition": 3, "offset": 5, "timestamp": None, "key": None, "value": None}
        )

    def test_what_is_very_large(self):
        hit = json.loads(hit_json("t", 3, Document(5, 7, b"k", bytes(MAX_HIT_BYTES))))
        self.assertEqual(hit, {"topic": "t", "partition": 3, "offset": 5, "timestamp": 7, "omitted": MAX_HIT_BYTES + 1})


class GroupTests(SynchronousTestCase):
    def make(self, lane, floor, since):
        group = Group(1, Key(ALL, "t", 0), Names("t"), Fitting(ALL, 0), lambda member: None, lambda member: None)
        part = Part(7, Place("t", 0), PartitionId(bytes(16), 0), 0)
        cover = group.covers[7] = Cover(part, lane, False, NO_MAPPING, floor)
        cover.since = since
        lane.groups.add(group)
        return group

    def test_what_a_process_says_counts_once_it_knows_of_the_watch(self):
        lane = Lane()
        group = self.make(lane, 100, since=5)
        self.assertEqual(group.reached, {7: 100})
        lane.report(7, Reached(7, False, 150), seen=4)
        self.assertEqual(group.reached, {7: 100})
        lane.report(7, Reached(7, False, 160), seen=5)
        self.assertEqual(group.reached, {7: 160})

    def test_a_lane_that_goes_back_takes_nobody_with_it(self):
        lane = Lane()
        old = self.make(lane, 100, since=1)
        lane.report(7, Reached(7, False, 160), seen=1)
        new = self.make(lane, 120, since=2)
        lane.report(7, Reached(7, False, 130), seen=2)
        self.assertEqual((old.reached, new.reached), ({7: 160}, {7: 130}))
        lane.report(7, Reached(7, False, 170), seen=2)
        self.assertEqual((old.reached, new.reached), ({7: 170}, {7: 170}))


class SubscriberTests(SynchronousTestCase):
    def setUp(self):
        self.sent = []
        self.budget = Budget(10_000)
        self.subscriber = Subscriber(self, self.budget, lambda part: Place("t", part), {0: 5, 1: 9})

    def send(self, message):
        if isinstance(message, Parcel):
            self.sent += [(hit.part, hit.offset) for hit in message.hits]
        else:
            self.sent.append(json.loads(message.text))

    def parcel(self, *hits, size=10):
        return Parcel([ParcelHit(part, offset, b"x" * size) for part, offset in hits])

    def test_what_it_holds_follows_without_what_it_has(self):
        subscriber = self.subscriber
        subscriber.hold({0: 5, 1: 5})  # of partition 1 it has more than its group
        subscriber.offer(self.parcel((0, 5), (1, 6)))
        subscriber.offer(self.parcel((1, 8), (1, 9), (0, 6)))
        self.assertEqual(self.sent, [])
        subscriber.join()
        self.assertEqual(self.sent, [(0, 5), (1, 9), (0, 6)])
        subscriber.offer(self.parcel((1, 10)))
        self.assertEqual(self.sent[3:], [(1, 10)])
        self.assertEqual(self.budget.used, 0)

    def test_what_is_above_the_floor_is_the_same_parcel_for_all(self):
        parcel = self.parcel((0, 5), (1, 9))
        self.assertIs(parcel.since({0: 5, 1: 9}), parcel)
        self.assertEqual([hit.offset for hit in parcel.since({0: 6}).hits], [9])

    def test_it_holds_so_much_and_no_more(self):
        self.subscriber.hold({})
        self.subscriber.offer(self.parcel((0, 5), size=6000))
        self.assertTrue(self.subscriber.holds)
        self.subscriber.offer(self.parcel((0, 6), size=6000))
        self.assertFalse(self.subscriber.holds)
        self.assertEqual(self.budget.used, 0)

    def test_notices_stand_where_the_hits_would_have(self):
        subscriber = self.subscriber
        subscriber.hold({0: 5, 1: 9})
        subscriber.join()
        subscriber.pause()
        subscriber.offer(self.parcel((0, 5), size=4000))
        subscriber.offer(self.parcel((0, 6), size=7000))  # more than the node has
        subscriber.offer(self.parcel((0, 7), (1, 9), (1, 10), size=7000))
        subscriber.offer(self.parcel((0, 8)))
        subscriber.offer(self.parcel((0, 9), size=7000))
        subscriber.tell(Note(b'"note"'))
        self.assertEqual((self.sent, subscriber.dropped), ([], 5))
        self.assertFalse(subscriber.free)
        subscriber.resume()
        self.assertEqual(
            self.sent,
            [
                (0, 5),
                {
                    "type": "dropped",
                    "count": 4,
                    "ranges": [
                        {"topic": "t", "partition": 0, "first": 6, "last": 7},
                        {"topic": "t", "partition": 1, "first": 9, "last": 10},
                    ],
                },
                (0, 8),
                {"type": "dropped", "count": 1, "ranges": [{"topic": "t", "partition": 0, "first": 9, "last": 9}]},
                "note",
            ],
        )
        self.assertEqual((self.budget.used, subscriber.sent), (0, 2))

    def test_it_gives_everything_back_when_it_goes(self):
        self.subscriber.hold({})
        self.subscriber.offer(self.parcel((0, 5), size=500))
        self.subscriber.pause()
        self.subscriber.page(self.parcel((0, 1), size=500))
        self.assertGreater(self.budget.used, 1000)
        self.subscriber.leave()
        self.assertEqual(self.budget.used, 0)
        self.subscriber.offer(self.parcel((0, 6)))
        self.subscriber.tell(Note(b"1"))
        self.assertEqual((self.budget.used, self.sent), (0, []))
