"""A log on a real disk, searched by two engines: one with splits, one without; and the truth, by a look at every record."""

from __future__ import annotations

import shutil
import tempfile
import time

from chronik.log.committed import CommittedFiles
from chronik.log.disk import RealDisk
from chronik.log.log import Log, LogConfig
from chronik.model import PartitionId
from chronik.native.scanner import make_scanner
from chronik.search.answering import answer
from chronik.search.document import Document
from chronik.search.engine import Engine
from chronik.search.mapping import NO_MAPPING
from chronik.search.match import Scope, compile_query
from chronik.search.messages import Follow, Search, SearchedPart
from chronik.search.splits.building import build
from chronik.search.splits.inverted import InvertedIndex
from chronik.search.splits.messages import AskDue, SplitBuilt
from chronik.wire.records import Codec, Record, check_produced, decode_records, encode_batch
from tests.log.test_committed import told
from tests.search.records import NOW
from tests.search.test_partition_index import Written

SCANNER = make_scanner()
TOPIC, PARTITION = bytes(16), 1
PLACE = PartitionId(TOPIC, PARTITION)


class Searched:
    """`split_messages` are in a split; blocks have `block_bytes`."""

    def __init__(self, split_messages=40, block_bytes=2048, **options):
        self.root = tempfile.mkdtemp(prefix="chronik-splits-")
        self.disk = RealDisk()
        self.split_messages = split_messages
        self.block_bytes = block_bytes
        self.compacted = options.get("compacted", False)
        config = LogConfig(segment_bytes=16_384, index_interval_bytes=500, delete_retention_ms=0, **options)
        self.directory = f"{self.root}/logs/t-1"
        self.log = Log.open(self.disk, self.directory, config, 1000)
        self.lines = []
        self.start()

    def close(self):
        shutil.rmtree(self.root)

    def start(self):
        """New processes: only what is on disk is known."""
        self.since = 0
        self.full, self.plain = (
            Engine(self.disk, SCANNER, self._write, self.lines.append, open_index=opens, block_bytes=self.block_bytes)
            for opens in (InvertedIndex, None)
        )

    def _write(self, job):
        written = Written(job)
        written.carry_out()
        return written

    def append(self, values, codec=Codec.NONE, timestamp=NOW, keys=None, headers=()):
        records = [
            Record(n, timestamp + n, None if keys is None else keys[n], value, tuple(headers))
            for n, value in enumerate(values)
        ]
        batch = encode_batch(records, codec=codec)
        return self.log.append(memoryview(batch), check_produced(batch), 0, 1000)

    def append_documents(self, documents, codec=Codec.NONE):
        base = NOW
        records = [
            Record(
                n,
                each.timestamp if each.timestamp >= -1 and abs(each.timestamp - base) < 1 << 40 else base,
                each.key,
                each.value,
                tuple(each.headers),
            )
            for n, each in enumerate(documents)
        ]
        batch = encode_batch(records, codec=codec)
        return self.log.append(memoryview(batch), check_produced(batch), 0, 1000)

    def follow(self):
        bounds, aborted = told(self.log, self.since)
        self.since = bounds.stable
        for engine, name, messages in ((self.full, "full", self.split_messages), (self.plain, "plain", 0)):
            engine.follow(
                Follow(
                    TOPIC, PARTITION, self.directory, f"{self.root}/search/{name}", bounds.start, bounds.stable,
                    bounds.generation, tuple(map(tuple, aborted)), split_messages=messages, compacted=self.compacted,
                )
            )  # fmt: skip

    def steps(self, most=100_000):
        for engine in (self.full, self.plain):
            for _ in range(most):
                if not engine.step():
                    break

    @property
    def splits(self):
        return self.full.splits_of(PLACE)

    def due(self):
        return self.full.due(AskDue(1)).splits

    def build_due(self, most=100):
        """Build what is due, as a process of the pool does it; how many that were."""
        for number in range(most):
            due = self.due()
            if not due:
                return number
            made = build(due[0], self.disk, SCANNER, lambda progress: None)
            self.full.built(SplitBuilt(TOPIC, PARTITION, made.name))
            self.steps()
        raise AssertionError("it never comes to an end")

    def settle(self):
        self.follow()
        self.steps()
        self.build_due()

    def records(self):
        """Every record that counts, as a document."""
        files = CommittedFiles(self.disk, self.directory, SCANNER)
        bounds, aborted = told(self.log)
        files.follow(bounds, aborted)
        found = [
            Document(record.offset, record.timestamp, record.key, record.value, record.headers)
            for stored in files.read(bounds.start, bounds.stable)
            for record in decode_records(stored.data, 1 << 27)
            if bounds.start <= record.offset < bounds.stable
        ]
        files.forget_files()
        return found

    def truth(self, query, mapping=NO_MAPPING):
        fits = compile_query(query, Scope("events", PARTITION, NOW, mapping))
        return [each.offset for each in self.records() if fits(each)]

    def search(self, engine, query, size=100_000, count_to=-1, mapping=NO_MAPPING, **options):
        """(offsets in order, the answer)."""
        bounds = told(self.log)[0]
        part = SearchedPart("events", TOPIC, PARTITION, bounds.start, bounds.stable, mapping)
        request = Search(
            query=query, parts=(part,), now_ms=NOW, size=size, count_to=count_to, seconds=1e9, **options
        )  # fmt: skip
        hits, steps = [], answer(engine, request, time.monotonic)
        while True:
            try:
                told_now = next(steps)
            except StopIteration as end:
                hits += end.value.hits
                return hits, end.value
            if told_now is not None:
                hits += told_now.hits

    def paths(self):
        """The directories of its splits."""
        directory = f"{self.root}/search/full"
        if not self.disk.exists(directory):
            return []
        return [f"{directory}/{name}" for name in self.disk.list(directory) if name.endswith(".split")]
