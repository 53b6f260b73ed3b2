"""Calls handlers as the listener does: the request and the answer go through their encoded forms."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import Any
from unittest import TestCase

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, Cooperator
from zope.interface.verify import verifyClass

from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IRequestHandler
from chronik.listeners.context import Peer, RequestContext
from chronik.listeners.handlers.proposing import Proposing
from chronik.listeners.slices import Slices
from chronik.listeners.throttling import Throttles
from chronik.node_config import NodeConfig
from chronik.steps import at_once
from chronik.wire.apis import message_classes
from tests.controller.cluster import Cluster


def slices(clock: Clock) -> Slices:
    """Slices by `clock`, one a turn of it."""
    return Slices(clock.seconds, Cooperator(lambda: lambda: True, scheduler=lambda turn: clock.callLater(0, turn)))


def whole(answer: Any) -> Any:
    """What a handler returned; the result, where that is steps."""
    return at_once(answer) if isinstance(answer, Generator) else answer


def check_versions(case: TestCase, versions: Mapping[Any, tuple[int, int]]) -> None:
    """Handlers, by class, advertise these first and last versions, and have what the listener asks them for."""
    for cls, expected in versions.items():
        case.assertEqual((cls.min_version, cls.max_version), expected, cls)
        verifyClass(IRequestHandler, cls, tentative=True)


def check_refusals(handlers: Iterable[Any], requests: Mapping[Any, Any]) -> None:
    """Every version of the handlers has a form for refusals; `requests` are what is refused, by class, where it isn't empty."""
    for handler in handlers:
        request_class, response_class = message_classes(handler.api_key)
        request = requests.get(type(handler)) or request_class()
        for version in range(handler.min_version, handler.max_version + 1):
            refused = whole(handler.refuse(request, version, KafkaError(ErrorCode.NOT_COORDINATOR, "no")))
            response_class.decode(refused.encode(version), version)


class Serving:
    """A cluster in memory, with what handlers are made of: `cluster`, `controller`, `image`, `configs`, `clock`, `throttles`,
    `slices`, `proposing`.

    `received_ms` is the wall clock of the requests.
    """

    def __init__(self, static: dict[str, str] | None = None, **cluster: Any) -> None:
        self.cluster = Cluster(**cluster)
        self.controller = self.cluster.controller
        self.image = self.cluster.image
        self.configs = NodeConfig(static or {}, self.image, 0)
        self.clock = Clock()
        self.throttles = Throttles(self.image.quotas, self.clock.seconds)
        self.slices = slices(self.clock)
        self.proposing = Proposing(self.controller, self.clock, self.slices)  # type: ignore[arg-type]
        self.received_ms = 0

    def ask(self, handler: Any, request: Any, version: int | None = None, listener: str = "PLAINTEXT") -> Any:
        """The answer of `handler` to `request`, in the handler's highest version unless another is given."""
        answers: list[Any] = []
        self.begin(handler, request, version, listener).addBoth(answers.append)
        if answers and hasattr(answers[0], "raiseException"):
            answers[0].raiseException()
        return answers[0]

    def begin(
        self, handler: Any, request: Any, version: int | None = None, listener: str = "PLAINTEXT"
    ) -> Deferred[Any]:
        """As `ask`, for an answer that may still have to wait."""
        version = handler.max_version if version is None else version
        request_class, response_class = message_classes(handler.api_key)
        encoded = bytearray(request.encode(version))  # as received: writable
        request, end = request_class.decode(encoded, version)
        assert end == len(encoded)
        peer = Peer(listener, "127.0.0.1", ("127.0.0.1", 9092))
        context = RequestContext(peer, version, "test", self.received_ms)

        async def handle() -> Any:
            try:
                answer = whole(handler.handle(request, context))
                if hasattr(answer, "__await__"):
                    answer = await answer
            except KafkaError as error:
                answer = whole(handler.refuse(request, version, error))
            data = answer.encode(version)
            decoded, end = response_class.decode(data, version)
            assert end == len(data)
            return decoded

        return Deferred.fromCoroutine(handle())
