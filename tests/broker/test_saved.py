"""A saved search's partition: what its readers see, how they come forward, and what is done for those who wait."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import eventAsText, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from chronik.broker.outcomes import Gap
from chronik.broker.partition_transactions import append_marker
from chronik.broker.purgatory import WaitingFetch
from chronik.broker.saved_partition import MAX_RUNS
from chronik.broker.selected import READ_AHEAD
from chronik.controller.commands import CreatePartitions, DeleteTopics, MorePartitions, TopicReference
from chronik.errors import ErrorCode, KafkaError
from chronik.model import TransactionMarker
from chronik.wire.records import Record, decode_records, encode_batch, split_batches
from tests.broker.searching import SearchHosting
from tests.listeners.handlers.hosting import NOW

MOST = 1 << 20


class SavedTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.hosting = SearchHosting()
        self.hosting.create("events", 2)
        self.hosting.save("errors", "events", "error")
        self.view = self.hosting.view("errors")
        self.woken: list[WaitingFetch] = []

    def append(self, *values: bytes, topic: str = "events", index: int = 0) -> None:
        """One batch."""
        records = [Record(number, NOW + number, None, value) for number, value in enumerate(values)]
        self.hosting.partition(topic, index).append(encode_batch(records), NOW)

    def read(self, offset, view=None, limit=MOST, at_least_one=True):
        """(offsets of the records, gap, whether there is more) of a read."""
        fetched = (view or self.view).read(offset, limit, True, at_least_one)
        data = bytes(fetched.records)
        found = [
            record.offset
            for position, header in split_batches(data)
            for record in decode_records(data[position : position + header.size], MOST)
        ]
        return found, fetched.gap, fetched.limited

    def wait(self, missing=1):
        """Wait as a fetch does."""
        waiting = WaitingFetch(missing, self.woken.append)
        waiting.watch(self.view.stable_waiters)
        return waiting


class ReadingTests(SavedTestCase):
    def test_records_where_they_are_and_a_gap_behind(self) -> None:
        self.append(b"error", b"warn", b"error", b"info", b"info")
        self.assertEqual(self.read(0), ([], None, False))  # it is only begun
        self.assertEqual(self.read(0), ([0, 2], Gap(3, 5, 0), False))
        self.assertEqual(self.read(1), ([0, 2], Gap(3, 5, 0), False))  # whole batches, as everywhere
        self.assertEqual(self.read(3), ([], Gap(3, 5, 0), False))
        self.assertEqual(self.read(5), ([], None, False))

    def test_its_ends_and_epochs_are_those_of_the_source(self) -> None:
        self.append(b"error", b"x")
        source = self.hosting.partition("events")
        view = self.view
        for name in ("leader", "leader_epoch", "high_watermark", "last_stable_offset", "log_start_offset"):
            self.assertEqual(getattr(view, name), getattr(source, name), name)
        self.assertEqual(view.epoch_end(0), (0, 2))
        self.assertEqual(view.offset_for_timestamp(NOW + 1), source.offset_for_timestamp(NOW + 1))
        self.assertEqual(view.max_timestamp(), (NOW + 1, 1, 0))
        self.assertEqual(view.producers(), ())
        self.assertRaises(KafkaError, view.check_leader_epoch, 9)

    def test_outside_of_the_source(self) -> None:
        self.append(*[b"error"] * 5)
        self.hosting.partition("events").delete_records(3, lambda _: None)
        for offset in (-1, 2, 6):
            error = self.assertRaises(KafkaError, self.read, offset)
            self.assertEqual(error.code, ErrorCode.OFFSET_OUT_OF_RANGE)
        self.read(3)
        self.assertEqual(self.read(3)[0], [3, 4])

    def test_limits(self) -> None:
        for _ in range(4):
            self.append(b"error")
        self.read(0)
        size = len(self.view.read(0, 1, True, True).records)
        self.assertEqual(self.read(0, limit=1), ([0], None, True))
        self.assertEqual(self.read(1, limit=2 * size), ([1, 2], None, True))
        self.assertEqual(self.read(0, limit=size - 1, at_least_one=False), ([], None, True))
        self.assertEqual(self.read(2, limit=2 * size), ([2, 3], None, False))

    def test_what_an_open_transaction_holds_back(self) -> None:
        """Nothing of it, nor of what lies behind, whatever isolation is asked for."""
        self.append(b"error")
        batch = encode_batch([Record(0, NOW, None, b"error")], producer_id=5, producer_epoch=0, base_sequence=0)
        source = self.hosting.partition("events")
        open_one = encode_batch(
            [Record(0, NOW, None, b"error")], producer_id=6, producer_epoch=0, base_sequence=0, transactional=True
        )
        source.append(open_one, NOW, check=source.transactions.check(6, 0, 0, implicit=False))
        source.append(batch, NOW)
        self.assertEqual((self.view.last_stable_offset, self.view.high_watermark), (1, 3))
        self.read(0)
        self.assertEqual(self.read(0), ([0], None, False))
        self.assertEqual([self.read(offset)[0] for offset in (1, 2, 3)], [[], [], []])

    def test_compaction_takes_what_was_selected_before(self) -> None:
        self.append(b"error")
        self.read(0)
        self.assertEqual(self.read(0)[0], [0])
        jobs = len(self.hosting.jobs)
        self.hosting.partition("events").log.generation += 1
        self.read(0)
        self.assertEqual(self.read(0)[0], [0])
        self.assertGreater(len(self.hosting.jobs), jobs)

    def test_readers_at_many_places(self) -> None:
        for _ in range(2 * MAX_RUNS):
            self.append(b"error", b"x")
        self.hosting.held = []
        for offset in range(0, 4 * MAX_RUNS, 2):
            self.read(offset)
        self.hosting.work()
        for offset in range(2 * MAX_RUNS, 4 * MAX_RUNS, 2):
            self.assertEqual(self.read(offset, limit=1)[0], [offset])
        self.hosting.held = None
        self.read(0)  # it was forgotten
        self.assertEqual(self.read(0, limit=1)[0], [0])

    def test_no_further_ahead_than_so_far(self) -> None:
        """A reader who doesn't come back has little prepared for him; one who does has the next part ready."""
        for _ in range(40):
            self.append(b"error " + bytes(200_000))
        for _ in range(3):
            self.read(0, limit=1)
        reached = self.hosting.jobs[-1].start
        self.assertLess(reached * 200_000, 2 * READ_AHEAD + 400_000)
        found, at = [], 0
        for _ in range(100):
            offsets, gap, _ = self.read(at)
            found += offsets
            at = gap.following if gap else max([at, *(offset + 1 for offset in offsets)])
        self.assertEqual(found, list(range(40)))
        self.assertEqual(at, 40)


class WaitingTests(SavedTestCase):
    def test_who_waits_is_woken_by_what_matches(self) -> None:
        self.assertEqual(self.read(0), ([], None, False))
        waiting = self.wait()
        self.append(b"info")
        self.hosting.clock.advance(0.1)
        self.assertEqual(self.woken, [])
        self.append(b"error")
        self.hosting.clock.advance(0.1)
        self.assertEqual(self.woken, [waiting])
        self.assertEqual(self.read(0), ([1], None, False))

    def test_appends_are_looked_through_together(self) -> None:
        self.read(0)
        self.wait()
        for _ in range(50):
            self.append(b"info")
        self.hosting.clock.advance(0.1)
        self.assertEqual(len(self.hosting.jobs), 1)
        self.assertEqual(self.read(0), ([], Gap(0, 50, 0), False))

    def test_nothing_is_done_for_nobody(self) -> None:
        self.read(0)
        self.wait().forget()
        for _ in range(3):
            self.append(b"error")
            self.hosting.clock.advance(1)
        self.assertEqual(self.hosting.jobs, [])
        self.read(0)
        self.assertEqual(self.read(0)[0], [0, 1, 2])

    def test_a_long_way_without_a_match_goes_on_while_somebody_waits(self) -> None:
        self.append(*[b"x"] * 100)
        self.hosting.held = []
        self.read(0)
        self.append(*[b"x"] * 100)
        self.append(b"error")
        self.wait()
        self.hosting.work()
        self.assertEqual(len(self.woken), 1)
        self.assertEqual([job.start for job in self.hosting.jobs], [0, 100])
        self.assertEqual(self.read(0)[0], [200])

    def test_readers_at_the_end_share_what_is_found(self) -> None:
        self.append(*[b"x"] * 10)
        self.hosting.held = []
        for offset in (5, 0, 10):
            self.read(offset)
        self.hosting.work()
        self.assertEqual([job.start for job in self.hosting.jobs], [5, 0])
        self.wait()
        self.append(b"error")
        self.hosting.clock.advance(0.1)
        self.hosting.work()
        self.assertEqual([job.start for job in self.hosting.jobs], [5, 0, 10])
        for offset in (0, 5, 10):
            self.assertEqual(self.read(offset)[0], [10])
        self.assertEqual(len(self.hosting.jobs), 3)

    def test_a_process_that_dies_is_asked_again(self) -> None:
        self.append(b"error")
        self.hosting.lost = True
        self.assertEqual(self.read(0), ([], None, False))
        self.wait()
        self.hosting.clock.advance(0.5)
        self.assertEqual((self.hosting.jobs, self.woken), ([], []))
        self.hosting.lost = False
        self.hosting.begin_anew()
        self.hosting.following.began_anew(0)
        self.hosting.clock.advance(1)
        self.hosting.clock.advance(1)
        self.assertEqual(len(self.woken), 1)
        self.assertEqual(self.read(0)[0], [0])

    def test_one_that_has_just_begun_anew_is_waited_for(self) -> None:
        self.append(b"error")
        self.hosting.begin_anew()  # and the node doesn't know yet
        self.hosting.following.bounds([self.hosting.partition("events").partition_id])
        self.hosting.begin_anew()
        self.read(0)
        self.hosting.following.began_anew(0)
        self.hosting.clock.advance(0.1)
        self.assertEqual(self.read(0)[0], [0])

    def test_what_cannot_be_carried_out_is_refused_and_told_once(self) -> None:
        self.append(b"error")
        lines: list[str] = []
        observer = lambda event: lines.append(eventAsText(event, includeTimestamp=False))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.hosting.save("other", "events", "a AND (")  # as if another release had saved it
        view = self.hosting.view("other")
        for _ in range(3):
            self.read(0, view)
            error = self.assertRaises(KafkaError, self.read, 0, view)
            self.assertEqual(error.code, ErrorCode.UNKNOWN_SERVER_ERROR)
        (line,) = lines
        self.assertIn("other-0, a saved search, cannot be read", line)

    def test_a_damaged_log_is_refused_behind_what_can_be_read(self) -> None:
        self.append(b"error")
        self.append(b"error")
        log = self.hosting.partition("events").log
        content = next(c for path, c in self.hosting.disk._files.items() if path.startswith(log.directory))
        content[-3] ^= 1
        self.read(0)
        self.assertEqual(self.read(0)[0], [0])
        self.assertRaises(KafkaError, self.read, 1)


class DeletingTests(SavedTestCase):
    def test_a_search_that_is_deleted(self) -> None:
        self.append(b"error")
        self.hosting.held = []
        self.read(0)
        self.wait()
        self.hosting.delete("errors")
        self.assertEqual(len(self.woken), 1)
        error = self.assertRaises(KafkaError, self.hosting.saved.partition, "errors", 0)
        self.assertEqual(error.code, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        self.hosting.work()
        self.assertEqual(self.hosting.held, [])
        self.hosting.save("errors", "events", "warn")
        self.assertIsNot(self.hosting.view("errors"), self.view)

    def test_with_its_source(self) -> None:
        self.read(0)
        self.wait()
        topics = tuple(TopicReference(name) for name in ("events", "errors"))
        self.hosting.cluster.do(DeleteTopics(topics))
        self.hosting.clock.advance(1)
        self.assertEqual(len(self.woken), 1)

    def test_partitions_that_come_later(self) -> None:
        error = self.assertRaises(KafkaError, self.hosting.view, "errors", 2)
        self.assertEqual(error.code, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        self.hosting.cluster.do(CreatePartitions((MorePartitions("events", 3),)))
        self.append(b"error", index=2)
        view = self.hosting.view("errors", 2)
        self.read(0, view)
        self.assertEqual(self.read(0, view)[0], [0])

    def test_a_stop_ends_what_is_under_way(self) -> None:
        self.read(0)
        self.wait()
        self.append(b"error")
        before = len(self.hosting.clock.getDelayedCalls())
        self.hosting.saved.stop()
        self.assertEqual(len(self.hosting.clock.getDelayedCalls()), before - 1)
        self.hosting.lost = True
        self.read(0)
        self.assertEqual(len(self.hosting.clock.getDelayedCalls()), before - 1)
        self.assertRaises(KafkaError, self.hosting.saved.partition, "errors", 0)

    def test_found_by_id_and_by_name(self) -> None:
        topic = self.hosting.image.topic("errors")
        self.assertIs(self.hosting.saved.partition_by_id(topic.topic_id, 0), self.view)
        source = self.hosting.partition("events")
        self.assertIs(self.hosting.saved.partition("events", 0), source)
        self.assertIs(self.hosting.saved.partition_by_id(source.partition_id.topic_id, 0), source)
        for find in (self.hosting.replicas.partition, self.hosting.saved.partition):
            error = self.assertRaises(KafkaError, find, "nowhere", 0)
            self.assertEqual(error.code, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        for find, name in (
            (self.hosting.replicas.partition, "errors"),
            (self.hosting.replicas.partition_by_id, topic.topic_id),
        ):
            error = self.assertRaises(KafkaError, find, name, 0)
            self.assertEqual(error.code, ErrorCode.INVALID_TOPIC_EXCEPTION)


class Reader:
    """Reads from an offset on, as a client does that filters what lies before its position."""

    def __init__(self, offset: int) -> None:
        self.start = self.at = offset
        self.found: list[tuple[int, bytes]] = []

    def read(self, view, limit):
        try:
            fetched = view.read(self.at, limit, True, True)
        except KafkaError as error:
            assert error.code in (ErrorCode.OFFSET_OUT_OF_RANGE, ErrorCode.UNKNOWN_SERVER_ERROR), error
            self.at = max(self.at, view.log_start_offset)
            return
        data = bytes(fetched.records)
        for position, header in split_batches(data):
            for record in decode_records(data[position : position + header.size], MOST):
                if record.offset >= self.at:
                    self.found.append((record.offset, record.value))
            self.at = max(self.at, header.next_offset)
        if fetched.gap is not None:
            assert fetched.gap.first <= self.at <= fetched.gap.following
            self.at = fetched.gap.following


class RandomTests(SavedTestCase):
    @given(st.integers(0, 2**32))
    @settings(max_examples=200, deadline=None)
    def test_whatever_happens_every_reader_gets_what_a_plain_filter_gives(self, seed):
        """Plain batches, transactions, cuts, other files, processes that die, jobs that end late and in any order."""
        chance = random.Random(seed)
        SavedTestCase.setUp(self)
        hosting, view, source = self.hosting, self.view, self.hosting.partition("events")
        hosting.held = []
        readers = [Reader(0)]
        everything: dict[int, bytes] = {}  # what matches and isn't aborted
        open_one: dict[int, dict[int, bytes]] = {}  # by producer

        def append(producer=-1):
            values = [
                chance.choice([b"error ", b"info "]) + b"%d" % chance.randrange(1000)
                for _ in range(chance.randrange(1, 6))
            ]
            records = [Record(number, NOW, None, value) for number, value in enumerate(values)]
            options, check = {}, None
            if producer >= 0:
                first = sequences[producer]
                sequences[producer] += len(values)
                options = {"producer_id": producer, "producer_epoch": 0, "base_sequence": first, "transactional": True}
                check = source.transactions.check(producer, 0, first, implicit=False)
            batch = encode_batch(records, **options)
            base = source.append(batch, NOW, check=check).base_offset
            target = everything if producer < 0 else open_one.setdefault(producer, {})
            target.update({base + n: value for n, value in enumerate(values) if value.startswith(b"error")})

        def end(producer):
            written = open_one.pop(producer, None)
            committed = chance.random() < 0.5
            append_marker(source, TransactionMarker(producer, 0, committed, 0), NOW)
            if written and committed:
                everything.update(written)

        sequences = {7: 0, 8: 0}
        for _ in range(chance.randrange(5, 60)):
            act = chance.random()
            if act < 0.25:
                append(chance.choice([-1, -1, 7, 8]))
            elif act < 0.32:
                end(chance.choice([7, 8]))
            elif act < 0.36:
                source.delete_records(chance.randrange(source.high_watermark + 1), lambda _: None)
            elif act < 0.40:
                source.log.generation += 1
            elif act < 0.44:
                readers.append(Reader(chance.randrange(source.log_start_offset, source.high_watermark + 1)))
            elif act < 0.48:
                hosting.lost = True
                while hosting.held:
                    hosting.work()
                hosting.lost = False
                hosting.begin_anew()
                hosting.following.began_anew(0)
            elif act < 0.65 and hosting.held:
                hosting.held.insert(0, hosting.held.pop(chance.randrange(len(hosting.held))))
                hosting.do_one()
            elif act < 0.72:
                hosting.clock.advance(chance.choice([0.05, 1.5]))
            elif act < 0.76:
                self.wait()
            else:
                chance.choice(readers).read(view, chance.choice([1, 200, MOST]))
        for producer in (7, 8):
            end(producer)
        for reader in readers:
            for _ in range(1000):
                reader.read(view, MOST)
                hosting.work()
                hosting.clock.advance(2)
                if reader.at >= source.high_watermark:
                    break
            self.assertEqual(reader.at, source.high_watermark)
            offsets = [offset for offset, _ in reader.found]
            self.assertEqual(offsets, sorted(set(offsets)))
            self.assertLessEqual(set(reader.found), set(everything.items()))
            here = max(source.log_start_offset, reader.start)
            self.assertLessEqual({each for each in everything.items() if each[0] >= here}, set(reader.found))
        source.log.take_deleted()
