"""A node's tails in one thread, on a clock of their own: real logs in memory, real indexes, processes that can die."""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from chronik.interfaces import FollowedLog, IFollowedLogs
from chronik.log.cleaning import AbortedRange
from chronik.log.committed import Bounds, CommittedFiles
from chronik.log.log import Log, LogConfig
from chronik.log.memory import MemoryDisk
from chronik.model import PartitionId, TopicPartition
from chronik.search.document import Document
from chronik.search.engine import Engine
from chronik.search.following import Following
from chronik.search.mapping import NO_MAPPING
from chronik.search.match import Scope, compile_query
from chronik.search.messages import Follow, Forget
from chronik.search.query_string import parse
from chronik.search.replaying import replay
from chronik.search.tail_messages import Choke, Replay, Tail, Taken, Unwatch, Watch
from chronik.search.tail_request import read_wish
from chronik.search.tailing import Tailing
from chronik.search.tails import Limits, Tails
from chronik.search_jobs import CHOKE, FOLLOW, FORGET, REPLAY, TAIL, TAKEN, UNWATCH, WATCH
from chronik.wire.records import Codec, Record, check_produced, decode_records, encode_batch
from chronik.workers.failures import JobFailedError, WorkerLostError
from chronik.workers.messages import Cancel, Done, Failed, Progress, Start, Tell, packed, unpacked
from chronik.workers.residing import REST, Residence
from tests.search.test_partition_index import SCANNER, Written

NEWS = {Follow: FOLLOW, Forget: FORGET, Watch: WATCH, Unwatch: UNWATCH, Choke: CHOKE, Taken: TAKEN}
JOBS = {Tail: TAIL, Replay: REPLAY}


LIMITS = Limits(1000, 1000, 100)


class Ticking(Clock):
    """Whoever looks at it takes a millisecond for that: slices of time end. Counts what waits for its turn."""

    turns = 0

    def callLater(self, *call, **more):
        self.turns += 1
        return super().callLater(*call, **more)

    def seconds(self):
        self.rightNow += 0.001
        return self.rightNow


class Process:
    """What a process that searches has, as far as tails go."""

    def __init__(self, disk, clock, send):
        def write(job):
            written = Written(job)
            written.carry_out()
            return written

        self.engine = Engine(disk, SCANNER, write, lambda line: None)
        self.tailing = Tailing(self.engine.index_of, SCANNER, clock)

        def follow(news):
            self.engine.follow(news)
            self.tailing.followed(PartitionId(news.topic_id, news.partition))

        def tail(_):
            self.tailing.forget_sent()
            while True:
                told = self.tailing.step()
                yield told if told is not None or not self.tailing.idle else REST

        self.residence = Residence(
            {TAIL: tail, REPLAY: lambda request: replay(self.engine, request, clock)},
            {
                FOLLOW: follow,
                FORGET: self.engine.forget,
                WATCH: self.tailing.watch,
                UNWATCH: self.tailing.unwatch,
                CHOKE: self.tailing.choke,
                TAKEN: self.tailing.taken,
            },
            self.engine.step,
            send,
            clock,
        )


class Place:
    """Where one process is, or will be: as `ResidentWorkers` has it."""

    def __init__(self, world, number):
        self.world = world
        self.number = number
        self.process = None
        self.starting = False
        self.inbox = []
        self.outbox = []
        self.jobs = {}

    def tell(self, news):
        kind = NEWS[type(news)]
        if self.process is not None:
            self.inbox.append(Tell(kind.name, packed(news)))
        else:
            self.starting = True

    def ask(self, request, progress):
        self.world.jobs += 1
        number, kind = self.world.jobs, JOBS[type(request)]

        def cancel(_):
            if self.jobs.pop(number, None) is not None and self.process is not None:
                self.inbox.append(Cancel(number))

        done = Deferred(cancel)
        start = Start(number, kind.name, packed(request))
        self.jobs[number] = (kind, progress, done, start)
        if self.process is not None:
            self.inbox.append(start)
        else:
            self.starting = True
        return done

    def start(self):
        self.starting = False
        self.process = Process(self.world.disk, self.world.clock.seconds, self.outbox.append)
        self.world.began_anew(self.number)
        self.inbox += [start for _, _, _, start in self.jobs.values()]

    def kill(self):
        if self.process is None:
            return
        self.process = None
        self.starting = True
        self.inbox.clear()
        self.outbox.clear()
        jobs, self.jobs = self.jobs, {}
        for _, _, done, _ in jobs.values():
            done.errback(Failure(WorkerLostError("killed by the test")))

    def turn(self, take=None):
        """Let the process go on, and hear what it says."""
        if self.process is None:
            if self.starting:
                self.start()
            return
        count = len(self.inbox) if take is None else min(take, len(self.inbox))
        for message in self.inbox[:count]:
            self.process.residence.take(message)
        del self.inbox[:count]
        self.process.residence.turn()
        self.hear()

    def hear(self):
        outbox, self.outbox[:] = list(self.outbox), []
        for message in outbox:
            job = self.jobs.get(getattr(message, "job", None))
            if job is None:
                continue
            kind, progress, done, _ = job
            if isinstance(message, Progress):
                progress(unpacked(message.body, kind.progress))
                continue
            del self.jobs[message.job]
            if isinstance(message, Done):
                done.callback(unpacked(message.result, kind.result))
            elif isinstance(message, Failed):
                done.errback(Failure(JobFailedError(message.error, message.text)))


@implementer(IFollowedLogs)
class Logs:
    """Logs in memory, as the broker would tell of them."""

    def __init__(self, disk):
        self.disk = disk
        self.logs = {}
        self.waiting = {}

    def open(self, partition):
        directory = f"/logs/{partition.topic_id.hex()}-{partition.partition}"
        config = LogConfig(segment_bytes=16_384, index_interval_bytes=500)
        self.logs[partition] = Log.open(self.disk, directory, config, 1000)
        return self.logs[partition]

    def stable(self, partition):
        log = self.logs[partition]
        return min(log.producers.first_unstable, log.end_offset)

    def look(self, partition, since):
        log, stable = self.logs[partition], self.stable(partition)
        start = log.start_offset
        aborted = log.aborted_between(max(since, start), stable) if max(since, start) < stable else ()
        ranges = [(each.producer_id, each.first_offset, each.last_offset) for each in aborted]
        return FollowedLog(log.directory, start, stable, log.generation, ranges)

    def when_more(self, partition, told):
        self.waiting.setdefault(partition, []).append(told)
        return lambda: self.waiting[partition].remove(told) if told in self.waiting.get(partition, ()) else None

    def grown(self, partition):
        for told in self.waiting.pop(partition, ()):
            told()


class Client:
    """One that tails, and keeps books. It takes `patience` messages before it wants to rest; None: as many as there are."""

    def __init__(self, world, topic, query, start="latest", patience=None):
        self.world = world
        self.topic = topic
        self.query = query
        self.patience = patience
        self.messages = []
        self.hits = {}  # (topic, partition): offsets
        self.dropped = 0
        self.ranges = []
        self.skipped = []
        self.began = {}
        self.vector = {}
        self.closed = None
        self.subscriber = None
        subscribing = Deferred.fromCoroutine(
            world.tails.subscribe(read_wish(topic, query, start, world.now_ms()), self)
        )
        self.failure = None
        subscribing.addCallbacks(self._begun, self._failed)

    def _begun(self, subscriber):
        self.subscriber = subscriber
        if self.patience is not None and self.patience <= 0:
            subscriber.pause()

    def _failed(self, failure):
        self.failure = failure.value

    def send(self, message):
        told = json.loads(message.text)
        self.messages.append(told)
        kind = told["type"]
        if kind == "hello":
            self.began = {
                (topic, int(number)): at for topic, parts in told["positions"].items() for number, at in parts.items()
            }
            self.vector = dict(self.began)
        elif kind == "hits":
            for hit in told["hits"]:
                place = hit["topic"], hit["partition"]
                self.hits.setdefault(place, []).append(hit["offset"])
                self._reach(place, hit["offset"] + 1)
        elif kind == "dropped":
            self.dropped += told["count"]
            for each in told["ranges"]:
                self.ranges.append((each["topic"], each["partition"], each["first"], each["last"]))
                self._reach((each["topic"], each["partition"]), each["last"] + 1)
        elif kind == "skipped":
            self.skipped.append(told)
        elif kind == "positions":
            for topic, parts in told["positions"].items():
                for number, at in parts.items():
                    self._reach((topic, int(number)), at)
        if self.patience is not None:
            self.patience -= 1
            if self.patience <= 0 and self.subscriber is not None:
                self.subscriber.pause()

    def _reach(self, place, at):
        self.vector[place] = max(self.vector.get(place, 0), at)

    def close(self, status, reason, position=None):
        self.closed = status, reason

    def take(self, patience=None):
        """Take so many more messages."""
        self.patience = patience
        if self.subscriber is not None and self.subscriber.paused:
            self.world.tails.resume(self.subscriber)

    def leave(self):
        """Go; where it would go on another time."""
        self.world.tails.leave(self.subscriber)
        positions = {}
        for (topic, number), at in self.vector.items():
            positions.setdefault(topic, {})[str(number)] = at
        return json.dumps(positions)


class World:
    def __init__(self, places=2, limits=LIMITS, clock=None):
        self.clock = Clock() if clock is None else clock
        self.disk = MemoryDisk()
        self.logs = Logs(self.disk)
        self.jobs = 0
        self.places = [Place(self, number) for number in range(places)]
        self.following = Following(
            self.logs, places, lambda place, news: self.places[place].tell(news), self._index_of, self.clock
        )
        self.tails = Tails(
            self.following,
            lambda place, request, silence, progress=lambda _: None: self.places[place].ask(request, progress),
            lambda place, news: self.places[place].tell(news),
            self.clock,
            limits,
            lambda topic: NO_MAPPING,
            self._offset_at,
            {"saved": "t"}.get,
        )
        self.hosts = [self.following, self.tails]
        self.topics = {}
        self.following.startService()
        self.tails.startService()

    def now_ms(self):
        return int(self.clock.seconds() * 1000)

    @staticmethod
    def _index_of(partition):
        return f"/search/{partition.topic_id.hex()}-{partition.partition}"

    def _offset_at(self, partition, timestamp):
        found = self.logs.logs[partition].offset_for_timestamp(timestamp, self.logs.logs[partition].end_offset)
        return None if found is None else found[1]

    def began_anew(self, place):
        self.following.began_anew(place)
        self.tails.began_anew(place)

    def add(self, topic, number):
        """A partition comes to be."""
        topic_id = self.topics.setdefault(topic, len(self.topics).to_bytes(4, "big") + bytes(12))
        partition = PartitionId(topic_id, number)
        self.logs.open(partition)
        for host in self.hosts:
            host.partition_led(partition, TopicPartition(topic, number), 0)
        return partition

    def remove(self, topic, number):
        """A partition is deleted."""
        partition = PartitionId(self.topics[topic], number)
        for host in self.hosts:
            host.partition_resigned(partition, TopicPartition(topic, number))
        del self.logs.logs[partition]

    def log(self, topic, number):
        return self.logs.logs[PartitionId(self.topics[topic], number)]

    def append(self, topic, number, values, codec=Codec.NONE, timestamp=1000, **options):
        partition = PartitionId(self.topics[topic], number)
        records = [Record(index, timestamp + index, b"k%d" % index, value) for index, value in enumerate(values)]
        batch = encode_batch(records, codec=codec, **options)
        self.logs.logs[partition].append(memoryview(batch), check_produced(batch), 0, 1000)
        self.logs.grown(partition)

    def turn(self, seconds=0.01):
        """Everybody goes on a little."""
        for place in self.places:
            place.turn()
        self.clock.advance(seconds)

    def settle(self, seconds=4.0):
        """Let it go on until all is done that is not waiting for anybody."""
        for _ in range(int(seconds / 0.02)):
            self.turn(0.02)

    def truth(self, client, since=None):
        """The offsets that match, by topic and partition, from where the client began."""
        began = client.began if since is None else since
        query = parse(client.query) if client.query else parse("*")
        found = {}
        for topic, topic_id in self.topics.items():
            for partition in self.logs.logs:
                place = topic, partition.partition
                if partition.topic_id != topic_id or not read_wish(client.topic, "", "", 0).names.has(topic):
                    continue
                fits = compile_query(query, Scope(topic, partition.partition, 0))
                files = self.committed(partition)
                first = max(began.get(place, 0), files.bounds.start)
                for stored in files.read(first, files.bounds.stable):
                    for record in decode_records(stored.data, 1 << 27):
                        document = Document(record.offset, record.timestamp, record.key, record.value, record.headers)
                        if record.offset >= first and fits(document):
                            found.setdefault(place, []).append(record.offset)
        return found

    def committed(self, partition):
        """All that counts in a log."""
        told = self.logs.look(partition, 0)
        files = CommittedFiles(self.disk, told.directory, SCANNER)
        files.follow(Bounds(told.start, told.stable, told.generation), [AbortedRange(*each) for each in told.aborted])
        return files

    def stop(self):
        if self.tails.running:
            self.tails.stopService()
        self.following.stopService()
