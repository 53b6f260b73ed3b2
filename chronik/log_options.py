"""The options of topics and their logs: creation, durability, compaction, fetching, producers.

One of the declarations that `chronik.config.Config` is made of. The broker-wide defaults of topic configs are not here, but in
`chronik.broker_config`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from chronik.options import BYTES, INT32_MAX, MEBIBYTE, MILLISECONDS, Section

TOPICS = Section("Topics: what is not said when one is created")
LOG = Section("The log on disk")
CLEANER = Section("Compaction")
FETCH = Section("Fetching")
PRODUCERS = Section("Producers")


def _parse_rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not rate >= 1024:
        raise ValueError(f"{text!r} is not a number of bytes a second, at least 1024")
    return min(rate, sys.float_info.max)


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """What becomes of records, from the creation of their topic to their compaction."""

    num_partitions: int = TOPICS.integer(
        1,
        "Partitions of a topic that is created without saying how many.",
        low=1,
        high=10_000,
        kafka="num.partitions",
    )
    default_replication_factor: int = TOPICS.integer(
        1,
        "Replicas of such a topic. One node holds one replica.",
        low=1,
        high=1,
        kafka="default.replication.factor",
    )
    auto_create_topics_enable: bool = TOPICS.boolean(
        True, "Create a topic when a client first asks for it.", kafka="auto.create.topics.enable"
    )

    flush_interval_ms: int = LOG.integer(
        1000,
        "Under durability 'interval', written bytes are synced to the disk at least this often.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
    )
    flush_interval_bytes: int = LOG.integer(
        8 * MEBIBYTE, "... and as soon as this much of a partition is not synced.", low=4096, unit=BYTES
    )
    log_retention_check_interval_ms: int = LOG.integer(
        300_000,
        "How often retention looks for segments to delete.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="log.retention.check.interval.ms",
    )

    log_cleaner_enable: bool = CLEANER.boolean(
        True,
        "Compact the topics whose cleanup.policy says so, the node's own among them. Without, they grow for ever.",
        kafka="log.cleaner.enable",
    )
    log_cleaner_threads: int = CLEANER.integer(
        1,
        "Worker processes, and so logs that are compacted at a time.",
        low=1,
        high=64,
        kafka="log.cleaner.threads",
    )
    log_cleaner_backoff_ms: int = CLEANER.integer(
        15_000,
        "Time between two looks for something to compact, when there was nothing.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="log.cleaner.backoff.ms",
    )
    log_cleaner_dedupe_buffer_size: int = CLEANER.integer(
        128 * MEBIBYTE,
        "Memory of all workers together for the keys of one pass: some 200 bytes a key. What doesn't fit takes more passes.",
        low=MEBIBYTE,
        unit=BYTES,
        kafka="log.cleaner.dedupe.buffer.size",
    )
    log_cleaner_io_max_bytes_per_second: float = CLEANER.custom(
        sys.float_info.max,
        "The most that compaction reads and writes together, over all workers.",
        _parse_rate,
        "a number of bytes a second, at least 1024",
        kafka="log.cleaner.io.max.bytes.per.second",
    )

    fetch_max_bytes: int = FETCH.integer(
        55 * MEBIBYTE,
        "The most bytes one fetch is answered with, whatever the client asks for.",
        low=1024,
        high=INT32_MAX,
        unit=BYTES,
        kafka="fetch.max.bytes",
    )
    max_incremental_fetch_session_cache_slots: int = FETCH.integer(
        1000,
        "Incremental fetch sessions that are remembered; 0 remembers none.",
        high=1_000_000,
        kafka="max.incremental.fetch.session.cache.slots",
    )

    producer_id_expiration_ms: int = PRODUCERS.integer(
        86_400_000,
        "An idempotent producer that wrote nothing to a partition for this long is forgotten there.",
        low=1,
        high=INT32_MAX,
        unit=MILLISECONDS,
        kafka="producer.id.expiration.ms",
    )
