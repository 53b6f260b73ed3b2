"""What members subscribe to, held against the topics that exist: by name, and by regular expression.

A pattern has to match a whole name. What one matches is looked up over all topics once (about 1 us a topic, in steps:
`resolving`), and kept current from then on by the topics that come and go.

Source: KIP-848 (subscription by regular expression), KIP-1101 (one hash stands for all topics of a group).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import chain

import re2

from chronik.coordinator.patterns import compile_pattern
from chronik.errors import KafkaError
from chronik.group_config import (
    HEARTBEAT_INTERVAL,
    SESSION_TIMEOUT,
    SHARE_HEARTBEAT_INTERVAL,
    SHARE_SESSION_TIMEOUT,
    GroupTimes,
)
from chronik.interfaces import IClusterMetadata, MetadataDelta
from chronik.model import Topic, Uuid

_MAX_PATTERNS = 1000
_NAMES_A_STEP = 20


class Topics:
    """The topics of the cluster, as groups look at them, and what metadata says of the groups themselves.

    `version` grows with every change of a topic. `changed` has to be told of every change, before anything here is asked
    about it.
    """

    def __init__(self, metadata: IClusterMetadata) -> None:
        self.version = 1
        self._metadata = metadata
        self._patterns: OrderedDict[str, tuple[re2._Regexp, set[str]]] = OrderedDict()
        self._resolving: list[tuple[re2._Regexp, set[str]]] = []

    def changed(self, delta: MetadataDelta) -> None:
        """Topics came, went or got other partitions."""
        if not (delta.created or delta.changed or delta.deleted):
            return
        self.version += 1
        gone = {topic.name for topic in delta.deleted}
        come = [topic.name for topic in delta.created]
        for pattern, names in chain(self._patterns.values(), self._resolving):
            names -= gone
            names.update(name for name in come if pattern.fullmatch(name))

    def get(self, name: str) -> Topic | None:
        """The topic of that name."""
        return self._metadata.topic(name)

    def name_of(self, topic_id: Uuid) -> str | None:
        """The name of the topic of that id."""
        topic = self._metadata.topic_by_id(topic_id)
        return None if topic is None else topic.name

    def session_timeout_ms(self, group_id: str, times: GroupTimes) -> int:
        """How long members of the group may be silent."""
        return times.session.of(self._metadata.group_configs(group_id), SESSION_TIMEOUT)

    def heartbeat_interval_ms(self, group_id: str, times: GroupTimes) -> int:
        """How often members of the group shall be heard."""
        return times.heartbeat.of(self._metadata.group_configs(group_id), HEARTBEAT_INTERVAL)

    def share_session_timeout_ms(self, group_id: str, times: GroupTimes) -> int:
        """How long members of a share group may be silent."""
        return times.share_session.of(self._metadata.group_configs(group_id), SHARE_SESSION_TIMEOUT)

    def share_heartbeat_interval_ms(self, group_id: str, times: GroupTimes) -> int:
        """How often members of a share group shall be heard."""
        return times.share_heartbeat.of(self._metadata.group_configs(group_id), SHARE_HEARTBEAT_INTERVAL)

    def matching(self, pattern: str) -> frozenset[str]:
        """The names that `pattern` matches as a whole.

        None if it is not valid: such a one is refused when it comes, but may stand in a log that another broker wrote.
        """
        known = self._patterns.get(pattern)
        if known is None:
            try:
                compiled = compile_subscription(pattern)
            except KafkaError:
                return frozenset()
            known = compiled, {topic.name for topic in self._metadata.topics() if compiled.fullmatch(topic.name)}
            self._remember(pattern, known)
        else:
            self._patterns.move_to_end(pattern)
        return frozenset(known[1])

    def knows(self, pattern: str) -> bool:
        """Whether `matching` has the answer at hand: of one that is not valid it has."""
        if pattern in self._patterns:
            return True
        try:
            compile_subscription(pattern)
        except KafkaError:
            return True
        return False

    def resolving(self, pattern: str) -> Iterator[None]:
        """Look up what `pattern` matches, a few names a step, so that `matching` has it at hand."""
        if pattern in self._patterns:
            return
        try:
            compiled = compile_subscription(pattern)
        except KafkaError:
            return
        found: set[str] = set()
        self._resolving.append((compiled, found))
        try:
            names = [topic.name for topic in self._metadata.topics()]
            for start in range(0, len(names), _NAMES_A_STEP):
                for name in names[start : start + _NAMES_A_STEP]:
                    if compiled.fullmatch(name) and self._metadata.topic(name) is not None:
                        found.add(name)
                yield
            self._remember(pattern, (compiled, found))
        finally:
            self._resolving = [each for each in self._resolving if each[1] is not found]

    def _remember(self, pattern: str, known: tuple[re2._Regexp, set[str]]) -> None:
        self._patterns[pattern] = known
        if len(self._patterns) > _MAX_PATTERNS:
            self._patterns.popitem(last=False)


def compile_subscription(pattern: str) -> re2._Regexp:
    """The compiled pattern. Raises KafkaError(INVALID_REGULAR_EXPRESSION)."""
    return compile_pattern(pattern, "SubscribedTopicRegex")


def metadata_hash(topics: Iterable[Topic]) -> int:
    """A number that stands for these topics, their ids and counts of partitions; 0 for none. An int64."""
    digest = blake2b(digest_size=8)
    none = True
    for topic in sorted(topics, key=lambda topic: topic.name):
        none = False
        digest.update(topic.topic_id + len(topic.partitions).to_bytes(4, "big"))
    return 0 if none else int.from_bytes(digest.digest(), "big", signed=True)
