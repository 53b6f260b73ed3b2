"""All partitions that this node holds: opened as the metadata says, found by name or id, closed and deleted with their topic.

`Replicas` follows the metadata image. A new partition is opened when it is first asked for, or a few milliseconds later in the
background (`chronik.broker.unopened`); so a topic of a thousand partitions holds nobody up. A
deleted topic's directories are renamed at once, which frees the name and makes the deletion durable, and removed after
`file.delete.delay.ms` by the janitor. A partition without any record has no directory.

A sync that fails here, on the reactor, is told to `on_fatal` as one that fails on the flusher's thread is.

What the node's own tiers do with partitions is the layer below, `node_topics`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache, partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from chronik.broker.directories import PartitionDirectories
from chronik.broker.interfaces import IReadablePartitions
from chronik.broker.node_topics import NodeTopics
from chronik.broker.opening import Verification, log_config
from chronik.broker.partition import Partition
from chronik.broker.preparation import ICompressionThreads
from chronik.broker.unopened import Opening, Unopened
from chronik.errors import ErrorCode, KafkaError, StorageError
from chronik.interfaces import (
    IClusterMetadata,
    IDisk,
    ILogDirectory,
    IPartitionHost,
    MetadataDelta,
)
from chronik.log.flusher import Flusher
from chronik.log.log import Log, LogConfig
from chronik.model import PartitionId, PartitionState, Topic, TopicPartition, Uuid, uuid_to_text
from chronik.telemetry.metrics import TopicMetrics
from chronik.topic_config import TopicSettings


@implementer(ILogDirectory, IReadablePartitions)
class Replicas(NodeTopics):
    """The partitions of one node under the directory `path`. `start` opens them; afterwards it follows `metadata`."""

    log = Logger()

    def __init__(
        self,
        *,
        metadata: IClusterMetadata,
        node_id: int,
        path: str,
        disk: IDisk,
        flusher: Flusher,
        settings_for: Callable[[Topic], TopicSettings],
        metrics_for: Callable[[str], TopicMetrics],
        discard: Callable[[str, int], None],
        producer_expiration_ms: int,
        flush_bytes: int,
        wall_clock_ms: Callable[[], int],
        cooperator: Cooperator,
        on_fatal: Callable[[Failure], object],
        clock: IReactorTime,
        random: Callable[[], float],
        threads: ICompressionThreads,
    ) -> None:
        super().__init__(wall_clock_ms)
        self.path = path
        self._metadata = metadata
        self._node_id = node_id
        self._disk = disk
        self._flusher = flusher
        self._settings_for = settings_for
        self._metrics_for = metrics_for
        self._directories = PartitionDirectories(disk, path, discard)
        self._producer_expiration_ms = producer_expiration_ms
        self._flush_bytes = flush_bytes
        self._hosts: list[IPartitionHost] = []
        self._on_fatal = on_fatal
        self._random = random
        self._threads = threads
        self._by_name: dict[str, dict[int, Partition]] = {}
        self._by_id: dict[Uuid, dict[int, Partition]] = {}
        self._unopened = Unopened(cooperator, clock, time.monotonic, self._directories.of)
        self._unsubscribe: Callable[[], None] = lambda: None
        self._clean = True
        self._verification = Verification(time.monotonic)

    # -- life ---------------------------------------------------------------------------------------------------------

    def add_host(self, host: IPartitionHost) -> None:
        """Tell `host` of every partition that is led here from now on, and of its end. Before `start`."""
        self._hosts.append(host)

    def start(self, clean: bool) -> Deferred[None]:
        """Open all partitions of the image; fires when they can be served. `clean` says how the node went down."""
        self._clean = clean
        self._directories.prepare(self._metadata)
        for topic in self._metadata.topics():
            self._add(topic)
        self._unsubscribe = self._metadata.subscribe(self._changed)
        return self._unopened.open_all()

    def stop(self) -> None:
        """Close every log: what is written becomes durable, and the checkpoints are up to date. Blocks.

        Raises the last OSError of those that could not be closed in order, after all the others were.
        """
        self._unsubscribe()
        self._unopened.stop()
        refused: OSError | None = None
        for partition in self.partitions():
            partition.resign(KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "the node is shutting down"))
            try:
                partition.log.close()
            except OSError as error:
                self.log.error(
                    "{partition} is not closed in order: {error}", partition=str(partition.name), error=error
                )
                refused = error
                partition.log.abandon()
        if refused is not None:
            raise refused

    def take_offline(self, reason: str) -> None:
        """Refuse all appends from now on: the node is about to end, and acknowledges nothing more."""
        for partition in self.partitions():
            partition.log.take_offline(reason)

    def _lost(self, error: StorageError) -> None:
        self._on_fatal(Failure(error))  # type: ignore[no-untyped-call]

    def partitions(self) -> Iterator[Partition]:
        """Every open partition."""
        for by_index in self._by_name.values():
            yield from by_index.values()

    # -- look-up ------------------------------------------------------------------------------------------------------

    def partition(self, topic: str, index: int) -> Partition:
        """The partition by topic name. Raises KafkaError(UNKNOWN_TOPIC_OR_PARTITION)."""
        try:
            return self._by_name[topic][index]
        except KeyError:
            return self._late(self._metadata.topic(topic), topic, index)

    def partition_by_id(self, topic_id: Uuid, index: int) -> Partition:
        """The partition by topic id. Raises KafkaError(UNKNOWN_TOPIC_ID or UNKNOWN_TOPIC_OR_PARTITION)."""
        try:
            return self._by_id[topic_id][index]
        except KeyError:
            topic = self._metadata.topic_by_id(topic_id)
            if topic is None:
                raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID, f"no topic has the id {uuid_to_text(topic_id)}") from None
            return self._late(topic, topic.name, index)

    def _late(self, topic: Topic | None, name: str, index: int) -> Partition:
        """A partition that exists and is not open yet. Raises KafkaError(KAFKA_STORAGE_ERROR) when it cannot be opened.

        One of a saved search has no log: who asks here for it wants to do what can't be done (INVALID_TOPIC_EXCEPTION, as
        for the node's own topics).
        """
        if topic is not None and topic.search is not None:
            raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"{name} is a saved search, and can only be read")
        partition_id = None if topic is None else PartitionId(topic.topic_id, index)
        if partition_id is None or partition_id not in self._unopened:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"this node has no partition {name[:249]}-{index}")
        fault = self._unopened.open_now(partition_id)
        if fault is not None:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"{name}-{index} cannot be opened: {fault}")
        return self._by_id[partition_id.topic_id][index]

    # -- what is on disk ----------------------------------------------------------------------------------------------

    def partition_sizes(self) -> Iterator[tuple[TopicPartition, int]]:
        """See `ILogDirectory`."""
        return ((partition.name, partition.log.size_bytes) for partition in list(self.partitions()))

    def sizes_of(self, topic: str) -> dict[int, int]:
        """Bytes of log of those partitions of `topic` that are open here."""
        return {index: partition.log.size_bytes for index, partition in self._by_name.get(topic, {}).items()}

    def topic_sizes(self) -> list[tuple[str, int]]:
        """Bytes of log of each topic that has open partitions here."""
        return [
            (topic, sum(partition.log.size_bytes for partition in by_index.values()))
            for topic, by_index in sorted(self._by_name.items())
        ]

    def volume(self) -> tuple[int, int]:
        """See `ILogDirectory`."""
        return self._directories.volume()

    # -- following the metadata ---------------------------------------------------------------------------------------

    def _changed(self, delta: MetadataDelta) -> None:
        for topic in delta.deleted:
            self._remove(topic)
        for topic in delta.created:
            self._add(topic)
        for topic in delta.changed:
            self._update(topic)
        if delta.brokers_changed:
            self.reconfigure()
        self._unopened.open_soon()

    def reconfigure(self) -> None:
        """Read every topic's settings again: broker-wide defaults have changed."""
        for topic in self._metadata.topics():
            self._configure(topic)

    def _add(self, topic: Topic) -> None:
        if topic.search is not None:
            return  # it has no log: see `chronik.broker.saved_topics`
        by_index = self._by_name.setdefault(topic.name, {})
        self._by_id[topic.topic_id] = by_index
        settings = cache(partial(self._settings_for, topic))
        for state in topic.partitions:
            if self._node_id in state.replicas and state.partition not in by_index:
                partition_id = PartitionId(topic.topic_id, state.partition)
                self._unopened.add(partition_id, self._opener(topic, state, settings))

    def _update(self, topic: Topic) -> None:
        self._configure(topic)
        by_index = self._by_name.get(topic.name, {})
        for state in topic.partitions:
            if state.partition in by_index:
                by_index[state.partition].update(state)
        self._add(topic)

    def _configure(self, topic: Topic) -> None:
        by_index = self._by_name.get(topic.name)
        if by_index:
            settings = self._settings_for(topic)
            for partition in by_index.values():
                partition.configure(settings)
                partition.log.configure(self._log_config(settings))

    def _remove(self, topic: Topic) -> None:
        if topic.search is not None:
            return
        gone = KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"topic {topic.name} was deleted")
        self._by_name.pop(topic.name, None)
        by_index = self._by_id.pop(topic.topic_id, {})
        delay_ms = self._settings_for(topic).file_delete_delay_ms
        given_up = [self._directories.give_up(each, delay_ms) for each in self._unopened.forget(topic.topic_id)]
        for partition in by_index.values():
            for host in self._hosts:
                host.partition_resigned(partition.partition_id, partition.name)
            try:
                partition.log.abandon()
            except (OSError, StorageError) as error:  # of the latter `on_fatal` was told
                self.log.error("{path} of a deleted topic: {error}", path=partition.log.directory, error=error)
            self._flusher.forget(partition.log)
            partition.resign(gone)
            given_up.append(self._directories.give_up(partition.partition_id, delay_ms))
        if any(given_up):
            try:
                self._directories.sync()
            except StorageError as error:
                self._lost(error)
                raise
        if by_index:
            self.log.info("topic {topic} deleted with {count} partition(s)", topic=topic.name, count=len(by_index))

    # -- opening ------------------------------------------------------------------------------------------------------

    def _opener(
        self, topic: Topic, state: PartitionState, settings: Callable[[], TopicSettings]
    ) -> Callable[[], Opening]:
        return lambda: self._open(topic, state, PartitionId(topic.topic_id, state.partition), settings())

    def _open(self, topic: Topic, state: PartitionState, partition_id: PartitionId, settings: TopicSettings) -> Opening:
        name = TopicPartition(topic.name, state.partition)
        path, config = self._directories.of(partition_id), self._log_config(settings)
        steps = Log.opening(self._disk, path, config, self._now_ms(), self._clean, random=self._random)
        log = yield from self._verification.follow(str(name), steps)
        log.on_lost = self._lost
        if log.recovery is not None and settings.durability == "fsync":
            # What was recovered may only be in the page cache, and is about to be served as committed.
            try:
                log.flush()
            except OSError as error:
                self.log.warn("{partition}: no checkpoint for now: {error}", partition=str(name), error=error)
        partition = Partition(
            name,
            partition_id,
            log,
            state,
            settings,
            self._metrics_for(topic.name),
            self._flusher_request,
            self._threads,
        )
        self._flusher.watch(log, partition.synced)
        self._by_id[topic.topic_id][state.partition] = partition
        self._unopened.opened(partition_id)
        for host in self._hosts:
            host.partition_led(partition_id, name, state.leader_epoch)
        return partition

    def _flusher_request(self, partition: Partition) -> None:
        self._flusher.request(partition.log)

    def _log_config(self, settings: TopicSettings) -> LogConfig:
        return log_config(settings, self._flush_bytes, self._producer_expiration_ms)
