"""Tails against plain matching: each record that counts is told once to each watch that it is a hit of, or counted."""

from __future__ import annotations

import json
import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.model import PartitionId
from chronik.search import tailing
from chronik.search.document import Document
from chronik.search.literals import literals
from chronik.search.mapping import NO_MAPPING
from chronik.search.match import Scope, compile_query
from chronik.search.query_string import parse
from chronik.search.tail_messages import Choke, Taken, Unwatch, Watch, WatchedPart
from chronik.search.tailing import Tailing
from chronik.wire.records import Codec, Record, check_produced, encode_batch
from tests.log.batches import end
from tests.log.compacting import append_keyed, compact
from tests.search.test_partition_index import SCANNER, Indexed

TOPIC_ID = bytes(15) + b"\1"
WORDS = ["error", "warn", "Reset", "connection", "user42", "Größe", "a-b", 'say "x"', "12", "1e3"]
QUERIES = [
    "error", "warn OR reset", '"connection reset"', "level:error", "user42 AND NOT error", "*", "NOT warn", "n:1000", "n:>10",
    "/re+set/", "partition:1 AND error", "offset:<20", "größe", "lev*", "key:k1", "msg:say", "zzz",
]  # fmt: skip


class World:
    """Some partitions, tails over them, and a node that keeps books on what it is told."""

    def __init__(self, partitions=2):
        self.partitions = [Indexed() for _ in range(partitions)]
        self.now = 0.0
        self.watches = {}  # number: (query, {partition: floor})
        self.told = {}  # (number, partition): offsets
        self.counted = {}  # (number, partition): how many, by late
        self.skipped = []
        self.reached = {}
        self.outstanding = []
        self.sequence = 0
        self.tailing = Tailing(self.index_of, SCANNER, self.clock)

    def index_of(self, partition):
        return self.partitions[partition.partition].index if partition.topic_id == TOPIC_ID else None

    def clock(self):
        self.now += 0.001
        return self.now

    def stable(self, partition):
        return self.partitions[partition].index.files.bounds.stable

    def watch(self, number, query, floors):
        self.watches[number] = query, dict(floors)
        parsed = parse(query)
        wide = literals(parsed, NO_MAPPING) is None
        self.sequence += 1
        parts = tuple(WatchedPart(100 + p, "t", TOPIC_ID, p, floor, wide) for p, floor in floors.items())
        self.tailing.watch(Watch(self.sequence, number, parsed, 0, parts))

    def unwatch(self, number):
        del self.watches[number]
        self.tailing.unwatch(Unwatch(number))
        for key in [key for key in self.told if key[0] == number]:
            del self.told[key]

    def follow(self, partition):
        self.partitions[partition].follow()
        self.tailing.followed(PartitionId(TOPIC_ID, partition))

    def step(self):
        told = self.tailing.step()
        if told is None:
            return
        for hit in told.hits:
            for number in hit.watches:
                self.told.setdefault((number, hit.part - 100), []).append(hit.offset)
            content = json.loads(hit.json)
            assert (content["topic"], content["partition"], content["offset"]) == ("t", hit.part - 100, hit.offset)
        for each in told.counted:
            assert each.first <= each.last and each.count >= 1
            by_reason = self.counted.setdefault((each.watch, each.part - 100), {})
            by_reason[each.late] = by_reason.get(each.late, 0) + each.count
        for each in told.reached:
            self.reached[each.part - 100, each.wide] = each.offset
        self.skipped += told.skipped
        self.outstanding.append(told.size)

    def settle(self, take=True):
        for partition in range(len(self.partitions)):
            self.follow(partition)
        for _ in range(10_000):
            self.step()
            took = bool(take and self.outstanding)
            while take and self.outstanding:
                self.tailing.taken(Taken(self.outstanding.pop()))
            if self.tailing.idle and not took:
                self.now += 0.6  # what is told only now and then is told now
                self.step()
                return
        raise AssertionError("it never comes to an end")

    def truth(self, number, partition):
        """The offsets that it should have been told."""
        query, floors = self.watches[number]
        fits = compile_query(parse(query), Scope("t", partition, 0))
        return [
            offset
            for offset, record in sorted(self.partitions[partition].records().items())
            if offset >= floors[partition]
            and fits(Document(offset, record.timestamp, record.key, record.value, record.headers))
        ]


def values(chance, count):
    found = []
    for _ in range(count):
        form, words = chance.random(), chance.choices(WORDS, k=chance.randrange(1, 5))
        if form < 0.4:
            found.append(" ".join(words).encode())
        elif form < 0.7:
            fields = {"level": words[0], "n": chance.choice([5, 12, 1000]), "msg": " ".join(words)}
            found.append(json.dumps(fields).replace("1000", chance.choice(["1000", "1e3"])).encode())
        else:
            found.append(f'level={words[0]} msg="{words[-1]}"'.encode())
    return found


class TailingTests(SynchronousTestCase):
    def check(self, world):
        for number, (_, floors) in world.watches.items():
            for partition in floors:
                told = world.told.get((number, partition), [])
                self.assertEqual(told, sorted(set(told)))
                counted = sum(world.counted.get((number, partition), {}).values())
                truth = world.truth(number, partition)
                self.assertLessEqual(set(told), set(truth))
                self.assertEqual(len(told) + counted, len(truth), (number, world.watches[number], partition))

    def test_every_watch_is_told_its_own_hits(self):
        world = World()
        for number, query in enumerate(QUERIES):
            world.watch(number, query, {0: 0, 1: 0})
        world.partitions[0].append([b"an error", b'{"level":"error","n":1e3}', b"connection reset", b"nothing"])
        world.partitions[1].append(["größe".encode(), rb'{"msg":"say \"x\"","level":"warn"}', b"user42"], Codec.LZ4)
        world.settle()
        self.check(world)
        self.assertEqual(world.told[0, 0], [0, 1])
        self.assertEqual(world.told[3, 0], [1])
        self.assertEqual(world.told[7, 0], [1])
        self.assertEqual(world.told[15, 1], [1])
        self.assertNotIn((16, 0), world.told)
        self.assertEqual(world.counted, {})
        self.assertEqual(world.reached, {(0, False): 4, (0, True): 4, (1, False): 3, (1, True): 3})

    def test_only_what_counts_is_told_and_when_it_is_stable(self):
        world = World(1)
        log = world.partitions[0].log
        world.watch(1, "*", {0: 0})
        sequences = {1: 0, 2: 0}

        def append(producer):
            batch = encode_batch(
                [Record(0, 5, None, b"error of %d" % producer)],
                producer_id=producer, producer_epoch=0, base_sequence=sequences[producer], transactional=True,
            )  # fmt: skip
            sequences[producer] += 1
            return log.append(memoryview(batch), check_produced(batch), 0, 1000)

        append(1)
        append(2)
        world.partitions[0].append([b"error outside"])
        world.settle()
        self.assertEqual(world.told, {})
        end(log, 1, commit=False)
        log.producers.committed(log.end_offset)
        world.settle()
        self.assertEqual(world.told, {})
        end(log, 2, commit=True)
        log.producers.committed(log.end_offset)
        world.settle()
        self.assertEqual(world.told, {(1, 0): [1, 2]})
        self.check(world)

    def test_a_watch_begins_at_its_floor_and_the_others_go_on(self):
        world = World(1)
        world.watch(1, "error", {0: 0})
        world.partitions[0].append([b"error %d" % n for n in range(10)])
        world.settle()
        world.watch(2, "error", {0: 10})
        world.watch(3, "error", {0: 4})  # takes the lane back
        world.watch(4, "error", {0: 12})
        world.partitions[0].append([b"error %d" % n for n in range(10)])
        world.settle()
        self.assertEqual(world.told[2, 0], list(range(10, 20)))
        self.assertEqual(world.told[3, 0], list(range(4, 20)))
        self.assertEqual(world.told[4, 0], list(range(12, 20)))
        self.check(world)

    def test_partitions_are_added_and_taken_from_a_watch(self):
        world = World(2)
        world.watch(1, "error", {0: 0})
        for each in world.partitions:
            each.append([b"error"] * 3)
        world.settle()
        self.assertEqual(world.told, {(1, 0): [0, 1, 2]})
        world.watch(1, "error", {0: 0, 1: 1})
        world.settle()
        self.assertEqual(world.told, {(1, 0): [0, 1, 2], (1, 1): [1, 2]})
        world.watch(1, "error", {1: 1})
        for each in world.partitions:
            each.append([b"error"])
        world.settle()
        self.assertEqual(world.told, {(1, 0): [0, 1, 2], (1, 1): [1, 2, 3]})
        world.unwatch(1)
        self.assertEqual(len(world.tailing._sieve), 0)
        self.assertEqual(world.tailing._lanes, {})

    def test_the_log_is_the_buffer_until_that_takes_too_long(self):
        self.patch(tailing, "WINDOW_BYTES", 2000)
        self.patch(tailing, "_FLUSH_BYTES", 500)
        world = World(1)
        world.watch(1, "error", {0: 0})
        world.partitions[0].append([b"error %d " % n * 20 for n in range(100)])
        world.settle(take=False)
        first = len(world.told[1, 0])
        self.assertTrue(0 < first < 20)
        self.assertEqual(world.counted, {})
        self.assertLess(sum(world.outstanding), 3000)
        world.tailing.taken(Taken(world.outstanding.pop()))
        world.settle(take=False)
        self.assertTrue(first < len(world.told[1, 0]) < 40)
        world.now += 5
        world.settle(take=False)  # now it is full for too long
        self.check(world)
        self.assertEqual(list(world.counted[1, 0]), [True])
        while world.outstanding:
            world.tailing.taken(Taken(world.outstanding.pop()))
        world.partitions[0].append([b"error"])
        world.settle()
        self.assertEqual(world.told[1, 0][-1], 100)
        self.check(world)

    def test_what_is_choked_is_counted(self):
        world = World(1)
        world.watch(1, "error", {0: 0})
        world.watch(2, "error", {0: 0})
        world.tailing.choke(Choke(1, True))
        world.partitions[0].append([b"error"] * 5)
        world.settle()
        self.assertEqual(world.told, {(2, 0): [0, 1, 2, 3, 4]})
        self.assertEqual(world.counted, {(1, 0): {False: 5}})
        world.tailing.choke(Choke(1, False))
        world.partitions[0].append([b"error"] * 5)
        world.settle()
        self.assertEqual(world.told[1, 0], [5, 6, 7, 8, 9])

    def test_who_is_late_counts_and_who_cannot_keep_up_at_all_skips(self):
        world = World(1)
        world.watch(1, "error", {0: 0})
        world.partitions[0].append([b"error"] * 5)
        world.follow(0)
        world.now += 20
        world.settle()
        self.assertEqual(world.counted, {(1, 0): {True: 5}})
        world.partitions[0].append([b"error"] * 5)
        world.settle()
        self.assertEqual(world.told, {(1, 0): [5, 6, 7, 8, 9]})
        world.partitions[0].append([b"error"] * 5)
        world.follow(0)
        world.now += 100
        world.settle()
        (skipped,) = world.skipped
        self.assertEqual((skipped.part, skipped.first, skipped.following), (100, 10, 15))
        self.assertEqual(world.reached[0, False], 15)
        self.assertEqual(world.told, {(1, 0): [5, 6, 7, 8, 9]})

    def test_a_lane_of_wide_watches_does_not_hold_up_the_other(self):
        world = World(1)
        world.watch(1, "*", {0: 0})
        world.watch(2, "error", {0: 0})
        for _ in range(50):
            world.partitions[0].append([b"message %d" % n for n in range(200)])
        world.partitions[0].append([b"error"])
        world.follow(0)
        steps = 0
        while (2, 0) not in world.told:
            world.step()
            steps += 1
        self.assertLess(len(world.told.get((1, 0), ())), 9000)
        world.settle()
        self.check(world)

    def test_what_was_deleted_before_it_was_looked_at_is_said(self):
        world = World(1)
        for _ in range(4):
            world.partitions[0].append([b"error"] * 5)
        world.follow(0)
        world.watch(1, "error", {0: 3})
        world.partitions[0].log.advance_start(8)
        world.settle()
        self.assertEqual(world.told, {(1, 0): list(range(8, 20))})
        (skipped,) = world.skipped
        self.assertEqual((skipped.first, skipped.following), (3, 8))

    def test_a_damaged_log_is_said_and_what_comes_after_it_is_told(self):
        world = World(1)
        world.watch(1, "error", {0: 0})
        world.partitions[0].append([b"error"] * 3)
        world.settle()
        world.partitions[0].append([b"error"] * 3)
        log = next(content for path, content in world.partitions[0].disk._files.items() if path.endswith(".log"))
        log[-5] ^= 1
        world.settle()
        self.assertEqual([(each.first, each.following) for each in world.skipped], [(3, 6)])
        self.assertIn("CRC", world.skipped[0].why)

    @given(st.integers(0, 2**32))
    @settings(max_examples=20, deadline=None)
    def test_compaction_takes_nothing_but_what_it_takes(self, seed):
        """Each record that is still there is told once; of those that are gone, some may have been."""
        chance = random.Random(seed)
        world = World(1)
        each, made = world.partitions[0], {}
        world.watch(1, "red OR key:k1", {0: 0})
        world.watch(2, "*", {0: 0})
        for now in range(1000, 1000 + 20 * chance.randrange(10, 60), 20):
            act = chance.random()
            if act < 0.6:
                value = b"%s %d" % (chance.choice([b"red", b"blue"]), now) + b"." * chance.randrange(900)
                offset = each.log.end_offset
                append_keyed(each.log, [(b"k%d" % chance.randrange(5), value)] * 3, now_ms=now)
                made.update(dict.fromkeys(range(offset, offset + 3), value))
            elif act < 0.75:
                each.log.flush()
                compact(each.log, each.disk, now, upper=each.log.end_offset)
            elif act < 0.9:
                world.follow(0)
            else:
                world.step()
        world.settle()
        for number in (1, 2):
            told = world.told.get((number, 0), [])
            self.assertEqual(told, sorted(set(told)))
            self.assertLessEqual(set(world.truth(number, 0)), set(told))
            self.assertLessEqual(set(told), set(made))
        self.assertEqual(world.skipped, [])

    @given(st.integers(0, 2**32))
    @settings(max_examples=40, deadline=None)
    def test_whatever_happens(self, seed):
        chance = random.Random(seed)
        self.patch(tailing, "WINDOW_BYTES", chance.choice([500, 5000, 10**6]))
        self.patch(tailing, "_FLUSH_BYTES", chance.choice([200, 2000, 10**5]))
        world = World(chance.randrange(1, 3))
        sequences, number = {}, 0
        for _ in range(chance.randrange(10, 80)):
            act, at = chance.random(), chance.randrange(len(world.partitions))
            each = world.partitions[at]
            if act < 0.3:
                each.append(
                    values(chance, chance.choice([1, 3, 40])), chance.choice([Codec.NONE, Codec.LZ4, Codec.ZSTD])
                )
            elif act < 0.4:
                producer = chance.randrange(3)
                sequence = sequences.get((at, producer), 0)
                sequences[at, producer] = sequence + 2
                batch = encode_batch(
                    [Record(n, 5 + n, b"k%d" % n, value) for n, value in enumerate(values(chance, 2))],
                    producer_id=producer, producer_epoch=0, base_sequence=sequence, transactional=True,
                )  # fmt: skip
                each.log.append(memoryview(batch), check_produced(batch), 0, 1000)
            elif act < 0.5:
                producer = chance.randrange(3)
                if each.log.producers.in_transaction(producer, 0):
                    end(each.log, producer, commit=chance.random() < 0.5)
                    each.log.producers.committed(each.log.end_offset)
            elif act < 0.6:
                number += 1
                floors = {
                    p: chance.choice([world.stable(p), max(world.stable(p) - chance.randrange(9), 0)])
                    for p in range(len(world.partitions))
                }
                world.watch(number, chance.choice(QUERIES), floors)
            elif act < 0.63 and world.watches:
                world.unwatch(chance.choice(list(world.watches)))
            elif act < 0.68 and world.watches:
                world.tailing.choke(Choke(chance.choice(list(world.watches)), chance.random() < 0.5))
            elif act < 0.8:
                world.follow(at)
            elif act < 0.83:
                each.index.drop_tail()
            elif act < 0.88:
                each.index.step()
            elif act < 0.9:
                each.log.generation += 1
            else:
                world.step()
                while world.outstanding and chance.random() < 0.8:
                    world.tailing.taken(Taken(world.outstanding.pop()))
        world.settle()
        self.assertEqual(world.skipped, [])
        self.check(world)
