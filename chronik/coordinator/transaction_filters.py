"""Which transactional ids ListTransactions asks for. Pure.

A pattern is a regular expression of RE2, as Kafka's is, which has to match a whole id: it matches in time linear in the id, so
that a hostile pattern costs no more than a plain one.

Sources: KIP-664 (states, producer ids), KIP-994 (duration), KIP-1152 (pattern).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import re2

from chronik.coordinator.transaction import STATES_BY_NAME, Transaction, TransactionState
from chronik.errors import ErrorCode, KafkaError

_MAX_PATTERN = 4096
_MAX_PROGRAM_BYTES = 1 << 20


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _MAX_PROGRAM_BYTES
    return options


_OPTIONS = _options()


class Filters(NamedTuple):
    """Which transactional ids ListTransactions asks for. What is None or empty lets all pass.

    `states` are the wanted ones; `longer_than_ms` is compared with the time since the last transaction began;
    `matches` is asked about the id.
    """

    states: frozenset[TransactionState] | None
    producer_ids: frozenset[int]
    longer_than_ms: int | None
    matches: Callable[[str], bool] | None

    def passes(self, transactional_id: str, state: Transaction, now_ms: int) -> bool:
        """Whether an id is among them."""
        return (
            (self.states is None or state.state in self.states)
            and (not self.producer_ids or state.producer_id in self.producer_ids)
            and (self.longer_than_ms is None or now_ms - state.start_ms > self.longer_than_ms)
            and (self.matches is None or self.matches(transactional_id))
        )


def filters(
    states: Iterable[str], producer_ids: Iterable[int], duration_ms: int, pattern: str | None
) -> tuple[Filters, list[str]]:
    """What a request asks for, and those of its states that don't exist. A negative duration, an empty pattern let all pass.

    Raises KafkaError(INVALID_REGULAR_EXPRESSION).
    """
    names = list(states)
    known = frozenset(STATES_BY_NAME[name] for name in names if name in STATES_BY_NAME)
    found = Filters(
        known if names else None,
        frozenset(producer_ids),
        duration_ms if duration_ms >= 0 else None,
        _matcher(pattern) if pattern else None,
    )
    return found, [name for name in names if name not in STATES_BY_NAME]


def _matcher(pattern: str) -> Callable[[str], bool]:
    if len(pattern) > _MAX_PATTERN:
        raise KafkaError(
            ErrorCode.INVALID_REGULAR_EXPRESSION,
            f"a pattern of transactional ids has at most {_MAX_PATTERN} characters, this one has {len(pattern)}",
        )
    try:
        compiled = re2.compile(pattern, _OPTIONS)
    except (re2.error, UnicodeEncodeError) as fault:
        raise KafkaError(
            ErrorCode.INVALID_REGULAR_EXPRESSION, f"{pattern[:80]!r} is not a regular expression of RE2: {fault}"
        ) from None
    return lambda transactional_id: compiled.fullmatch(transactional_id) is not None
