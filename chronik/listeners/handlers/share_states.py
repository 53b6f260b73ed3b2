"""What the five APIs of share state have in common: many share partitions of one group, an answer for each (KIP-932).

Leaders of partitions and group coordinators of other nodes ask these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, ClassVar

from twisted.internet.defer import Deferred

from chronik.coordinator.share_coordinator import ShareCoordinator
from chronik.errors import KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.parts import joined_topics, topics_in_parts
from chronik.listeners.slices import Slices
from chronik.model import SharePartitionKey
from chronik.steps import Steps


class ShareStateHandler(ABC):
    """Serves one of them through `shares`."""

    min_version = 0
    max_version = 0
    response: ClassVar[Any]
    topic_result: ClassVar[Any]
    partition_result: ClassVar[Any]

    in_turn = False

    def __init__(self, shares: ShareCoordinator, slices: Slices) -> None:
        self._shares = shares
        self._slices = slices

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
        pace = self._slices.pace()
        for topic in request.topics:
            answers: list[Deferred[Any]] = []
            begun.append((topic.topic_id, answers))
            for asked in topic.partitions:
                await pace.turn()
                answers.append(self._begin(request.group_id, topic, asked))
        return self.response(
            results=[
                self.topic_result(topic_id=topic_id, partitions=[await answer for answer in answers])
                for topic_id, answers in begun
            ]
        )

    def parts(self, request: Any) -> Iterator[Any]:
        """Requests about some share partitions each."""
        return topics_in_parts(request, "topics", "partitions")

    def joined(self, answers: Sequence[Any]) -> Steps[Any]:
        """One answer of those to the parts."""
        results = yield from joined_topics(
            [answer.results for answer in answers], lambda topic: topic.topic_id, "partitions"
        )
        return self.response(results=results)

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
