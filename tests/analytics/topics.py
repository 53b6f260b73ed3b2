"""Topics in memory, and statements run over them in this process, as a worker runs them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from chronik.analytics.engine import SqlEngine
from chronik.analytics.messages import Fault, Limits, PartitionFiles, Plan, Ran, Run, Table, Told
from chronik.log.log import Log, LogConfig
from chronik.log.memory import MemoryDisk
from chronik.wire.compression import Codec
from chronik.wire.records import Record, check_produced, encode_batch

LIMITS = Limits(rows=1000, seconds=20.0, memory_bytes=256 << 20, threads=2)
START = 1_700_000_000_000


class Found(NamedTuple):
    """What a statement came to."""

    ran: Ran
    text: bytes
    told: list[Told]

    @property
    def rows(self) -> list[Any]:
        """The rows of JSON. Raises AssertionError where the statement has failed."""
        if self.ran.fault is not None:
            raise AssertionError(self.ran.fault)
        return [tuple(row) for row in json.loads(b"[" + self.text + b"]")]


class Topics:
    """Logs in memory, and the engine over them."""

    def __init__(self, **options: Any) -> None:
        self.disk = MemoryDisk()
        self.engine = SqlEngine(self.disk)
        self._config = LogConfig(
            **{"segment_bytes": 20_000, "index_interval_bytes": 500, "delete_retention_ms": 0, **options}
        )
        self.logs: dict[tuple[str, int], Log] = {}

    def log(self, topic: str, partition: int = 0) -> Log:
        """The log of a partition, made when it isn't there yet."""
        if (topic, partition) not in self.logs:
            self.logs[topic, partition] = Log.open(self.disk, f"/logs/{topic}-{partition}", self._config, 1000)
        return self.logs[topic, partition]

    def add(
        self, topic: str, records: Sequence[Record], partition: int = 0, codec: Codec = Codec.NONE, **more: Any
    ) -> None:
        """Append a batch of records; their offsets count from 0."""
        batch = encode_batch(list(records), codec=codec, **more)
        self.log(topic, partition).append(memoryview(batch), check_produced(batch), 0, 1000)

    def add_values(
        self, topic: str, values: Sequence[Any], partition: int = 0, batch: int = 20, step_ms: int = 1000
    ) -> None:
        """Append values, a second apart if nothing else is said; what isn't bytes or None is JSON."""
        for start in range(0, len(values), batch):
            self.add(
                topic,
                [
                    Record(n, START + (start + n) * step_ms, b"k%d" % (start + n), encoded(value), ())
                    for n, value in enumerate(values[start : start + batch])
                ],
                partition,
            )

    def table(self, topic: str, declared: dict[str, str] | None = None) -> Table:
        """The table of a topic, as the node tells of it."""
        files = []
        for (name, partition), log in sorted(self.logs.items()):
            if name == topic:
                stable = min(log.producers.first_unstable, log.end_offset)
                aborted = log.aborted_between(log.start_offset, stable) if stable > log.start_offset else ()
                ranges = tuple((each.producer_id, each.first_offset, each.last_offset) for each in aborted)
                files.append(PartitionFiles(partition, log.directory, log.start_offset, stable, log.generation, ranges))
        return Table(topic, declared or {}, tuple(files))

    def sql(
        self,
        statement: str,
        declared: dict[str, str] | None = None,
        limits: Limits = LIMITS,
        form: Any = "json",
    ) -> Found:
        """Plan and run a statement over the topics that it names."""
        planned = self.engine.plan(Plan(statement))
        if planned.fault is not None:
            return Found(Ran(fault=planned.fault), b"", [])
        topics = {name for name, _ in self.logs}
        missing = set(planned.topics) - topics
        if missing:
            return Found(Ran(fault=Fault("unknown_topic", f"no such topics: {missing}", 404)), b"", [])
        tables = tuple(self.table(name, declared) for name in (*planned.topics, *planned.perhaps) if name in topics)
        told: list[Told] = []
        ran = self.engine.run(Run(statement, tables, limits, form), told.append)
        return Found(ran, b"".join(each.piece for each in told), told)


def encoded(value: Any) -> bytes | None:
    """A value as it is produced."""
    return value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
