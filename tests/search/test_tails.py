"""The tails of a node: whoever comes, goes, is slow, begins in the past, and whatever dies: each hit once, or counted."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.search import catching_up, handing_out, subscriber
from chronik.search.query import QueryError
from chronik.search.tails import Limits, TailRefused
from chronik.wire.records import Codec
from tests.log.batches import end
from tests.search.tail_world import Client, Ticking, World
from tests.search.test_tailing import QUERIES, values


class TailsTests(SynchronousTestCase):
    def make(self, *partitions, **options):
        world = World(**options)
        for number in partitions:
            world.add("t", number)
        self.addCleanup(world.stop)
        return world

    def check(self, world, client, since=None):
        """It has all that matches, each once and in order, or knows how much it lacks."""
        truth = world.truth(client, since)
        got = 0
        for place, offsets in client.hits.items():
            self.assertEqual(offsets, sorted(set(offsets)), place)
            self.assertLessEqual(set(offsets), set(truth.get(place, ())), place)
            got += len(offsets)
        self.assertEqual(got + client.dropped, sum(map(len, truth.values())))
        if not client.dropped:
            self.assertEqual(client.hits, truth)

    def test_from_now_on(self):
        world = self.make(0, 1)
        world.append("t", 0, [b"old error"] * 3)
        world.settle(1)
        client = Client(world, "t", "error")
        self.assertEqual(client.messages, [{"type": "hello", "query": "error", "positions": {"t": {"0": 3, "1": 0}}}])
        world.append("t", 0, [b"new error", b"nothing"])
        world.append("t", 1, [b"new error"])
        world.settle(1)
        self.assertEqual(client.hits, {("t", 0): [3], ("t", 1): [0]})
        hits = [hit for told in client.messages if told["type"] == "hits" for hit in told["hits"]]
        self.assertEqual(
            hits[0], {"topic": "t", "partition": 0, "offset": 3, "timestamp": 1000, "key": "k0", "value": "new error"}
        )

    def test_equal_tails_are_one_watch_and_all_get_the_same_frame(self):
        world = self.make(0)
        clients = [Client(world, "t", "error") for _ in range(5)] + [Client(world, "t", "warn")]
        self.assertEqual(world.tails.counts.queries, 2)
        frames = []
        for client in clients:
            send = client.send
            client.send = lambda message, send=send: frames.append(message) or send(message)
        world.append("t", 0, [b"error", b"warn"])
        world.settle(1)
        self.assertEqual(len(frames), 6)
        self.assertEqual(len({id(frame) for frame in frames}), 2)
        for client in clients[:5]:
            client.leave()
        self.assertEqual(tuple(world.tails.counts), (1, 1, 6, 0))
        world.settle(1)
        self.assertEqual(len(world.places[0].process.tailing._watches), 1)
        clients[5].leave()
        world.settle(1)
        self.assertEqual(world.places[0].jobs, {})
        self.assertEqual(world.places[0].process.residence.patience, None)

    def test_from_the_beginning_a_time_and_where_another_has_stopped(self):
        world = self.make(0, 1)
        for number in range(100):
            world.append("t", number % 2, [b"error %d" % number, b"info"], timestamp=1000 + number * 100)
        world.settle(1)
        for start, began in (
            ("earliest", {("t", 0): 0, ("t", 1): 0}),
            ("6000", {("t", 0): 50, ("t", 1): 50}),
            ('{"t":{"0":7}}', {("t", 0): 7, ("t", 1): 0}),
            ("1970-01-01T00:00:10.800Z", {("t", 0): 98, ("t", 1): 98}),
            ("2100-01-01", {("t", 0): 100, ("t", 1): 100}),
        ):
            client = Client(world, "t", "error", start)
            world.append("t", 0, [b"error"])
            world.settle(1)
            world.append("t", 1, [b"error"])
            world.settle(1)
            self.assertEqual(client.began, began)
            self.assertTrue(client.subscriber.live)
            self.check(world, client)
            client.leave()
            world = self.make(0, 1)
            for number in range(100):
                world.append("t", number % 2, [b"error %d" % number, b"info"], timestamp=1000 + number * 100)
            world.settle(1)

    def test_what_is_not_there_any_more_or_not_yet_is_said(self):
        world = self.make(0)
        world.append("t", 0, [b"error"] * 10)
        world.log("t", 0).advance_start(4)
        client = Client(world, "t", "error", '{"t":{"0":1}}')
        world.settle(1)
        self.assertEqual(
            client.skipped,
            [
                {
                    "type": "skipped",
                    "reason": "they are deleted",
                    "ranges": [{"topic": "t", "partition": 0, "first": 1, "last": 3}],
                }
            ],
        )
        self.assertEqual(client.hits, {("t", 0): [4, 5, 6, 7, 8, 9]})
        client = Client(world, "t", "error", '{"t":{"0":12}}')
        world.append("t", 0, [b"error"] * 4)
        world.settle(1)
        self.assertIn("ends before", client.skipped[0]["reason"])
        self.assertEqual(client.hits, {("t", 0): [10, 11, 12, 13]})

    def test_refusals(self):
        world = self.make(0, limits=Limits(3, 2, 1))
        client = Client(world, "unknown", "error")
        self.assertIsInstance(client.failure, TailRefused)
        self.assertEqual(client.failure.status, 404)
        saved = Client(world, "t,saved", "error").failure
        self.assertEqual((saved.status, "tail `t`" in str(saved)), (400, True))
        self.assertIsInstance(Client(world, "t", "timestamp:never").failure, QueryError)
        with self.assertRaises(QueryError):
            Client(world, "t", "(error")
        with self.assertRaises(QueryError):
            Client(world, "__consumer_offsets", "error")
        with self.assertRaises(QueryError):
            Client(world, "t", "error", "yesterday")
        with self.assertRaises(QueryError):
            Client(world, "t", "x" * 5000)
        self.assertIsNone(Client(world, "t", "*").failure)
        self.assertIn("every record", str(Client(world, "t", "NOT error").failure))
        self.assertIsNone(Client(world, "t", "error").failure)
        self.assertIn("different", str(Client(world, "t", "warn").failure))
        self.assertIsNone(Client(world, "t", "error").failure)
        self.assertEqual(Client(world, "t", "error").failure.status, 503)

    def test_topics_and_partitions_that_come_and_go(self):
        world = self.make(0)
        wild, named = Client(world, "t*,-tea", "error"), Client(world, "t", "error")
        world.settle(0.1)
        world.add("t", 1)
        world.add("two", 0)
        world.add("tea", 0)
        world.add("other", 0)
        for topic, number in (("t", 1), ("two", 0), ("tea", 0), ("other", 0)):
            world.append(topic, number, [b"error"])
        world.settle(1)
        self.assertEqual(wild.hits, {("t", 1): [0], ("two", 0): [0]})
        self.assertEqual(named.hits, {("t", 1): [0]})
        world.remove("two", 0)
        world.append("t", 0, [b"error"])
        world.settle(1)
        del world.topics["two"]
        world.topics["new"] = b"\xff" * 16
        world.add("new", 0)
        self.assertEqual(wild.hits[("t", 0)], [0])
        self.assertEqual(len(world.places[0].process.tailing._lanes) + len(world.places[1].process.tailing._lanes), 2)

    def test_a_topic_that_comes_while_a_tail_begins(self):
        world = World(2, clock=Ticking())
        self.addCleanup(world.stop)
        for number in range(20):
            world.add(f"t{number}", 0)
        world.append("t3", 0, [b"old error"])
        client = Client(world, "t*", "error")
        self.assertIsNone(client.subscriber)  # it begins in slices
        world.add("t-new", 0)
        world.append("t-new", 0, [b"error 1", b"no"])
        world.settle(2)
        world.append("t-new", 0, [b"error 2"])
        world.append("t3", 0, [b"error 3"])
        world.settle(2)
        self.assertEqual(client.hits, {("t-new", 0): [0, 2], ("t3", 0): [1]})

    def test_so_many_words_and_no_more(self):
        world = self.make(0, limits=Limits(10, 10, 10, 3))
        self.assertIsNone(Client(world, "t", "one OR two").failure)
        self.assertIsNone(Client(world, "t", "one OR two").failure)
        refused = Client(world, "t", "three AND four").failure
        self.assertEqual((refused.status, "words" in str(refused)), (503, True))
        self.assertIsNone(Client(world, "t", "three").failure)

    def test_a_slow_client_is_told_how_much_it_lacks_and_the_others_get_all(self):
        self.patch(subscriber, "QUEUE_BYTES", 3000)
        world = self.make(0)
        fast, slow = Client(world, "t", "error"), Client(world, "t", "error", patience=5)
        for number in range(100):
            world.append("t", 0, [b"error %d" % number * 10] * 3)
            world.turn(0.06)
        world.settle(1)
        self.check(world, fast)
        self.assertEqual(fast.dropped, 0)
        self.assertTrue(slow.subscriber.full)
        slow.take()
        world.settle(1)
        self.check(world, slow)
        self.assertGreater(slow.dropped, 100)
        self.assertEqual(len(slow.ranges), 1)
        ((_, _, first, last),) = slow.ranges
        self.assertEqual(last - first + 1, slow.dropped)
        world.append("t", 0, [b"error"])
        world.settle(1)
        self.assertEqual(slow.hits["t", 0][-1], 300)
        self.check(world, slow)

    def test_nobody_who_can_take_anything_lets_the_process_only_count(self):
        self.patch(subscriber, "QUEUE_BYTES", 3000)
        world = self.make(0)
        slow = Client(world, "t", "error", patience=5)
        told = []
        for number in range(100):
            world.append("t", 0, [b"error %d" % number * 10] * 3)
            world.turn(0.06)
            told.append(slow.subscriber.full)
        world.settle(1)
        self.assertTrue(world.places[0].process.tailing._choked)
        late = Client(world, "t", "error")  # it can: so hits are sent again
        world.append("t", 0, [b"error"] * 3)
        world.settle(2)
        self.assertFalse(world.places[0].process.tailing._choked)
        self.check(world, late)
        self.assertEqual(late.dropped, 0)
        slow.take()
        world.append("t", 0, [b"error"])
        world.settle(1)
        self.check(world, slow)
        self.assertGreater(slow.dropped, 200)
        self.check(world, late)

    def test_a_slow_client_in_the_past_loses_nothing(self):
        self.patch(catching_up, "PAGE_HITS", 10)
        self.patch(subscriber, "QUEUE_BYTES", 3000)
        world = self.make(0)
        for number in range(60):
            world.append("t", 0, [b"error %d" % number] * 3)
        client = Client(world, "t", "error", "earliest", patience=1)
        for number in range(100):
            client.take(1)
            world.append("t", 0, [b"error %d" % number] * 2)
            world.turn(0.06)
        client.take()
        world.settle(2)
        self.assertTrue(client.subscriber.live)
        self.check(world, client)
        self.assertEqual(client.dropped, 0)

    def test_a_partition_that_comes_while_a_client_is_in_the_past_is_not_left_out(self):
        world = self.make(0)
        world.append("t", 0, [b"error"] * 3)
        world.settle(0.5)
        client = Client(world, "t", "error", "earliest", patience=0)
        world.add("t", 1)
        world.append("t", 1, [b"error"] * 2)
        world.settle(0.5)
        client.take()
        world.settle(2)
        self.assertTrue(client.subscriber.live)
        self.assertEqual(client.hits, {("t", 0): [0, 1, 2], ("t", 1): [0, 1]})

    def test_positions_are_told_and_a_client_goes_on_from_there(self):
        world = self.make(0)
        client = Client(world, "t", "error")
        world.append("t", 0, [b"nothing"] * 50)
        world.settle(1)
        world.clock.advance(20)
        world.settle(1)
        self.assertEqual(client.messages[-1], {"type": "positions", "positions": {"t": {"0": 50}}})
        count = len(client.messages)
        world.clock.advance(20)
        world.settle(1)
        self.assertEqual(len(client.messages), count)

    def test_a_process_dies(self):
        world = self.make(0, 1)
        live = [Client(world, "t", query) for query in ("error", "*", "warn")]
        past = Client(world, "t", "error", "earliest")
        for number in range(60):
            world.append("t", number % 2, [b"error %d" % number, b"warn"])
            if number % 7 == 3:
                world.places[number % 2].kill()
            world.turn(0.03)
        world.settle(3)
        for client in [*live, past]:
            self.check(world, client)
            self.assertEqual(client.dropped, 0)

    def test_a_defect_in_the_process_costs_nothing_but_time(self):
        world = self.make(0)
        client = Client(world, "t", "error")
        world.append("t", 0, [b"error"])
        world.settle(1)
        process = world.places[0].process
        world.append("t", 0, [b"error"] * 3)
        process.tailing._told = lambda more: 1 / 0
        world.settle(0.5)
        del process.tailing._told
        world.append("t", 0, [b"error"] * 3)
        world.settle(3)
        self.check(world, client)
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_the_stop_closes_all(self):
        world = self.make(0)
        clients = [Client(world, "t", "error"), Client(world, "t", "warn", "earliest")]
        world.settle(0.1)
        world.tails.stopService()
        self.assertEqual([client.closed[0] for client in clients], [503, 503])
        self.assertEqual(world.tails.counts.clients, 0)
        world.tails.startService()

    @given(st.integers(0, 2**32))
    @settings(max_examples=40, deadline=None)
    def test_whatever_happens(self, seed):
        chance = random.Random(seed)
        self.patch(subscriber, "QUEUE_BYTES", chance.choice([300, 3000, 10**6]))
        self.patch(catching_up, "PAGE_HITS", chance.choice([3, 500]))
        self.patch(catching_up, "_NEAR", chance.choice([0, 10, 100_000]))
        self.patch(handing_out, "SLICE_SECONDS", chance.choice([0, 0.002]))
        world = World(chance.randrange(1, 3))
        count = chance.randrange(1, 4)
        for number in range(count):
            world.add("t", number)
        live, gone, sequences = [], [], {}
        for _ in range(chance.randrange(20, 120)):
            act, number = chance.random(), chance.randrange(count)
            log = world.log("t", number)
            if act < 0.25:
                world.append(
                    "t", number, values(chance, chance.choice([1, 5, 40])), chance.choice([Codec.NONE, Codec.LZ4])
                )
            elif act < 0.32:
                producer = chance.randrange(3)
                sequence = sequences.get((number, producer), 0)
                sequences[number, producer] = sequence + 2
                world.append(
                    "t", number, values(chance, 2),
                    producer_id=producer, producer_epoch=0, base_sequence=sequence, transactional=True,
                )  # fmt: skip
            elif act < 0.4:
                producer = chance.randrange(3)
                if log.producers.in_transaction(producer, 0):
                    end(log, producer, commit=chance.random() < 0.5)
                    log.producers.committed(log.end_offset)
                    for partition in world.logs.logs:
                        world.logs.grown(partition)
            elif act < 0.5:
                start = chance.choice(["latest", "earliest", '{"t":{"0":3}}', "1003"])
                live.append(Client(world, "t", chance.choice(QUERIES), start, chance.choice([None, None, 1, 5])))
            elif act < 0.56 and live:
                client = live.pop(chance.randrange(len(live)))
                if client.subscriber is not None:
                    positions = client.leave()
                    following = Client(world, "t", client.query, positions)
                    gone.append((client, following))
                    live.append(following)
            elif act < 0.6 and live:
                chance.choice(live).take(chance.choice([None, 1, 5]))
            elif act < 0.63:
                world.places[chance.randrange(len(world.places))].kill()
            elif act < 0.66 and live:
                client = chance.choice(live)
                if client.subscriber is not None:
                    client.subscriber.pause()
            elif act < 0.7:
                world.places[chance.randrange(len(world.places))].turn(chance.randrange(3))
            else:
                world.turn(chance.choice([0.001, 0.03, 0.2]))
        for client in live:
            client.take()
        world.settle(4)
        for _ in range(100):
            if all(client.subscriber.live for client in live):
                break
            world.settle(2)  # pages of three hits take long
        world.settle(2)
        for client in live:
            self.assertIsNone(client.failure)
            self.assertTrue(client.subscriber.live)
            self.assertEqual([told for told in client.skipped if told["reason"] != "the log ends before them"], [])
            self.check(world, client)
        for client, following in gone:
            for place, offsets in client.hits.items():  # what follows begins behind all that was there
                self.assertLessEqual(offsets[-1] + 1, following.began.get(place, 0))
        self.assertEqual(world.tails._budget.used, 0)
        for client in live:
            client.leave()
        world.settle(1)
        self.assertEqual(tuple(world.tails.counts)[:2], (0, 0))
        self.assertEqual(world.tails._catching_up._under_way, {})
        for place in world.places:
            self.assertEqual(place.jobs, {})
            if place.process is not None:  # it has forgotten them all, and sleeps
                tailing = place.process.tailing
                self.assertEqual((tailing._watches, tailing._lanes, len(tailing._sieve)), ({}, {}, 0))
                self.assertIsNone(place.process.residence.patience)
        world.stop()
