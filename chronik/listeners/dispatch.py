"""Which handler serves which API and version: the one table that ApiVersions, the listener and the tests read.

The listener looks requests up by the first four bytes of their header, API key and version, as one number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from inspect import isgeneratorfunction
from typing import Any, NamedTuple

from chronik.errors import ErrorCode, KafkaError
from chronik.wire.apis import ApiKey, message_classes
from chronik.wire.codec import Request

Gate = Callable[[], None]
"""Raises KafkaError(UNSUPPORTED_VERSION) where an API is not served now."""


class Route(NamedTuple):
    """All that is needed to serve one (API, version). `served` is False where `check_served` has to be asked: of a version
    that is only refused in its form, and of an API that is not served at all times.

    `pipelined`: further requests are taken while one of these waits. Others hold up their connection, as every request does
    in Kafka: what they hold while they wait, and answer at last, may be large.
    `sets_pauses`: its answers may ask the client to pause, also where nothing else is measured.
    `shape`: what makes the common part of repeated requests of one that was decoded, where the handler can serve by that.
    `stepped`: the handler does its work in steps (`chronik.steps`), which the listener takes in slices.
    """

    handler: Any
    api_key: ApiKey
    version: int
    flexible: bool
    decode: Any
    served: bool
    pipelined: bool
    sets_pauses: bool
    shape: Any
    stepped: bool
    request: type[Request]
    gate: Gate | None

    def check_served(self) -> None:
        """Raises KafkaError(UNSUPPORTED_VERSION) for what is only refused."""
        if self.served:
            return
        if self.gate is None or not self.handler.min_version <= self.version <= self.handler.max_version:
            raise KafkaError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"{self.api_key.name} version {self.version} is not served: "
                f"{self.handler.min_version} to {self.handler.max_version} are",
            )
        self.gate()


class ApiTable:
    """Routes of every API that was given a handler. What is not in here is not advertised.

    `gates` are of APIs that are served at times: where one raises, its API is refused and not advertised.
    """

    def __init__(self, handlers: Iterable[Any], gates: Mapping[ApiKey, Gate] | None = None) -> None:
        self.handlers = {ApiKey(handler.api_key): handler for handler in handlers}
        self._gates = gates or {}
        self._routes: dict[int, Route | None] = {}

    def ranges(self) -> list[tuple[ApiKey, int, int]]:
        """(API, lowest, highest version) of everything served now, in the order of the keys."""
        return [
            (key, getattr(handler, "advertised_min_version", handler.min_version), handler.max_version)
            for key, handler in sorted(self.handlers.items())
            if self._is_open(key)
        ]

    def _is_open(self, key: ApiKey) -> bool:
        gate = self._gates.get(key)
        try:
            if gate is not None:
                gate()
        except KafkaError:
            return False
        return True

    def route(self, key_and_version: int) -> Route | None:
        """The route for `api_key << 16 | version`; None when the request cannot even be refused in a form it would parse."""
        try:
            return self._routes[key_and_version]
        except KeyError:
            route = self._make(key_and_version >> 16, key_and_version & 0xFFFF)
            if route is not None:  # only what exists is remembered: a client cannot fill the table
                self._routes[key_and_version] = route
            return route

    def _make(self, key: int, version: int) -> Route | None:
        try:
            api = ApiKey(key)
        except ValueError:
            return None
        handler = self.handlers.get(api)
        request, response = message_classes(api)
        if handler is None or not (request.VERSIONS.has(version) and response.VERSIONS.has(version)):
            return None
        gate = self._gates.get(api)
        served = gate is None and handler.min_version <= version <= handler.max_version
        compiled = request._decoders.get(version) or request._compile_decoder(version)
        return Route(
            handler,
            api,
            version,
            request.is_flexible(version),
            compiled,
            served,
            getattr(handler, "pipelined", False),
            getattr(handler, "sets_pauses", False),
            getattr(handler, "shape", None),
            isgeneratorfunction(handler.handle),
            request,
            gate,
        )
