"""The aggregations of a search in the processes that count them: one state for each mapping, put together by one of them.

A mapping says what the fields of a topic are, so topics that have different ones are counted apart. What was counted travels as
msgpack; putting it together may take longer than the reactor may be held, so a process does that too (`finished`).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from chronik.search.aggregations.parse import Aggregations, parse_aggregations
from chronik.search.body import Body
from chronik.search.document import Document
from chronik.search.elastic_context import Context
from chronik.search.mapping import Mapping
from chronik.search.match import Scope

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.encode


class Counting:
    """Counts the hits of a search over parts, each in its scope. `aggs` is what is asked for, in JSON that was checked."""

    def __init__(self, aggs: bytes, scopes: Sequence[Scope]) -> None:
        self._scopes = scopes
        self._all: list[tuple[Aggregations, list[Any]]] = []
        by_mapping: dict[bytes, int] = {}
        by_topic: dict[str, int] = {}
        for scope in scopes:
            if scope.topic not in by_topic:
                mapping = msgspec.msgpack.encode(scope.mapping)
                if mapping not in by_mapping:
                    by_mapping[mapping] = len(self._all)
                    aggregations = asked(aggs, scope.mapping, scope.now_ms)
                    self._all.append((aggregations, aggregations.start()))
                by_topic[scope.topic] = by_mapping[mapping]
        self._of_part = [self._all[by_topic[scope.topic]] for scope in scopes]

    def found(self, part: int, document: Document) -> None:
        """Another hit. Raises TooManyBuckets."""
        aggregations, state = self._of_part[part]
        aggregations.add(state, document, self._scopes[part])

    @property
    def alone(self) -> bool:
        """Whether there is one state, which needs none beside it."""
        return len(self._all) == 1

    def packed(self) -> bytes:
        """What was counted."""
        return msgspec.msgpack.encode([aggregations.pack(state) for aggregations, state in self._all])

    def result(self) -> bytes:
        """The results as JSON, where it is `alone`."""
        ((aggregations, state),) = self._all
        return _encode(aggregations.result(state))


def asked(aggs: bytes, mapping: Mapping, now_ms: int) -> Aggregations:
    """The aggregations out of JSON. Raises QueryError."""
    return parse_aggregations(Body(_decode(aggs), "aggs"), Context(now_ms, mapping))


def finished(aggs: bytes, mapping: Mapping, now_ms: int, packed: Sequence[bytes]) -> bytes:
    """The results as JSON, of all that was counted. Raises TooManyBuckets."""
    aggregations = asked(aggs, mapping, now_ms)
    states = [state for each in packed for state in msgspec.msgpack.decode(each)]
    return _encode(aggregations.result(aggregations.merged(states)))
