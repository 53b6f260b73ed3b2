"""The configs that one group may have of its own: how often its members are to be heard, and how long they may be silent.

They concern groups of the consumer protocol and share groups, whose timing the coordinator sets; for share groups also how
long a member may keep records, where a group begins to read, and whether it sees what is not committed. What a group doesn't
set, the node's configuration says; that also bounds what a group may set. A value that was set under other bounds is brought
within those of today.

Names, types and rules: the group configs of Apache Kafka 4.1; KIP-848, KIP-932.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from chronik.config_def import ConfigDef, ConfigType, ConfigValue, Synonym, one_of
from chronik.errors import ErrorCode, KafkaError

SESSION_TIMEOUT = "consumer.session.timeout.ms"
HEARTBEAT_INTERVAL = "consumer.heartbeat.interval.ms"
SHARE_SESSION_TIMEOUT = "share.session.timeout.ms"
SHARE_HEARTBEAT_INTERVAL = "share.heartbeat.interval.ms"
SHARE_LOCK_DURATION = "share.record.lock.duration.ms"
SHARE_OFFSET_RESET = "share.auto.offset.reset"
SHARE_ISOLATION = "share.isolation.level"

EARLIEST, LATEST, BY_DURATION = "earliest", "latest", "by_duration:"
READ_COMMITTED, READ_UNCOMMITTED = "read_committed", "read_uncommitted"

_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d{1,9}))?S)?)?", re.ASCII)
_MAX_DURATION_MS = 2**62


def reset_duration_ms(reset: str) -> int | None:
    """How long ago a group begins that resets `by_duration:`; None for another reset. Raises ValueError for no duration.

    The form is ISO 8601's, of days, hours, minutes and seconds: `PnDTnHnMn.nS`.
    """
    if not reset.startswith(BY_DURATION):
        return None
    text = reset[len(BY_DURATION) :]
    match = _DURATION.fullmatch(text)
    if match is None or len(text) > 64 or not any(match.groups()) or text.endswith("T"):
        raise ValueError(f"{text[:80]!r} is no duration")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups()[:4])
    fraction = int((match[5] or "").ljust(3, "0")[:3])
    total = ((days * 24 + hours) * 60 + minutes) * 60_000 + seconds * 1000 + fraction
    if total > _MAX_DURATION_MS:
        raise ValueError(f"{text!r} is too long")
    return total


def _reset_fault(value: ConfigValue) -> str | None:
    rule = "it is earliest, latest or by_duration:<PnDTnHnMn.nS>"
    try:
        return None if value in (EARLIEST, LATEST) or reset_duration_ms(str(value)) is not None else rule
    except ValueError:
        return rule


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
    SHARE_OFFSET_RESET: ConfigDef(
        SHARE_OFFSET_RESET,
        ConfigType.STRING,
        LATEST,
        "Where a share group begins to read a partition: at its earliest offset, at its latest, or at what came in the time "
        "before it begins.",
        _reset_fault,
    ),
    SHARE_HEARTBEAT_INTERVAL: ConfigDef(
        SHARE_HEARTBEAT_INTERVAL,
        ConfigType.INT,
        5_000,
        "How often a member of the share group is asked to be heard.",
        synonyms=(Synonym("group.share.heartbeat.interval.ms"),),
    ),
    SHARE_ISOLATION: ConfigDef(
        SHARE_ISOLATION,
        ConfigType.STRING,
        READ_UNCOMMITTED,
        "Whether the share group gets records of transactions that are open or were aborted.",
        one_of(READ_COMMITTED, READ_UNCOMMITTED),
    ),
    SHARE_LOCK_DURATION: ConfigDef(
        SHARE_LOCK_DURATION,
        ConfigType.INT,
        30_000,
        "How long a member of the share group has a record to itself.",
        synonyms=(Synonym("group.share.record.lock.duration.ms"),),
    ),
    SHARE_SESSION_TIMEOUT: ConfigDef(
        SHARE_SESSION_TIMEOUT,
        ConfigType.INT,
        45_000,
        "How long a member of the share group may be silent.",
        synonyms=(Synonym("group.share.session.timeout.ms"),),
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
    """What the node says of the times of the consumer protocol, and of those of share groups."""

    session: Bounded = Bounded(45_000, 45_000, 60_000)
    heartbeat: Bounded = Bounded(5_000, 5_000, 15_000)
    share_session: Bounded = Bounded(45_000, 45_000, 60_000)
    share_heartbeat: Bounded = Bounded(5_000, 5_000, 15_000)
    share_lock: Bounded = Bounded(30_000, 15_000, 60_000)

    def bounds(self, name: str) -> Bounded | None:
        """Those of one config, None for one that is no time."""
        return {
            SESSION_TIMEOUT: self.session,
            HEARTBEAT_INTERVAL: self.heartbeat,
            SHARE_SESSION_TIMEOUT: self.share_session,
            SHARE_HEARTBEAT_INTERVAL: self.share_heartbeat,
            SHARE_LOCK_DURATION: self.share_lock,
        }.get(name)

    def check(self, changed: Mapping[str, str], after: Mapping[str, str]) -> None:
        """Refuse what a group may not set, where it will have `after` in all. Raises KafkaError(INVALID_CONFIG)."""
        for name, text in changed.items():
            definition = GROUP_CONFIGS.get(name)
            if definition is None:
                raise KafkaError(
                    ErrorCode.INVALID_CONFIG,
                    f"there is no group config {name[:80]!r}; the group configs are {', '.join(GROUP_CONFIGS)}",
                )
            try:
                value = definition.admit(text)
            except ValueError as fault:
                raise KafkaError(ErrorCode.INVALID_CONFIG, str(fault)) from None
            bounds = self.bounds(name)
            if bounds is not None and not (isinstance(value, int) and bounds.low <= value <= bounds.high):
                raise KafkaError(
                    ErrorCode.INVALID_CONFIG, f"{name} is {value}; it must be from {bounds.low} to {bounds.high}"
                )
        self._check_order(after, SESSION_TIMEOUT, self.session, HEARTBEAT_INTERVAL, self.heartbeat)
        self._check_order(
            after, SHARE_SESSION_TIMEOUT, self.share_session, SHARE_HEARTBEAT_INTERVAL, self.share_heartbeat
        )

    def _check_order(self, after: Mapping[str, str], session: str, long: Bounded, beat: str, short: Bounded) -> None:
        session_ms, beat_ms = long.of(after, session), short.of(after, beat)
        if session_ms <= beat_ms:
            raise KafkaError(
                ErrorCode.INVALID_CONFIG, f"{session} ({session_ms}) must be greater than {beat} ({beat_ms})"
            )


KAFKA_TIMES = GroupTimes()
"""Kafka's defaults."""
