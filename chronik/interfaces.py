"""The seams between tiers: what one tier asks of another without importing it.

Only what has two providers or more, or must be handed sideways between siblings, is an interface. One contract suite per
interface lives in `tests/contracts/` and runs against every provider.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from zope.interface import Attribute, Interface

from chronik.model import (
    Alert,
    Broker,
    ContinuousQuery,
    PartitionId,
    SavedSearch,
    SharePartitionKey,
    ShareState,
    StateBatch,
    Topic,
    TopicPartition,
    TransactionMarker,
    Uuid,
)

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from chronik.errors import ErrorCode

Buffer = bytes | bytearray | memoryview


class IFile(Interface):
    """One file that is appended to and read at positions. Writes are visible to reads at once, durable after `datasync`.

    All but `datasync` are called from one thread.
    """

    def append(buffer: Buffer) -> None:
        """Write all of `buffer` at the end; the first append creates the file.

        Raises OSError; what part of a failed append is in the file is then unknown until `truncate`.
        """

    def pread(size: int, position: int) -> bytes:
        """At most `size` bytes from `position`; fewer at the end of the file, none beyond it. Raises FileNotFoundError."""

    def size() -> int:
        """The length of the file in bytes, 0 where there is no file yet."""

    def truncate(size: int) -> None:
        """Cut the file to `size` bytes."""

    def datasync() -> None:
        """Return once all appended bytes would survive a power loss. May be called from another thread.

        Raises StorageError: the pages may be lost, the caller must stop the process and never try again.
        """

    def close() -> None:
        """Release the handle; the next use opens it anew. Does not sync, and takes nothing from the need to."""


class IDisk(Interface):
    """A directory tree: the real one, or a simulated one that loses and tears what was not synced. Paths are absolute.

    Operations raise OSError; where a sync fails, StorageError: the process must stop.
    """

    def open(path: str) -> IFile:
        """A handle for appending and reading. Does no I/O: the file is opened at its first use."""

    def read(path: str) -> bytes:
        """The whole content of a small file. Raises FileNotFoundError."""

    def replace(path: str, content: Buffer, durable: bool = True) -> None:
        """Put `content` in place of the file at `path` in one step: a temporary file, synced, renamed over it.

        After a power loss the file is the old one or the new one, and with `durable` it is the new one. Without, the new
        one is certain after `sync_directory`.
        """

    def exists(path: str) -> bool:
        """Whether a file or directory is there."""

    def size(path: str) -> int:
        """The length of the file at `path` in bytes. Raises FileNotFoundError."""

    def list(path: str) -> list[str]:
        """The names in a directory, sorted. Raises FileNotFoundError."""

    def make_directory(path: str, durable: bool = True) -> None:
        """Create a directory and its parents where missing. Not `durable`: certain after `sync_directory` of the parents."""

    def rename(source: str, target: str) -> None:
        """Move a file or directory over `target`. Durable after `sync_directory` of the parents."""

    def remove(path: str) -> None:
        """Delete a file, or a directory with all it holds. What is already gone is no error."""

    def sync_directory(path: str) -> None:
        """Make creations, renames and removals inside `path` durable."""

    def volume(path: str) -> tuple[int, int]:
        """(size, bytes that may still be written) of the volume of `path`."""


class IKeyValueStore(Interface):
    """An ordered map of bytes to bytes, durable. Providers: LevelDB, sqlite3, memory. Blocking: never call on the reactor."""

    def get(key: bytes) -> bytes | None:
        """The value of `key`, verified against its own CRC-32C. Raises CorruptLogError when it doesn't verify."""

    def write(puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = ()) -> None:
        """Apply all or nothing, and sync. Raises StorageError: the process must stop."""

    def scan(start: bytes, stop: bytes) -> Iterable[tuple[bytes, bytes]]:
        """Pairs with start <= key < stop in key order, each verified."""

    def close() -> None:
        """Release the store."""


class IReplicatedLog(Interface):
    """The numbered log of metadata records: one local writer today, Raft later. Indexes start at 1 and have no gaps."""

    def start(machine: IStateMachine) -> Deferred[None]:
        """Restore `machine` from the newest snapshot and the records after it; fire when it has seen all of them."""

    def propose(records: Sequence[bytes]) -> Deferred[int]:
        """Append `records` as one atomic entry; fire with its index after the state machine has applied it.

        Fails with KafkaError(NOT_CONTROLLER) on a node that does not lead, and with StorageError when the log is lost.
        """

    def stop() -> Deferred[None]:
        """Finish what is being written and release the store."""


class IStateMachine(Interface):
    """What replays a replicated log. `apply` is pure: no clock, no randomness, no I/O."""

    def apply(index: int, records: Sequence[bytes]) -> None:
        """Replay the entry at `index`."""

    def snapshot() -> bytes:
        """The whole state after the last applied index."""

    def restore(index: int, snapshot: bytes) -> None:
        """Replace the state with `snapshot`, which stands for all entries up to `index`."""


class IClusterMetadata(Interface):
    """The cluster as last replayed: read-only, in memory, answers at once."""

    cluster_id = Attribute("The cluster's id as text.")
    controller_id = Attribute("Node id of the controller, -1 when unknown.")
    version = Attribute("A number that grows with every change.")

    def topic(name: str) -> Topic | None:
        """The topic of that name, or None."""

    def topic_by_id(topic_id: Uuid) -> Topic | None:
        """The topic of that id, or None."""

    def topics() -> Sequence[Topic]:
        """All topics, in the order of their names."""

    def brokers() -> Sequence[Broker]:
        """All registered brokers, in the order of their ids."""

    def broker_configs(node_id: int | None) -> dict[str, str]:
        """Dynamic config overrides of one broker, or the cluster-wide defaults for None."""

    def group_configs(group_id: str) -> Mapping[str, str]:
        """Config overrides of a group, which need not exist."""

    def feature_level(name: str) -> int:
        """The level at which a feature is in force (`chronik.features`); 0 for one that is not."""

    def alerts() -> Sequence[Alert]:
        """All alerts, in the order of their names. No delta tells of them: who acts on them looks here."""

    def queries() -> Sequence[ContinuousQuery]:
        """All continuous queries, likewise."""

    def subscribe(listener: Callable[[MetadataDelta], None]) -> Callable[[], None]:
        """Call `listener` after every change that touches topics or brokers; returns what ends the subscription."""


class IController(Interface):
    """Where cluster metadata is changed: a command is decided, its records logged, replayed, and then answered."""

    def propose(command: object, use_quota: Callable[[int], None] | None = None) -> Deferred[object]:
        """Carry out a command of `chronik.controller.controller`; fire with its result. Refusals fail with KafkaError.

        `use_quota` is asked about each topic that it would create, grow or delete, with the number of partitions, and
        refuses the topic by the KafkaError that it raises.
        """


class MetadataDelta:
    """What one replayed entry changed, by topic: created, changed (partitions or configs) and deleted ones."""

    __slots__ = ("brokers_changed", "changed", "created", "deleted", "quotas_changed")

    def __init__(
        self,
        created: Sequence[Topic] = (),
        changed: Sequence[Topic] = (),
        deleted: Sequence[Topic] = (),
        brokers_changed: bool = False,
        quotas_changed: bool = False,
    ) -> None:
        self.created = created
        self.changed = changed
        self.deleted = deleted
        self.brokers_changed = brokers_changed
        self.quotas_changed = quotas_changed


class IPartitionWriter(Interface):
    """Appends for the node's own topics (`__consumer_offsets` and the like), on the partition's leader."""

    def append(partition: TopicPartition, batch: bytearray) -> Deferred[int]:
        """Append one encoded v2 record batch; fire with its base offset once it is committed (below the high watermark).

        Fails with KafkaError(NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION, NOT_ENOUGH_REPLICAS, KAFKA_STORAGE_ERROR).
        """


class ITransactionalWriter(IPartitionWriter):
    """Appends of the node's own topics that belong to clients' transactions: the group coordinator's offsets."""

    def check_transaction(partition: TopicPartition, producer_id: int, producer_epoch: int) -> Any:
        """What stands for the question that the transaction's coordinator must be asked before the next append.

        None when the producer's transaction is open there already. Raises KafkaError as `append` fails.
        """

    def append_transactional(partition: TopicPartition, batch: bytearray, check: Any) -> Deferred[int]:
        """As `append`, for a transactional batch without a sequence; `check` is what was asked about, and agreed to.

        Fails with KafkaError also: INVALID_TXN_STATE where nothing was asked or the transaction was ended meanwhile,
        INVALID_PRODUCER_EPOCH.
        """


class ILogTrimmer(Interface):
    """Gives up the beginning of a partition of the node's own topics."""

    def trim(partition: TopicPartition, offset: int) -> Deferred[None]:
        """Delete what lies below `offset`; fire when that is durable. Fails with KafkaError."""


class IShareStates(Interface):
    """What is kept of share partitions: a leader and a group coordinator ask the share coordinator, wherever that is (KIP-932).

    All raise KafkaError: COORDINATOR_NOT_AVAILABLE and the like, UNKNOWN_TOPIC_OR_PARTITION.
    """

    async def read(key: SharePartitionKey, leader_epoch: int) -> ShareState:
        """What a leader goes on from. Older leaders are fenced from then on.

        Raises KafkaError also: FENCED_LEADER_EPOCH; INVALID_REQUEST where nothing was initialised.
        """

    async def write(
        key: SharePartitionKey,
        state_epoch: int,
        leader_epoch: int,
        start_offset: int,
        batches: Sequence[StateBatch],
    ) -> None:
        """Keep what became of records; returns when it is in the log. Writes of one share partition keep their order.

        Raises KafkaError also: FENCED_LEADER_EPOCH, FENCED_STATE_EPOCH; INVALID_REQUEST where nothing was initialised.
        """

    async def initialise(key: SharePartitionKey, state_epoch: int, start_offset: int) -> None:
        """Begin to keep a share partition, or begin anew, from `start_offset`; -1 leaves that to its leader.

        Raises KafkaError also: FENCED_STATE_EPOCH.
        """

    async def delete(key: SharePartitionKey) -> None:
        """Keep a share partition no longer."""

    async def start_of(key: SharePartitionKey) -> tuple[int, int]:
        """(start offset, leader epoch) as they were written last; the offset is -1 where nobody knows one."""


class IMarkerListener(Interface):
    """Told of markers, where transactions end in records that the node itself acts upon."""

    def marker_committed(partition: TopicPartition, next_offset: int) -> None:
        """A marker is committed, and all before it: what is below `next_offset` can be read. It must not raise."""


class IMarkerWriter(Interface):
    """Ends transactions in partitions, on their leaders; what the transaction coordinator asks of the brokers."""

    def write_marker(partition: TopicPartition, marker: TransactionMarker) -> Deferred[None]:
        """Append the control batch of `marker`; fire once it is committed, and what it ends is visible or hidden for good.

        A marker for a producer that has no open transaction there is written all the same, as Kafka does. Fails with
        KafkaError: UNKNOWN_TOPIC_OR_PARTITION (deleted: nothing is left to end), NOT_LEADER_OR_FOLLOWER, NOT_ENOUGH_REPLICAS,
        INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED, KAFKA_STORAGE_ERROR.
        """


class ITransactions(Interface):
    """What a broker asks the coordinator of a transaction, before it takes a transactional batch."""

    def join(
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        partitions: Sequence[TopicPartition],
        verify_only: bool,
    ) -> Deferred[dict[TopicPartition, ErrorCode]]:
        """Fire with NONE for each partition that belongs to the producer's ongoing transaction, another code for others.

        With `verify_only` nothing is changed (KIP-890 part 1: clients of transactions v1 have added them before);
        without, partitions are added to the transaction, which begins with the first of them (transactions v2), and it
        fires when that is in the log. Fails with KafkaError where the whole is refused: COORDINATOR_LOAD_IN_PROGRESS,
        NOT_COORDINATOR, INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED, INVALID_PRODUCER_EPOCH, CONCURRENT_TRANSACTIONS.
        """


class ICommittedReader(Interface):
    """Reads of what is committed in one partition: below the high watermark, and not below the log start."""

    def bounds(partition: TopicPartition) -> tuple[int, int, int]:
        """(log start offset, high watermark, last stable offset). Raises KafkaError when the partition isn't here."""

    def read(partition: TopicPartition, offset: int, max_bytes: int) -> bytes:
        """Whole batches from the one that holds `offset`, up to the high watermark; empty at the end.

        Those of open and of aborted transactions are among them, and markers. At least one batch is returned where there is
        one, even above `max_bytes`. Raises KafkaError(OFFSET_OUT_OF_RANGE).
        """


class IFollowedLogs(Interface):
    """The logs that this node leads, for those who read their files beside it: see `chronik.log.committed`."""

    def look(partition: PartitionId, since: int) -> FollowedLog:
        """Where the log is, how far it may be read, and what was aborted in it since offset `since`.

        Raises KafkaError when the partition isn't here, or its aborted transactions cannot be read.
        """

    def end(partition: PartitionId) -> int:
        """The high watermark. Raises KafkaError when the partition isn't here."""

    def when_more(partition: PartitionId, told: Callable[[], None]) -> Callable[[], None]:
        """Call `told` once, when more of the log can be read; returns what takes that back. Raises KafkaError."""


class FollowedLog(NamedTuple):
    """What `IFollowedLogs` tells: bounds as `chronik.log.committed.Bounds`; aborted are (producer id, first, last offset)."""

    directory: str
    start: int
    stable: int
    generation: int
    aborted: Sequence[tuple[int, int, int]]


class ISelector(Interface):
    """Carries out saved searches: finds the records of a partition that match."""

    def select(
        source: PartitionId, topic: str, search: SavedSearch, start: int, max_bytes: int
    ) -> Deferred[SelectedBatches]:
        """What matches of partition `source`, which is of `topic`, from offset `start` on: as far as that goes within the
        bounds of one step, but a little further in any case, unless there is nothing more.

        Fails with KafkaError: INVALID_REQUEST where the search means nothing to this release, KAFKA_STORAGE_ERROR where it
        may go better later.
        """

    def tally(source: PartitionId, topic: str, search: SavedSearch, start: int, per_ms: int) -> Deferred[Tally]:
        """How many records match, likewise, by windows of `per_ms` of their own time. Fails as `select` does."""


class Tally(NamedTuple):
    """How many records match in which windows: (begin in ms, count) of each that has any. Else as `SelectedBatches`."""

    reached: int
    windows: Sequence[tuple[int, int]]
    failure: str = ""


class SelectedBatches(NamedTuple):
    """What `ISelector` finds: `data` are record batches, `ends` the offset behind each and its size.

    Everything below `reached` was looked at. `failure` says why the log could not be read further.
    """

    reached: int
    data: bytes
    ends: Sequence[tuple[int, int]]
    failure: str = ""


class IPartitionHost(Interface):
    """Told by the node when it starts or stops leading a partition, e.g. the coordinator for `__consumer_offsets`."""

    def partition_led(partition: PartitionId, name: TopicPartition, leader_epoch: int) -> None:
        """This node now leads the partition and its log is open."""

    def partition_resigned(partition: PartitionId, name: TopicPartition) -> None:
        """This node no longer leads the partition, or it is deleted."""


class ILogDirectory(Interface):
    """What a node's data directory holds, for DescribeLogDirs."""

    path = Attribute("Absolute path of the directory, as `log.dirs` names it.")

    def volume() -> tuple[int, int]:
        """(size, free bytes for this process) of the volume that the directory is on."""

    def partition_sizes() -> Iterable[tuple[TopicPartition, int]]:
        """Every partition that has a log here, and the bytes of its segments. Answers at once, from memory."""


class IRequestHandler(Interface):
    """Serves one Kafka API on a listener."""

    api_key = Attribute("The ApiKey served.")
    min_version = Attribute("Lowest version served.")
    max_version = Attribute("Highest version served; with min_version, exactly what ApiVersions advertises.")

    def handle(request: object, context: object) -> object:
        """Answer a decoded request: a Response, or a coroutine or Deferred of one; None sends nothing (acks=0).

        A KafkaError raised here becomes the response that `refuse` makes.
        """

    def refuse(request: object, version: int, error: object) -> object:
        """The Response that carries `error` (a KafkaError) in this API's own form."""
