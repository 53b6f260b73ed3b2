"""Produce requests as the producer sends them: the batches that one broker leads, encoded once, in one request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chronik.client.batches import ProducerBatch
from chronik.client.cluster import ClusterClient
from chronik.model import TopicPartition
from chronik.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from chronik.wire.records import Codec, Record, encode_batch

LANE = "produce"
_BY_NAME, _BY_ID = 12, 13
_ANSWER_SECONDS = 5.0
"""How much longer an answer may take than the broker's own timeout."""


class ProduceRequests:
    """Sends batches to brokers of `cluster`, compressed by `codec` at `level` (None: the codec's default)."""

    def __init__(self, cluster: ClusterClient, acks: int, codec: Codec, level: int | None) -> None:
        self._cluster = cluster
        self._acks = acks
        self._codec = codec
        self._level = level

    async def batches(self, node_id: int, batches: Sequence[tuple[TopicPartition, ProducerBatch]]) -> Any:
        """The broker's response to one request with `batches`; None with acks=0. Raises ClientError, KafkaError."""
        metadata = self._cluster.metadata
        topics: dict[str, TopicProduceData] = {}
        for (name, partition), batch in batches:
            if batch.encoded is None:
                batch.encoded = self._encoded(batch)
            topic = topics.get(name)
            if topic is None:
                topic = topics[name] = TopicProduceData(name=name, topic_id=metadata.topic_id(name))
            topic.partition_data.append(PartitionProduceData(index=partition, records=batch.encoded))
        timeout = self._cluster.request_timeout
        request = ProduceRequest(acks=self._acks, timeout_ms=int(timeout * 1000), topic_data=list(topics.values()))
        connection = await self._cluster.connection(node_id, LANE)
        version = connection.version_of(ProduceRequest, _BY_ID if metadata.have_ids(topics) else _BY_NAME)
        return await connection.request(
            request, version=version, timeout=timeout + _ANSWER_SECONDS, expects_response=self._acks != 0
        )

    def _encoded(self, batch: ProducerBatch) -> bytearray:
        return encode_batch(
            [Record(i, r.timestamp_ms, r.key, r.value, r.headers) for i, r in enumerate(batch.records)],
            codec=self._codec,
            level=self._level,
            producer_id=batch.identity.producer_id,
            producer_epoch=batch.identity.epoch,
            base_sequence=batch.sequence,
        )
