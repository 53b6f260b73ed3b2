"""The options of share groups.

One of the declarations that `chronik.config.Config` is made of.
"""

from __future__ import annotations

from dataclasses import dataclass

from chronik.options import INT32_MAX, MILLISECONDS, Section

SHARES = Section("Share groups")


@dataclass(frozen=True, kw_only=True)
class ShareOptions:
    """Whether share groups are served, and what their members, records and state are held to."""

    group_share_enable: bool = SHARES.boolean(
        False,
        "Serve share groups (KIP-932), a preview as in Kafka 4.1, also where the feature share.version is at level 0.",
        kafka="group.share.enable",
    )
    group_share_session_timeout_ms: int = SHARES.integer(
        45_000,
        "How long a member of a share group may be silent.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.share.session.timeout.ms",
    )
    group_share_min_session_timeout_ms: int = SHARES.integer(
        45_000,
        "The shortest such time, for all groups and for one.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.share.min.session.timeout.ms",
    )
    group_share_max_session_timeout_ms: int = SHARES.integer(
        60_000,
        "The longest such time.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.share.max.session.timeout.ms",
    )
    group_share_heartbeat_interval_ms: int = SHARES.integer(
        5_000,
        "How often a member of a share group is asked to be heard.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.share.heartbeat.interval.ms",
    )
    group_share_min_heartbeat_interval_ms: int = SHARES.integer(
        5_000,
        "The shortest such interval, for all groups and for one.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.share.min.heartbeat.interval.ms",
    )
    group_share_max_heartbeat_interval_ms: int = SHARES.integer(
        15_000,
        "The longest such interval.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="group.share.max.heartbeat.interval.ms",
    )
    group_share_max_size: int = SHARES.integer(
        200, "Members that one share group may have.", low=1, high=1_000, kafka="group.share.max.size"
    )
    group_share_max_share_sessions: int = SHARES.integer(
        2_000,
        "Members of share groups that may fetch from this node at a time.",
        low=1,
        high=INT32_MAX,
        kafka="group.share.max.share.sessions",
    )
    group_share_delivery_count_limit: int = SHARES.integer(
        5,
        "How often a record is given to members of a share group before it is given up.",
        low=2,
        high=10,
        kafka="group.share.delivery.count.limit",
    )
    group_share_record_lock_duration_ms: int = SHARES.integer(
        30_000,
        "How long a member of a share group has a record to itself, before another may get it.",
        low=1_000,
        high=3_600_000,
        unit=MILLISECONDS,
        kafka="group.share.record.lock.duration.ms",
    )
    group_share_min_record_lock_duration_ms: int = SHARES.integer(
        15_000,
        "The shortest such time, for all groups and for one.",
        low=1_000,
        high=30_000,
        unit=MILLISECONDS,
        kafka="group.share.min.record.lock.duration.ms",
    )
    group_share_max_record_lock_duration_ms: int = SHARES.integer(
        60_000,
        "The longest such time.",
        low=30_000,
        high=3_600_000,
        unit=MILLISECONDS,
        kafka="group.share.max.record.lock.duration.ms",
    )
    group_share_partition_max_record_locks: int = SHARES.integer(
        2_000,
        "Records of one partition that a share group may have in flight, about.",
        low=100,
        high=10_000,
        kafka="group.share.partition.max.record.locks",
    )
    share_coordinator_state_topic_num_partitions: int = SHARES.integer(
        50,
        "Partitions of __share_group_state; counts when the topic is first created.",
        low=1,
        high=10_000,
        kafka="share.coordinator.state.topic.num.partitions",
    )
    share_coordinator_snapshot_update_records_per_snapshot: int = SHARES.integer(
        500,
        "Updates of a share partition that are written there between two snapshots of it.",
        low=0,
        high=500,
        kafka="share.coordinator.snapshot.update.records.per.snapshot",
    )
