"""Which transactional ids ListTransactions asks for. Pure.

A pattern is a regular expression, which has to match a whole id.

Sources: KIP-664 (states, producer ids), KIP-994 (duration), KIP-1152 (pattern).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from chronik.coordinator.patterns import compile_pattern
from chronik.coordinator.transaction import STATES_BY_NAME, Transaction, TransactionState


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
    compiled = compile_pattern(pattern, "TransactionalIdPattern")
    return lambda transactional_id: compiled.fullmatch(transactional_id) is not None
