"""Share groups on real partitions in memory: the handlers, and a share coordinator that answers when a test says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from chronik.broker.share_partitions import ShareLimits, SharePartitions
from chronik.controller.commands import AlterConfigs, ConfigOperation, ConfigResource, Operation, ResourceType
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IShareStates
from chronik.listeners.backlog import AnswerBacklog
from chronik.listeners.handlers.share_acknowledge import ShareAcknowledgeHandler
from chronik.listeners.handlers.share_fetch import ShareFetchHandler
from chronik.listeners.throttling import Throttles
from chronik.model import SharePartitionKey, ShareState, StateBatch, uuid_to_text
from chronik.wire.messages import share_acknowledge, share_fetch
from chronik.wire.messages.share_fetch import ForgottenTopic, ShareFetchRequest, ShareFetchResponse
from chronik.wire.records import Record, encode_batch
from tests.listeners.handlers.hosting import NOW, Hosting

Ranges = tuple[tuple[int, int, int], ...]
"""(first, last, type) of what is acknowledged."""


@implementer(IShareStates)
class States:
    """Keeps states as they are written. While `held` is a list, what is asked waits there; `error` is what everything gets."""

    def __init__(self) -> None:
        self.states: dict[SharePartitionKey, ShareState] = {}
        self.epochs: dict[SharePartitionKey, int] = {}
        self.written: list[tuple[int, tuple[StateBatch, ...]]] = []
        self.held: list[Deferred[None]] | None = None
        self.error: ErrorCode | None = None
        self.reads = 0

    async def _turn(self) -> None:
        if self.held is not None:
            waiting: Deferred[None] = Deferred()
            self.held.append(waiting)
            await waiting
        if self.error is not None:
            raise KafkaError(self.error, "as the test says")

    def go_on(self) -> None:
        """Let everything through from now on."""
        held, self.held = self.held or [], None
        for waiting in held:
            waiting.callback(None)

    def _check(self, key: SharePartitionKey, state_epoch: int) -> ShareState:
        if key not in self.states:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "not initialised")
        if self.states[key].state_epoch != state_epoch:
            raise KafkaError(ErrorCode.FENCED_STATE_EPOCH, "it began anew")
        return self.states[key]

    async def read(self, key: SharePartitionKey, leader_epoch: int) -> ShareState:
        """What was initialised or written."""
        self.reads += 1
        await self._turn()
        if key not in self.states:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "not initialised")
        return self.states[key]

    async def write(
        self,
        key: SharePartitionKey,
        state_epoch: int,
        leader_epoch: int,
        start_offset: int,
        batches: Sequence[StateBatch],
    ) -> None:
        """Keep the start alone; what was written is in `written`."""
        await self._turn()
        state = self._check(key, state_epoch)
        self.written.append((start_offset, tuple(batches)))
        self.states[key] = ShareState(state.state_epoch, start_offset, state.batches)

    async def initialise(self, key: SharePartitionKey, state_epoch: int, start_offset: int) -> None:
        """Begin to keep it."""
        self.states[key] = ShareState(state_epoch, start_offset, ())

    async def delete(self, key: SharePartitionKey) -> None:
        """Keep it no longer."""
        del self.states[key]

    async def start_of(self, key: SharePartitionKey) -> tuple[int, int]:
        """Where it begins."""
        return self.states[key].start_offset, 0


class Sharing:
    """A node with topic "t" of two partitions, which group "g" reads from the beginning; another group has to be `set_up`."""

    def __init__(self, answers_bytes: int = 1 << 20) -> None:
        self.hosting = Hosting()
        self.topic_id = self.hosting.create("t", 2)
        clock = self.clock = self.hosting.clock
        self.states = States()
        self.quotas: dict[Any, dict[str, float]] = {}
        self.answers = AnswerBacklog(answers_bytes)
        self.throttles = Throttles(lambda: self.quotas, clock.seconds)
        self.shares = SharePartitions(
            self.hosting.replicas,
            self.states,
            self.hosting.image,
            ShareLimits(max_sessions=3, max_record_locks=100),
            clock,
            lambda: NOW,
        )
        self.hosting.replicas.add_host(self.shares)
        slices = self.hosting.slices
        self.fetcher = ShareFetchHandler(self.shares, clock, 1 << 20, 60_000, self.answers, self.throttles, slices)
        self.acknowledger = ShareAcknowledgeHandler(self.shares, slices)
        self.set_up("g", start=0)

    def set_up(self, group: str, start: int = -1) -> None:
        """Have the state of both partitions initialised."""
        for partition in (0, 1):
            self.states.states[SharePartitionKey(group, self.topic_id, partition)] = ShareState(1, start, ())

    def configure(self, group: str, name: str, value: str) -> None:
        """Set a config of a group."""
        change = ConfigOperation(name, Operation.SET, value)
        self.hosting.cluster.do(AlterConfigs(((ConfigResource(ResourceType.GROUP, group), (change,)),)))

    def append(self, *sizes: int, partition: int = 0, timestamp: int = NOW) -> None:
        """A batch of so many records for each size."""
        for size in sizes:
            data = encode_batch([Record(index, timestamp, None, b"v") for index in range(size)])
            self.hosting.partition("t", partition).append(data, NOW)
        self.clock.advance(0)

    def member(self, name: str = "a", group: str = "g") -> Member:
        """A member, by a letter."""
        return Member(self, group, uuid_to_text(name.encode() * 16))


class Member:
    """What one member asks, its epochs counted."""

    def __init__(self, sharing: Sharing, group: str, member_id: str) -> None:
        self.sharing = sharing
        self.group = group
        self.member_id = member_id
        self.epoch = 0

    def begin(self, *partitions: int, says: dict[int, Ranges] | None = None, **fields: Any) -> Deferred[Any]:
        """A ShareFetch that may have to wait."""
        about = dict.fromkeys(partitions, ()) | (says or {})
        topics = [
            share_fetch.FetchTopic(
                topic_id=fields.pop("topic_id", self.sharing.topic_id),
                partitions=[
                    share_fetch.FetchPartition(
                        partition_index=partition,
                        acknowledgement_batches=[
                            share_fetch.AcknowledgementBatch(first_offset=a, last_offset=b, acknowledge_types=[kind])
                            for a, b, kind in ranges
                        ],
                    )
                    for partition, ranges in about.items()
                ],
            )
        ]
        forgotten = fields.pop("forgotten", ())
        values: dict[str, Any] = {
            "group_id": self.group,
            "member_id": self.member_id,
            "share_session_epoch": self.epoch,
            "max_wait_ms": 0,
            "min_bytes": 1,
            "max_records": 1000,
            "batch_size": 1000,
            "topics": topics if about else [],
            "forgotten_topics_data": [
                ForgottenTopic(topic_id=self.sharing.topic_id, partitions=list(forgotten)),
            ],
            **fields,
        }
        if values["share_session_epoch"] == self.epoch:
            self.epoch += 1
        return self.sharing.hosting.begin(self.sharing.fetcher, ShareFetchRequest(**values))

    def fetch(self, *partitions: int, **how: Any) -> ShareFetchResponse:
        """A ShareFetch that is answered at once, or when the clock has had its turn."""
        return done(self.begin(*partitions, **how), self.sharing)

    def begin_acknowledge(self, about: dict[int, Ranges], **fields: Any) -> Deferred[Any]:
        """A ShareAcknowledge that may have to wait."""
        request = share_acknowledge.ShareAcknowledgeRequest(
            group_id=self.group,
            member_id=self.member_id,
            share_session_epoch=fields.pop("epoch", self.epoch),
            topics=[
                share_acknowledge.AcknowledgeTopic(
                    topic_id=fields.pop("topic_id", self.sharing.topic_id),
                    partitions=[
                        share_acknowledge.AcknowledgePartition(
                            partition_index=partition,
                            acknowledgement_batches=[
                                share_acknowledge.AcknowledgementBatch(
                                    first_offset=a, last_offset=b, acknowledge_types=[kind]
                                )
                                for a, b, kind in ranges
                            ],
                        )
                        for partition, ranges in about.items()
                    ],
                )
            ],
        )
        if request.share_session_epoch == self.epoch:
            self.epoch += 1
        return self.sharing.hosting.begin(self.sharing.acknowledger, request)

    def acknowledge(self, about: dict[int, Ranges], **fields: Any) -> list[ErrorCode]:
        """The code of each partition; or of the request, if that is refused."""
        answer = done(self.begin_acknowledge(about, **fields), self.sharing)
        if answer.error_code:
            return [ErrorCode(answer.error_code)]
        return [ErrorCode(each.error_code) for topic in answer.responses for each in topic.partitions]


def done(answer: Deferred[Any], sharing: Sharing) -> Any:
    """What a deferred answer has come to by now."""
    sharing.clock.pump([0] * 5)
    found: list[Any] = []
    answer.addBoth(found.append)
    assert found, "it waits"
    if hasattr(found[0], "raiseException"):
        found[0].raiseException()
    return found[0]


def given(answer: ShareFetchResponse) -> dict[int, list[tuple[int, int, int]]]:
    """(first offset, last offset, deliveries) of what was given out, by partition."""
    return {
        each.partition_index: [(got.first_offset, got.last_offset, got.delivery_count) for got in each.acquired_records]
        for topic in answer.responses
        for each in topic.partitions
        if each.acquired_records
    }
