"""The settings of the coordinators, under Kafka's names and with Kafka's defaults."""

from __future__ import annotations

from dataclasses import dataclass

from chronik.group_config import KAFKA_TIMES, GroupTimes


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """Each field is Kafka's setting with `_` for `.`; the last lines name where ours is spelled otherwise.

    `group_consumer` has the settings of sessions and heartbeats of the consumer protocol, and those of share groups.

    `group_new_member_join_timeout_ms` is a constant in Kafka: how long a member that never had a session may wait in its
    first JoinGroup before it is given up.
    """

    group_initial_rebalance_delay_ms: int = 3_000
    group_min_session_timeout_ms: int = 6_000
    group_max_session_timeout_ms: int = 1_800_000
    group_max_size: int = 2_147_483_647
    group_new_member_join_timeout_ms: int = 300_000
    group_consumer: GroupTimes = KAFKA_TIMES
    group_consumer_max_size: int = 2_147_483_647
    group_consumer_assignors: tuple[str, ...] = ("uniform", "range")
    group_consumer_migration_policy: str = "bidirectional"
    group_share_max_size: int = 200
    offset_metadata_max_bytes: int = 4_096
    offsets_retention_minutes: int = 10_080
    offsets_retention_check_interval_ms: int = 600_000
    offsets_topic_num_partitions: int = 50

    @property
    def offsets_retention_ms(self) -> int:
        """`offsets.retention.minutes` in ms."""
        return self.offsets_retention_minutes * 60_000

    @property
    def default_assignor(self) -> str:
        """The one for a group whose members ask for none: the first."""
        return self.group_consumer_assignors[0]

    @property
    def allows_upgrade(self) -> bool:
        """Whether a classic group becomes a consumer group when a member of that protocol joins."""
        return self.group_consumer_migration_policy in ("bidirectional", "upgrade")

    @property
    def allows_downgrade(self) -> bool:
        """Whether a consumer group becomes a classic one when only classic members are left."""
        return self.group_consumer_migration_policy in ("bidirectional", "downgrade")


@dataclass(frozen=True, slots=True)
class TransactionSettings:
    """Each field is Kafka's setting with `_` for `.`."""

    transaction_max_timeout_ms: int = 900_000
    transactional_id_expiration_ms: int = 604_800_000
    transaction_state_log_num_partitions: int = 50
    transaction_abort_timed_out_transaction_cleanup_interval_ms: int = 10_000
    transaction_remove_expired_transaction_cleanup_interval_ms: int = 3_600_000


@dataclass(frozen=True, slots=True)
class ShareSettings:
    """Each field is Kafka's setting with `_` for `.`; the last two are internal ones there."""

    share_coordinator_state_topic_num_partitions: int = 50
    share_coordinator_snapshot_update_records_per_snapshot: int = 500
    share_coordinator_state_topic_prune_interval_ms: int = 300_000
    share_coordinator_cold_partition_snapshot_interval_ms: int = 300_000
