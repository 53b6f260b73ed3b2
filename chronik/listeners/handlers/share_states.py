"""What the five APIs of share state have in common: many share partitions of one group, an answer for each (KIP-932).

Leaders of partitions and group coordinators of other nodes ask these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from chronik.coordinator.share_coordinator import ShareCoordinator
from chronik.errors import KafkaError
from chronik.listeners.context import RequestContext
from chronik.model import SharePartitionKey

_SLICE = 32
"""Share partitions begun with before the reactor gets its turn: about 3 ms."""


class ShareStateHandler(ABC):
    """Serves one of them through `shares`."""

    min_version = 0
    max_version = 0
    response: ClassVar[Any]
    topic_result: ClassVar[Any]
    partition_result: ClassVar[Any]

    def __init__(self, shares: ShareCoordinator, reactor: Any) -> None:
        self._shares = shares
        self._reactor = reactor

    @abstractmethod
    def ask(self, key: SharePartitionKey, asked: Any) -> Deferred[Any]:
        """Begin with one share partition. Raises and fails with KafkaError."""

    def result(self, index: int, found: Any) -> Any:
        """What is told of one share partition that `ask` has found."""
        return self.partition_result(partition=index)

    def handle(self, request: Any, context: RequestContext) -> Coroutine[Any, Any, Any]:
        """An answer for each share partition; none at all to a request without a group, or with a topic of no partitions."""
        return self._answer(request)

    async def _answer(self, request: Any) -> Any:
        if not request.group_id or not all(topic.partitions for topic in request.topics):
            return self.response()
        begun: list[tuple[bytes, list[Deferred[Any]]]] = []
        count = 0
        for topic in request.topics:
            answers: list[Deferred[Any]] = []
            begun.append((topic.topic_id, answers))
            for asked in topic.partitions:
                count += 1
                if count % _SLICE == 0:
                    await deferLater(self._reactor, 0)
                answers.append(self._begin(request.group_id, topic, asked))
        return self.response(
            results=[
                self.topic_result(topic_id=topic_id, partitions=[await answer for answer in answers])
                for topic_id, answers in begun
            ]
        )

    def _begin(self, group_id: str, topic: Any, asked: Any) -> Deferred[Any]:
        index = asked.partition

        def failed(failure: Any) -> Any:
            failure.trap(KafkaError)
            return self._failed(index, failure.value)

        key = SharePartitionKey(group_id, bytes(topic.topic_id), index)
        try:
            answer = self.ask(key, asked)
        except KafkaError as error:
            done: Deferred[Any] = Deferred()
            done.callback(self._failed(index, error))
            return done
        return answer.addCallbacks(lambda found: self.result(index, found), failed)

    def _failed(self, index: int, error: KafkaError) -> Any:
        return self.partition_result(partition=index, error_code=error.code, error_message=error.message)

    def refuse(self, request: Any, version: int, error: KafkaError) -> Any:
        """The error for each share partition."""
        return self.response(
            results=[
                self.topic_result(
                    topic_id=topic.topic_id,
                    partitions=[self._failed(each.partition, error) for each in topic.partitions],
                )
                for topic in request.topics
            ]
        )
