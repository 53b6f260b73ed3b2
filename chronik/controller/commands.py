"""What the controller can be asked to do, and what it answers: plain values, one command a class.

A command that covers several items answers item by item, in the order asked; only a refusal of the whole command is raised.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from chronik.errors import KafkaError
from chronik.model import Endpoint, Topic, Uuid


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic to create. -1 asks for the default number of partitions or replicas.

    `assignments` pairs a partition with its brokers; when it isn't empty, the two numbers must be -1.
    """

    name: str
    partitions: int = -1
    replication_factor: int = -1
    assignments: tuple[tuple[int, tuple[int, ...]], ...] = ()
    configs: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class CreateTopics:
    """Create topics. Answers with a `TopicCreation` for each."""

    topics: tuple[NewTopic, ...]
    validate_only: bool = False


@dataclass(frozen=True, slots=True)
class TopicCreation:
    """What became of a `NewTopic`: the topic as it is (or, when only validated, would be) created, or the refusal."""

    name: str
    topic: Topic | None
    error: KafkaError | None = None


@dataclass(frozen=True, slots=True)
class TopicReference:
    """A topic by its name or by its id; naming both or neither is refused."""

    name: str | None = None
    topic_id: Uuid | None = None


@dataclass(frozen=True, slots=True)
class DeleteTopics:
    """Delete topics. Answers with a `TopicDeletion` for each different topic that is referred to."""

    topics: tuple[TopicReference, ...]


@dataclass(frozen=True, slots=True)
class TopicDeletion:
    """What became of a `TopicReference`, with name and id as far as they may be told."""

    name: str | None
    topic_id: Uuid | None
    error: KafkaError | None = None


@dataclass(frozen=True, slots=True)
class MorePartitions:
    """A topic that is to have `count` partitions in all; `assignments`, if given, are the brokers of each new one."""

    name: str
    count: int
    assignments: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class CreatePartitions:
    """Add partitions to topics. Answers with a KafkaError or None for each.

    `added_before` counts those that earlier parts of the same request have added.
    """

    topics: tuple[MorePartitions, ...]
    validate_only: bool = False
    added_before: int = 0


class ResourceType(IntEnum):
    """What a config belongs to, by Kafka's numbers."""

    TOPIC = 2
    BROKER = 4
    GROUP = 32


class Operation(IntEnum):
    """How an incremental change alters a config, by Kafka's numbers."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


@dataclass(frozen=True, slots=True)
class ConfigOperation:
    """One change of one config. `value` is needed by all operations but DELETE."""

    name: str
    operation: Operation
    value: str | None = None


@dataclass(frozen=True, slots=True)
class ConfigResource:
    """The owner of configs: a topic or a group by name, a broker by its id in decimal, or all brokers by the empty name."""

    type: ResourceType
    name: str


@dataclass(frozen=True, slots=True)
class AlterConfigs:
    """Change single configs of resources. Answers with a KafkaError or None for each resource; each changes whole or not."""

    changes: tuple[tuple[ConfigResource, tuple[ConfigOperation, ...]], ...]
    validate_only: bool = False


@dataclass(frozen=True, slots=True)
class ReplaceConfigs:
    """Give resources exactly these configs, removing all others: Kafka's older AlterConfigs. Answers as `AlterConfigs`."""

    configs: tuple[tuple[ConfigResource, tuple[tuple[str, str | None], ...]], ...]
    validate_only: bool = False


@dataclass(frozen=True, slots=True)
class RegisterBroker:
    """A broker process announces itself. `incarnation` is new with every start. Answers with its broker epoch."""

    node_id: int
    incarnation: Uuid
    endpoints: tuple[Endpoint, ...]
    rack: str | None = None


@dataclass(frozen=True, slots=True)
class AllocateProducerIds:
    """A broker asks for producer ids to give out. Answers with a `ProducerIdBlock`; no id is ever given twice."""

    node_id: int
    broker_epoch: int
    count: int = 1000


@dataclass(frozen=True, slots=True)
class ProducerIdBlock:
    """Producer ids from `first`, `count` of them."""

    first: int
    count: int


@dataclass(frozen=True, slots=True)
class QuotaAlteration:
    """Changes of one entity's quotas: (key, value) each, None to remove. `entity` pairs kinds with names, in any order."""

    entity: tuple[tuple[str, str | None], ...]
    changes: tuple[tuple[str, float | None], ...]


@dataclass(frozen=True, slots=True)
class AlterClientQuotas:
    """Change quotas. Answers with a KafkaError or None for each alteration; each changes whole or not."""

    alterations: tuple[QuotaAlteration, ...]
    validate_only: bool = False


class UpgradeType(IntEnum):
    """How far a change of a feature's level may go, by Kafka's numbers. Both downgrades are one here: none loses data."""

    UPGRADE = 1
    SAFE_DOWNGRADE = 2
    UNSAFE_DOWNGRADE = 3


@dataclass(frozen=True, slots=True)
class FeatureUpdate:
    """A level that a feature is to have, and what `UpgradeType` that may be, as a number that need not be known."""

    name: str
    level: int
    upgrade_type: int


@dataclass(frozen=True, slots=True)
class UpdateFeatures:
    """Change levels of features, all of them or none. Answers with None."""

    updates: tuple[FeatureUpdate, ...]
    validate_only: bool = False


@dataclass(frozen=True, slots=True)
class SaveSearch:
    """Save a search of topic `source` as a topic of its own. Answers with the `Topic`.

    Query and mapping are as in `chronik.model.SavedSearch`; whoever sends this has found them good: the controller keeps
    them as text.
    """

    name: str
    source: str
    query: str
    mapping: str = ""
    validate_only: bool = False


@dataclass(frozen=True, slots=True)
class SaveAlert:
    """Save an alert over the saved search `search`, see `chronik.model.Alert`. Answers with the `Alert`."""

    name: str
    search: str
    over: int
    per_ms: int
    to: str


@dataclass(frozen=True, slots=True)
class DeleteAlert:
    """Delete an alert. Answers with it."""

    name: str


@dataclass(frozen=True, slots=True)
class SaveQuery:
    """Save a continuous query, see `chronik.model.ContinuousQuery`; topics by name. Answers with the query.

    Whoever sends this has found the text good, and has created the topics.
    """

    name: str
    text: str
    fields: str
    source: str
    into: str
    late: str


@dataclass(frozen=True, slots=True)
class PauseQuery:
    """Let a continuous query rest, or go on. Answers with it."""

    name: str
    paused: bool


@dataclass(frozen=True, slots=True)
class DropQuery:
    """End a continuous query; its topics stay. Answers with it."""

    name: str


Command = (
    CreateTopics
    | DeleteTopics
    | CreatePartitions
    | AlterConfigs
    | ReplaceConfigs
    | RegisterBroker
    | AllocateProducerIds
    | AlterClientQuotas
    | UpdateFeatures
    | SaveSearch
    | SaveAlert
    | DeleteAlert
    | SaveQuery
    | PauseQuery
    | DropQuery
)
