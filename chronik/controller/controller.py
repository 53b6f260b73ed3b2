"""The controller's decisions: a command and an image in, records and an answer out. Nothing here has an effect.

`decide(image, command, rules)` reads the image, never changes it, and returns the records that carry the command out together
with the answer to give once they are logged and replayed. The image must hold the effects of all commands decided before, also
of those whose records are still being logged; of two racing creations of a name the second then finds the first. Keeping such
an image is the caller's part (`chronik.controller.service`).

Error codes and the order of checks follow Apache Kafka 4.1's controller; the texts are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from chronik.controller.alerts import decide_delete_alert, decide_save_alert
from chronik.controller.alterations import decide_alter_configs, decide_replace_configs
from chronik.controller.commands import (
    AllocateProducerIds,
    AlterClientQuotas,
    AlterConfigs,
    Command,
    CreatePartitions,
    CreateTopics,
    DeleteAlert,
    DeleteTopics,
    DropQuery,
    MorePartitions,
    NewTopic,
    PauseQuery,
    ProducerIdBlock,
    RegisterBroker,
    ReplaceConfigs,
    SaveAlert,
    SaveQuery,
    SaveSearch,
    TopicCreation,
    TopicDeletion,
    TopicReference,
    UpdateFeatures,
)
from chronik.controller.features import decide_update_features
from chronik.controller.image import MetadataImage
from chronik.controller.names import check_new_name
from chronik.controller.placement import check_assignment, place_replicas
from chronik.controller.queries import decide_drop_query, decide_pause_query, decide_save_query
from chronik.controller.quotas import decide_alter_client_quotas
from chronik.controller.records import (
    BrokerRegistered,
    EndpointRow,
    MetadataRecord,
    PartitionRow,
    PartitionsAdded,
    ProducerIdsAllocated,
    TopicCreated,
    TopicDeleted,
)
from chronik.controller.searches import decide_save_search, refused_sources, searches_first
from chronik.controller.sizes import MAX_PARTITIONS_PER_COMMAND, check_size
from chronik.errors import ErrorCode, KafkaError
from chronik.group_config import KAFKA_TIMES, GroupTimes
from chronik.model import ZERO_UUID, PartitionState, Topic, Uuid
from chronik.topic_config import check_topic_configs


def _without_quota(partitions: int) -> None:
    """Where there is none."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What decisions need beside the image: the defaults for new topics, and where topic ids come from.

    `use_quota` is asked about each topic that would be created, grown or deleted, with how many partitions that concerns; what
    it raises refuses the topic. It is told of no other (KIP-599).
    `check_topic` raises KafkaError for configs that a topic can't have.
    """

    new_topic_id: Callable[[], Uuid]
    num_partitions: int = 1
    default_replication_factor: int = 1
    group_times: GroupTimes = KAFKA_TIMES
    use_quota: Callable[[int], None] = _without_quota
    check_topic: Callable[[Mapping[str, str]], None] = check_topic_configs


class Decision(NamedTuple):
    """The records to log, all or none, and the answer to give once they are replayed."""

    records: Sequence[MetadataRecord]
    result: Any


def decide(image: MetadataImage, command: Command, rules: Rules) -> Decision:
    """Carry out `command` on paper. Raises KafkaError when it is refused as a whole."""
    check_size(command, rules.num_partitions)
    return _DECIDERS[type(command)](image, command, rules)


# -- creating topics


def _create_topics(image: MetadataImage, command: CreateTopics, rules: Rules) -> Decision:
    records: list[MetadataRecord] = []
    results = []
    names: set[str] = set()
    for new in command.topics:
        try:
            if new.name in names:
                raise KafkaError(ErrorCode.INVALID_REQUEST, f"topic {new.name!r} is in the request twice")
            record = _create_topic(image, new, rules)
            rules.use_quota(len(record.partitions))
        except KafkaError as refusal:
            results.append(TopicCreation(new.name, None, refusal))
            continue
        names.add(new.name)
        records.append(record)
        partitions = tuple(
            PartitionState(number, row.replicas, row.isr, row.leader, row.leader_epoch)
            for number, row in enumerate(record.partitions)
        )
        topic = Topic(record.topic_id, record.name, partitions, MappingProxyType(record.configs))
        results.append(TopicCreation(new.name, topic))
    return Decision(() if command.validate_only else records, tuple(results))


def _create_topic(image: MetadataImage, new: NewTopic, rules: Rules) -> TopicCreated:
    check_new_name(image, new.name)
    valueless = [name for name, value in new.configs if value is None]
    if valueless:
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"config {', '.join(valueless)} of topic {new.name!r} has no value")
    configs = {name: value for name, value in new.configs if value is not None}
    rules.check_topic(configs)
    replicas = _assigned_replicas(image, new) if new.assignments else _placed_replicas(image, new, rules)
    return TopicCreated(rules.new_topic_id(), new.name, _rows(image, replicas), configs)


def _assigned_replicas(image: MetadataImage, new: NewTopic) -> list[tuple[int, ...]]:
    if new.replication_factor != -1 or new.partitions != -1:
        what = "replication factor" if new.replication_factor != -1 else "number of partitions"
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"topic {new.name!r} has assignments, so its {what} must be -1")
    by_partition: dict[int, tuple[int, ...]] = {}
    expected = None
    for partition, replicas in new.assignments:
        if partition in by_partition:
            raise KafkaError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"partition {partition} is assigned twice")
        check_assignment(replicas, image.brokers(), partition, expected)
        expected = len(replicas)
        by_partition[partition] = replicas
    if set(by_partition) != set(range(len(by_partition))):
        raise KafkaError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, "assigned partitions are numbered from 0 without gaps")
    return [by_partition[partition] for partition in range(len(by_partition))]


def _placed_replicas(image: MetadataImage, new: NewTopic, rules: Rules) -> list[tuple[int, ...]]:
    replication_factor = rules.default_replication_factor if new.replication_factor == -1 else new.replication_factor
    partitions = rules.num_partitions if new.partitions == -1 else new.partitions
    if replication_factor < 1:
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"replication factor {replication_factor} is not possible: it is at least 1, or -1 for the default",
        )
    if partitions < 1:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"{partitions} partitions are not possible: it is at least 1, or -1 for the default",
        )
    return place_replicas(image.brokers(), 0, partitions, replication_factor)


def _rows(image: MetadataImage, placed: Sequence[tuple[int, ...]]) -> tuple[PartitionRow, ...]:
    """New partitions with these replicas, in sync where their brokers are not fenced. Equal rows are one object."""
    fenced = {broker.node_id for broker in image.brokers() if broker.fenced}
    rows: dict[tuple[int, ...], PartitionRow] = {}
    for replicas in placed:
        if replicas not in rows:
            isr = tuple(node_id for node_id in replicas if node_id not in fenced)
            rows[replicas] = PartitionRow(replicas, isr, isr[0])
    return tuple(rows[replicas] for replicas in placed)


# -- deleting topics, adding partitions


def _delete_topics(image: MetadataImage, command: DeleteTopics, rules: Rules) -> Decision:
    results: list[TopicDeletion] = []
    found: dict[Uuid, TopicDeletion] = {}
    seen: dict[TopicReference, int] = {}
    for reference in command.topics:
        seen[reference] = seen.get(reference, 0) + 1
    for reference, times in seen.items():
        deletion = _resolve(image, reference, times)
        if deletion.topic_id is None or deletion.error is not None:
            results.append(deletion)
        elif deletion.topic_id in found:
            found[deletion.topic_id] = TopicDeletion(
                deletion.name,
                deletion.topic_id,
                KafkaError(ErrorCode.INVALID_REQUEST, "the topic is in the request by name and by id"),
            )
        else:
            found[deletion.topic_id] = deletion
    accepted = [topic_id for topic_id, each in found.items() if each.error is None]
    for topic_id, refusal in refused_sources(image, accepted).items():
        found[topic_id] = TopicDeletion(found[topic_id].name, topic_id, refusal)
    results.extend(_within_quota(image, deletion, rules) for deletion in found.values())
    gone = [each.topic_id for each in results if each.topic_id is not None and each.error is None]
    return Decision([TopicDeleted(topic_id) for topic_id in searches_first(image, gone)], tuple(results))


def _within_quota(image: MetadataImage, deletion: TopicDeletion, rules: Rules) -> TopicDeletion:
    if deletion.error is not None or deletion.topic_id is None:
        return deletion
    topic = image.topic_by_id(deletion.topic_id)
    assert topic is not None
    try:
        rules.use_quota(len(topic.partitions))
    except KafkaError as refusal:
        return TopicDeletion(deletion.name, deletion.topic_id, refusal)
    return deletion


def _resolve(image: MetadataImage, reference: TopicReference, times: int) -> TopicDeletion:
    name, topic_id = reference.name, reference.topic_id
    if topic_id == ZERO_UUID:
        topic_id = None

    def refuse(code: ErrorCode, why: str | None) -> TopicDeletion:
        return TopicDeletion(name, topic_id, KafkaError(code, why))

    if name is None and topic_id is None:
        return refuse(ErrorCode.INVALID_REQUEST, "neither a topic's name nor its id is given")
    if name is not None and topic_id is not None:
        return refuse(ErrorCode.INVALID_REQUEST, "a topic's name and its id are both given")
    if times > 1:
        return refuse(ErrorCode.INVALID_REQUEST, "the topic is in the request more than once")
    if name is not None:
        topic = image.topic(name)
        if topic is None:
            return refuse(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name[:249]!r}")
    else:
        topic = image.topic_by_id(topic_id or ZERO_UUID)
        if topic is None:
            return refuse(ErrorCode.UNKNOWN_TOPIC_ID, "there is no topic of that id")
    return TopicDeletion(topic.name, topic.topic_id)


def _create_partitions(image: MetadataImage, command: CreatePartitions, rules: Rules) -> Decision:
    records: list[MetadataRecord] = []
    results: list[KafkaError | None] = []
    room = MAX_PARTITIONS_PER_COMMAND - command.added_before
    for more in command.topics:
        try:
            record = _add_partitions(image, more, room)
            rules.use_quota(len(record.partitions))
        except KafkaError as refusal:
            results.append(refusal)
            continue
        room -= len(record.partitions)
        records.append(record)
        results.append(None)
    return Decision(() if command.validate_only else records, tuple(results))


def _add_partitions(image: MetadataImage, more: MorePartitions, room: int) -> PartitionsAdded:
    topic = image.topic(more.name)
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {more.name[:249]!r}")
    if topic.search is not None:
        raise KafkaError(
            ErrorCode.POLICY_VIOLATION,
            f"topic {more.name!r} is a saved search: it has the partitions of its source, and follows when that gets more",
        )
    first = len(topic.partitions)
    if more.count <= first:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"topic {more.name!r} has {first} partition(s), and {more.count} would not be an increase",
        )
    added = more.count - first
    if added > room:
        raise KafkaError(
            ErrorCode.POLICY_VIOLATION,
            f"one request creates at most {MAX_PARTITIONS_PER_COMMAND} partitions, topic {more.name!r} goes beyond it",
        )
    replication_factor = len(topic.partitions[0].replicas)
    if more.assignments is None:
        placed = place_replicas(image.brokers(), first, added, replication_factor)
    else:
        if len(more.assignments) != added:
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"{added} partition(s) are added to topic {more.name!r}, but {len(more.assignments)} are assigned",
            )
        for step, replicas in enumerate(more.assignments):
            check_assignment(replicas, image.brokers(), first + step, replication_factor)
        placed = list(more.assignments)
    return PartitionsAdded(topic.topic_id, first, _rows(image, placed))


# -- brokers


def _register_broker(image: MetadataImage, command: RegisterBroker, rules: Rules) -> Decision:
    if command.node_id < 0:
        raise KafkaError(ErrorCode.INVALID_REGISTRATION, f"a node id is 0 or more, not {command.node_id}")
    if not command.endpoints:
        raise KafkaError(ErrorCode.INVALID_REGISTRATION, f"broker {command.node_id} registers without an address")
    known = image.broker(command.node_id)
    same_process = known is not None and image.incarnation(command.node_id) == command.incarnation
    if known is not None and same_process and (known.endpoints, known.rack) == (command.endpoints, command.rack):
        return Decision((), known.epoch)
    epoch = image.last_broker_epoch + 1
    endpoints = tuple(EndpointRow(each.listener, each.host, each.port) for each in command.endpoints)
    renews = known is not None and not same_process
    record = BrokerRegistered(command.node_id, epoch, command.incarnation, endpoints, command.rack, renews)
    return Decision((record,), epoch)


def _allocate_producer_ids(image: MetadataImage, command: AllocateProducerIds, rules: Rules) -> Decision:
    broker = image.broker(command.node_id)
    if broker is None:
        raise KafkaError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"broker {command.node_id} is not registered")
    if broker.epoch != command.broker_epoch:
        raise KafkaError(
            ErrorCode.STALE_BROKER_EPOCH,
            f"broker {command.node_id} has epoch {broker.epoch}, not {command.broker_epoch}",
        )
    first = image.next_producer_id
    if first + command.count >= 2**63:
        raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, "the cluster has run out of producer ids")
    record = ProducerIdsAllocated(command.node_id, command.broker_epoch, first + command.count)
    return Decision((record,), ProducerIdBlock(first, command.count))


def _save_search(image: MetadataImage, command: SaveSearch, rules: Rules) -> Decision:
    return Decision(*decide_save_search(image, command, rules.new_topic_id))


def _save_alert(image: MetadataImage, command: SaveAlert, rules: Rules) -> Decision:
    return Decision(*decide_save_alert(image, command, rules.new_topic_id))


def _delete_alert(image: MetadataImage, command: DeleteAlert, rules: Rules) -> Decision:
    return Decision(*decide_delete_alert(image, command))


def _save_query(image: MetadataImage, command: SaveQuery, rules: Rules) -> Decision:
    return Decision(*decide_save_query(image, command, rules.new_topic_id))


def _pause_query(image: MetadataImage, command: PauseQuery, rules: Rules) -> Decision:
    return Decision(*decide_pause_query(image, command))


def _drop_query(image: MetadataImage, command: DropQuery, rules: Rules) -> Decision:
    return Decision(*decide_drop_query(image, command))


def _alter_configs(image: MetadataImage, command: AlterConfigs, rules: Rules) -> Decision:
    return Decision(*decide_alter_configs(image, command, rules.group_times, rules.check_topic))


def _replace_configs(image: MetadataImage, command: ReplaceConfigs, rules: Rules) -> Decision:
    return Decision(*decide_replace_configs(image, command, rules.group_times, rules.check_topic))


def _alter_client_quotas(image: MetadataImage, command: AlterClientQuotas, rules: Rules) -> Decision:
    return Decision(*decide_alter_client_quotas(image, command))


def _update_features(image: MetadataImage, command: UpdateFeatures, rules: Rules) -> Decision:
    return Decision(decide_update_features(image, command), None)


_DECIDERS: Mapping[type, Callable[[MetadataImage, Any, Rules], Decision]] = {
    CreateTopics: _create_topics,
    DeleteTopics: _delete_topics,
    CreatePartitions: _create_partitions,
    AlterConfigs: _alter_configs,
    ReplaceConfigs: _replace_configs,
    RegisterBroker: _register_broker,
    AllocateProducerIds: _allocate_producer_ids,
    AlterClientQuotas: _alter_client_quotas,
    UpdateFeatures: _update_features,
    SaveSearch: _save_search,
    SaveAlert: _save_alert,
    DeleteAlert: _delete_alert,
    SaveQuery: _save_query,
    PauseQuery: _pause_query,
    DropQuery: _drop_query,
}
