"""Topics as records and back: what the image replays, and what its snapshot is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from chronik.controller.records import PartitionRow, SearchSaved, TopicCreated
from chronik.model import PartitionState, Topic


def record_of(topic: Topic) -> TopicCreated | SearchSaved:
    """The one record that makes the topic as it is now. That of a search counts on its source's."""
    search = topic.search
    if search is not None:
        return SearchSaved(topic.topic_id, topic.name, search.source_id, search.query, search.mapping)
    rows = tuple(
        PartitionRow(each.replicas, each.isr, each.leader, each.leader_epoch, each.partition_epoch)
        for each in topic.partitions
    )
    return TopicCreated(topic.topic_id, topic.name, rows, dict(sorted(topic.configs.items())))


def partition_of(number: int, row: PartitionRow) -> PartitionState:
    """The partition that a row of such a record holds."""
    return PartitionState(number, row.replicas, row.isr, row.leader, row.leader_epoch, row.partition_epoch)


def renewed(partition: PartitionState, node_id: int) -> PartitionState:
    """The partition after `node_id` has begun to lead it anew, if it leads it at all."""
    if partition.leader != node_id:
        return partition
    return replace(partition, leader_epoch=partition.leader_epoch + 1, partition_epoch=partition.partition_epoch + 1)


def changed(configs: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """Configs after these changes."""
    result = {**configs, **changes}
    return {name: value for name, value in result.items() if value is not None}
