"""A consume-transform-produce job as a process of its own, with exactly-once by confluent-kafka's transactions.

    python -m tests.crash.copier BOOTSTRAP TRANSACTIONAL_ID GROUP SOURCE TARGET SIZE

It copies what SOURCE gets to the same partition of TARGET, SIZE messages a transaction, until SIGTERM. A fatal error (it was
fenced) ends it with exit code 3: whoever runs it starts it anew.
"""

from __future__ import annotations

import signal
import sys

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

FENCED = 3
_PATIENCE = 30.0
_stopping = False


class Copier:
    """The job. A transaction that has to be aborted is done again from what the group has committed."""

    def __init__(self, bootstrap: str, transactional_id: str, group: str, source: str, target: str) -> None:
        quick = {
            "bootstrap.servers": bootstrap,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 250,
            "log_level": 0,
        }
        self._source, self._target = source, target
        self._consumer = Consumer(
            {
                **quick,
                "group.id": group,
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 300,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            }
        )
        self._producer = Producer(
            {**quick, "transactional.id": transactional_id, "transaction.timeout.ms": 20_000, "linger.ms": 0}
        )

    def run(self, size: int) -> None:
        """Copy until SIGTERM. Raises KafkaException where the producer cannot go on."""
        self._again(lambda: self._producer.init_transactions(_PATIENCE))
        self._consumer.subscribe([self._source])
        while not _stopping:
            messages = [message for message in self._consumer.consume(size, 0.5) if message.error() is None]
            if messages and not self._copy(messages):
                self._rewind()
        self._consumer.close()

    def _copy(self, messages: list[Message]) -> bool:
        """One transaction; False where it was aborted."""
        ends = {message.partition(): message.offset() + 1 for message in messages}
        offsets = [TopicPartition(self._source, partition, end) for partition, end in ends.items()]
        try:
            self._producer.begin_transaction()
            for message in messages:
                self._producer.produce(self._target, message.value(), partition=message.partition())
            metadata = self._consumer.consumer_group_metadata()
            self._again(lambda: self._producer.send_offsets_to_transaction(offsets, metadata, _PATIENCE))
            self._again(lambda: self._producer.commit_transaction(_PATIENCE))
        except KafkaException as problem:
            if not problem.args[0].txn_requires_abort():
                raise
            self._again(lambda: self._producer.abort_transaction(_PATIENCE))
            return False
        return True

    def _again(self, step: object) -> None:
        """Carry out a step, again while it says that it may be repeated."""
        while True:
            try:
                step()  # type: ignore[operator]
            except KafkaException as problem:
                if not problem.args[0].retriable() or _stopping:
                    raise
            else:
                return

    def _rewind(self) -> None:
        assigned = self._consumer.assignment()
        if not assigned:
            return
        for place in self._consumer.committed(assigned, _PATIENCE):
            start = TopicPartition(place.topic, place.partition, max(place.offset, 0))
            self._consumer.seek(start)


def _stop(*_: object) -> None:
    global _stopping
    _stopping = True


def main(bootstrap: str, transactional_id: str, group: str, source: str, target: str, size: str) -> int:
    """Run one copier; its exit code."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        Copier(bootstrap, transactional_id, group, source, target).run(int(size))
    except KafkaException as problem:
        print(problem, file=sys.stderr, flush=True)
        return FENCED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
