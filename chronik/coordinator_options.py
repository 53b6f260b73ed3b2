"""The options of the coordinators: groups, their offsets, transactions.

One of the declarations that `chronik.config.Config` is made of.
"""

from __future__ import annotations

from dataclasses import dataclass

from chronik.options import BYTES, INT32_MAX, MILLISECONDS, Section

ASSIGNORS = ("uniform", "range")
"""The assignors of the consumer protocol, by name; the first is the default."""
_ASSIGNOR_CLASSES = {
    "org.apache.kafka.coordinator.group.assignor.UniformAssignor": "uniform",
    "org.apache.kafka.coordinator.group.assignor.RangeAssignor": "range",
}

GROUPS = Section("Consumer groups")
TRANSACTIONS = Section("Transactions")


def _parse_assignors(text: str) -> tuple[str, ...]:
    names = [_ASSIGNOR_CLASSES.get(name.strip(), name.strip()) for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ASSIGNORS:
            raise ValueError(f"assignor {name!r} is unknown; the assignors are {', '.join(ASSIGNORS)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{text!r} does not name one or two assignors; the assignors are {', '.join(ASSIGNORS)}")
    return tuple(names)


@dataclass(frozen=True, kw_only=True)
class CoordinatorOptions:
    """What the coordinators ask of members and producers, and how long they remember them."""

    group_initial_rebalance_delay_ms: int = GROUPS.integer(
        3000,
        "How long an empty group waits for more members before its first rebalance.",
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.initial.rebalance.delay.ms",
    )
    group_min_session_timeout_ms: int = GROUPS.integer(
        6000,
        "The shortest session timeout that a member may ask for.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.min.session.timeout.ms",
    )
    group_max_session_timeout_ms: int = GROUPS.integer(
        1_800_000,
        "The longest session timeout that a member may ask for.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.max.session.timeout.ms",
    )
    group_max_size: int = GROUPS.integer(
        INT32_MAX, "Members that one group may have.", low=1, high=INT32_MAX, kafka="group.max.size"
    )
    group_consumer_session_timeout_ms: int = GROUPS.integer(
        45_000,
        "How long a member of the consumer protocol may be silent.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.consumer.session.timeout.ms",
    )
    group_consumer_min_session_timeout_ms: int = GROUPS.integer(
        45_000,
        "The shortest such time, for all groups and for one.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.consumer.min.session.timeout.ms",
    )
    group_consumer_max_session_timeout_ms: int = GROUPS.integer(
        60_000,
        "The longest such time.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.consumer.max.session.timeout.ms",
    )
    group_consumer_heartbeat_interval_ms: int = GROUPS.integer(
        5_000,
        "How often a member of the consumer protocol is asked to be heard.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.consumer.heartbeat.interval.ms",
    )
    group_consumer_min_heartbeat_interval_ms: int = GROUPS.integer(
        5_000,
        "The shortest such interval, for all groups and for one.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.consumer.min.heartbeat.interval.ms",
    )
    group_consumer_max_heartbeat_interval_ms: int = GROUPS.integer(
        15_000,
        "The longest such interval.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.consumer.max.heartbeat.interval.ms",
    )
    group_consumer_max_size: int = GROUPS.integer(
        INT32_MAX,
        "Members that one group of the consumer protocol may have.",
        low=1,
        high=INT32_MAX,
        kafka="group.consumer.max.size",
    )
    group_consumer_assignors: tuple[str, ...] = GROUPS.custom(
        ASSIGNORS,
        "The assignors that its members may ask for, comma-separated; the first is for those that ask for none.",
        _parse_assignors,
        "uniform, range or both",
        kafka="group.consumer.assignors",
    )
    group_consumer_migration_policy: str = GROUPS.choice(
        "bidirectional",
        "Whether groups of classic consumers become groups of the consumer protocol when such a member joins (upgrade), "
        "and classic ones again when the last such member leaves (downgrade).",
        ("bidirectional", "upgrade", "downgrade", "disabled"),
        kafka="group.consumer.migration.policy",
    )
    offsets_topic_num_partitions: int = GROUPS.integer(
        50,
        "Partitions of __consumer_offsets; counts when the topic is first created.",
        low=1,
        high=10_000,
        kafka="offsets.topic.num.partitions",
    )
    offsets_retention_minutes: int = GROUPS.integer(
        10_080,
        "Committed offsets of a group without members are forgotten after this long.",
        low=1,
        high=INT32_MAX,
        unit="minutes",
        kafka="offsets.retention.minutes",
    )
    offsets_retention_check_interval_ms: int = GROUPS.integer(
        600_000,
        "How often offsets are looked through for such ones.",
        low=1,
        unit=MILLISECONDS,
        kafka="offsets.retention.check.interval.ms",
    )
    offset_metadata_max_bytes: int = GROUPS.integer(
        4096,
        "The longest note that a client may commit beside an offset.",
        high=INT32_MAX,
        unit=BYTES,
        kafka="offset.metadata.max.bytes",
    )

    transaction_max_timeout_ms: int = TRANSACTIONS.integer(
        900_000,
        "The longest timeout that a producer may ask for its transactions.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="transaction.max.timeout.ms",
    )
    transactional_id_expiration_ms: int = TRANSACTIONS.integer(
        604_800_000,
        "A transactional id that was not used for this long is forgotten.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="transactional.id.expiration.ms",
    )
    transaction_state_log_num_partitions: int = TRANSACTIONS.integer(
        50,
        "Partitions of __transaction_state; counts when the topic is first created.",
        low=1,
        high=10_000,
        kafka="transaction.state.log.num.partitions",
    )
    transaction_abort_timed_out_transaction_cleanup_interval_ms: int = TRANSACTIONS.integer(
        10_000,
        "How often the coordinator looks for transactions that are open beyond their timeout, and aborts them.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="transaction.abort.timed.out.transaction.cleanup.interval.ms",
    )
    transaction_remove_expired_transaction_cleanup_interval_ms: int = TRANSACTIONS.integer(
        3_600_000,
        "How often it looks for transactional ids to forget.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="transaction.remove.expired.transaction.cleanup.interval.ms",
    )
