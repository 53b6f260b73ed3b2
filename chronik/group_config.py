"""The configs that one group may have of its own: how often its members are to be heard, and how long they may be silent.

They concern groups of the consumer protocol, whose timing the coordinator sets. What a group doesn't set, the node's
configuration says; that also bounds what a group may set. A value that was set under other bounds is brought within those
of today.

Names, types and rules: the group configs of Apache Kafka 4.1; KIP-848.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chronik.config_def import ConfigDef, ConfigType, Synonym
from chronik.errors import ErrorCode, KafkaError

SESSION_TIMEOUT = "consumer.session.timeout.ms"
HEARTBEAT_INTERVAL = "consumer.heartbeat.interval.ms"

GROUP_CONFIGS: Mapping[str, ConfigDef] = {
    HEARTBEAT_INTERVAL: ConfigDef(
        HEARTBEAT_INTERVAL,
        ConfigType.INT,
        5_000,
        "How often a member of the group is asked to be heard.",
        synonyms=(Synonym("group.consumer.heartbeat.interval.ms"),),
    ),
    SESSION_TIMEOUT: ConfigDef(
        SESSION_TIMEOUT,
        ConfigType.INT,
        45_000,
        "How long a member of the group may be silent.",
        synonyms=(Synonym("group.consumer.session.timeout.ms"),),
    ),
}


@dataclass(frozen=True, slots=True)
class Bounded:
    """What the node says of one config: what groups have that don't set it, and from where to where it may be set. In ms."""

    default: int
    low: int
    high: int

    def of(self, configs: Mapping[str, str], name: str) -> int:
        """The value for a group with these configs."""
        text = configs.get(name)
        return self.default if text is None else min(max(int(text), self.low), self.high)


@dataclass(frozen=True, slots=True)
class GroupTimes:
    """What the node says of both."""

    session: Bounded = Bounded(45_000, 45_000, 60_000)
    heartbeat: Bounded = Bounded(5_000, 5_000, 15_000)

    def check(self, changed: Mapping[str, str], after: Mapping[str, str]) -> None:
        """Refuse what a group may not set, where it will have `after` in all. Raises KafkaError(INVALID_CONFIG)."""
        for name, text in changed.items():
            definition = GROUP_CONFIGS.get(name)
            if definition is None:
                raise KafkaError(
                    ErrorCode.INVALID_CONFIG,
                    f"there is no group config {name[:80]!r}; the group configs are {', '.join(GROUP_CONFIGS)}",
                )
            bounds = self.session if name == SESSION_TIMEOUT else self.heartbeat
            try:
                value = definition.admit(text)
            except ValueError as fault:
                raise KafkaError(ErrorCode.INVALID_CONFIG, str(fault)) from None
            if not isinstance(value, int) or not bounds.low <= value <= bounds.high:
                raise KafkaError(
                    ErrorCode.INVALID_CONFIG, f"{name} is {value}; it must be from {bounds.low} to {bounds.high}"
                )
        session, heartbeat = self.session.of(after, SESSION_TIMEOUT), self.heartbeat.of(after, HEARTBEAT_INTERVAL)
        if session <= heartbeat:
            raise KafkaError(
                ErrorCode.INVALID_CONFIG,
                f"{SESSION_TIMEOUT} ({session}) must be greater than {HEARTBEAT_INTERVAL} ({heartbeat})",
            )


KAFKA_TIMES = GroupTimes()
"""Kafka's defaults."""
