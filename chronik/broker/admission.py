"""What a topic's settings let into its partitions, and the form in which a batch that they don't take as it came is stored.

Nearly every batch is stored as it came: `Partition.append` compares it with the four bounds that are here, and asks
`adapted` only for one outside of them. Pure.
"""

from __future__ import annotations

from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition
from chronik.topic_config import TopicSettings
from chronik.wire import records
from chronik.wire.batches import LOG_APPEND_TIME_BIT, TRANSACTIONAL_BIT, BatchHeader

NOT_OPAQUE = TRANSACTIONAL_BIT | LOG_APPEND_TIME_BIT
"""A batch with one of these attributes is looked at more closely."""


class Admission:
    """The bounds for one partition. `configure` must be called before anything else.

    `stamps` says that records get the time of their append, `max_bytes` is that of a batch; a batch's largest timestamp, less
    the time now, must be above `oldest` and not above `newest` (ms).
    """

    __slots__ = ("_name", "max_bytes", "newest", "oldest", "stamps")

    def __init__(self, name: TopicPartition) -> None:
        self._name = name

    def configure(self, settings: TopicSettings) -> None:
        """Act on the topic's settings from now on."""
        self.stamps = settings.message_timestamp_type == "LogAppendTime"
        self.max_bytes = settings.max_message_bytes
        self.oldest = -settings.message_timestamp_before_max_ms
        self.newest = settings.message_timestamp_after_max_ms

    def adapted(
        self, batch: bytearray | memoryview, header: BatchHeader, now_ms: int
    ) -> tuple[bytearray | memoryview, BatchHeader, int]:
        """What is stored of a batch that may not be stored as it came: it, its header, and the append time that it got, or -1.

        Raises KafkaError for one that is not stored at all: MESSAGE_TOO_LARGE, INVALID_TIMESTAMP.
        """
        if len(batch) > self.max_bytes:
            raise self.too_large(len(batch))
        append_time = -1
        if self.stamps:
            append_time = now_ms
            records.stamp_append_time(batch, append_time)
            header = records.read_header(batch)
        else:
            self._check_timestamp(header.max_timestamp, now_ms)
            if header.attributes & LOG_APPEND_TIME_BIT:  # not for the producer to say
                records.unstamp_append_time(batch)
                header = records.read_header(batch)
        return batch, header, append_time

    def too_large(self, size: int) -> KafkaError:
        """The refusal of a batch of `size` bytes."""
        return KafkaError(
            ErrorCode.MESSAGE_TOO_LARGE, f"{self._name}: a batch of {size} bytes, max.message.bytes is {self.max_bytes}"
        )

    def _check_timestamp(self, timestamp: int, now_ms: int) -> None:
        if timestamp - now_ms > self.newest:
            raise KafkaError(
                ErrorCode.INVALID_TIMESTAMP,
                f"{self._name}: timestamp {timestamp} is more than message.timestamp.after.max.ms ahead of {now_ms}",
            )
        if 0 <= timestamp < now_ms + self.oldest:
            raise KafkaError(
                ErrorCode.INVALID_TIMESTAMP,
                f"{self._name}: timestamp {timestamp} is more than message.timestamp.before.max.ms behind {now_ms}",
            )
