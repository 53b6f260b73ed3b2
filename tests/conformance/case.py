"""What the conformance tests share: an embedded broker for each, and raw requests to it."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from chronik.testing import Chronik
from chronik.wire.apis import ApiKey
from tests.differential.batches import Batch
from tests.differential.scenarios import append, create
from tests.differential.session import Session


class ConformanceCase(SynchronousTestCase):
    """Tests against a broker in memory, each with one of its own; `options` are its settings."""

    options: ClassVar[dict[str, object]] = {}

    def setUp(self) -> None:
        self.broker = Chronik(**self.options).start()  # type: ignore[arg-type]
        self.addCleanup(self.broker.stop)
        self.session = self.connect()

    def connect(self) -> Session:
        """A session with connections of its own."""
        session = Session(("127.0.0.1", self.broker.port))
        self.addCleanup(session.close)
        return session

    def ask(self, key: ApiKey, version: int, values: dict[str, Any] | None = None, **options: Any) -> Any:
        """The answer to one request; fails where there is none."""
        answer = self.session.ask("", key, version, values or {}, unrecorded=True, **options)
        self.assertIsNotNone(answer, f"{key.name} version {version} got no answer")
        return answer

    def topic(self, partitions: int = 1, **configs: str) -> str:
        """A new topic named after the test."""
        name = self.id().rpartition(".")[2]
        create(self.session, name, partitions, **configs)
        return name

    def append(self, topic: str, *batches: Batch, partition: int = 0) -> None:
        """Produce batches; all must succeed."""
        append(self.session, topic, *batches, partition=partition)

    def produce(self, topic: str, records: bytes | None, version: int = 9, acks: int = -1, partition: int = 0) -> Any:
        """The answer for the one partition of a Produce request."""
        data = [{"index": partition, "records": records}]
        body = {"acks": acks, "timeout_ms": 5000, "topic_data": [{"name": topic, "partition_data": data}]}
        return self.ask(ApiKey.PRODUCE, version, body).responses[0].partition_responses[0]

    def fetch(self, topic: str, offset: int, version: int = 12, partition: int = 0, **fields: Any) -> Any:
        """The answer for the one partition of a Fetch request outside of any session."""
        part = {"partition": partition, "fetch_offset": offset, "partition_max_bytes": fields.pop("limit", 1 << 20)}
        return (
            self.ask(ApiKey.FETCH, version, fetch_body([{"topic": topic, "partitions": [part]}], **fields))
            .responses[0]
            .partitions[0]
        )


class OnDisk(ConformanceCase):
    """The same with a broker that keeps its data in a directory of the test's, for one that goes on with it."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        self.start()
        self.addCleanup(lambda: self.broker.stop())

    def start(self) -> None:
        """Start a broker in the test's directory, and connect to it."""
        self.broker = Chronik(directory=self.directory, **self.options).start()  # type: ignore[arg-type]
        self.session = self.connect()


def fetch_body(topics: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """A Fetch request outside of any session that doesn't wait."""
    return {
        "replica_id": -1, "max_wait_ms": 0, "min_bytes": 1, "max_bytes": 1 << 20, "session_epoch": -1, "topics": topics,
    } | fields  # fmt: skip
