"""What one node goes by: the layers of its configuration, folded, and shown layer by layer for DescribeConfigs.

The layers, the strongest first, are the dynamic configs of the node, those of the whole cluster (both from the cluster's
metadata), the static configuration that the node was started with, and the declared defaults. A topic's own overrides lie
above them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from chronik.broker_config import BROKER_CONFIGS
from chronik.config_def import ConfigDef, ConfigSource, ConfigValue
from chronik.group_config import GROUP_CONFIGS
from chronik.interfaces import IClusterMetadata
from chronik.model import Topic
from chronik.topic_config import TOPIC_CONFIGS, TopicSettings, default_value, topic_settings


@dataclass(frozen=True, slots=True)
class ConfigSynonym:
    """A config that had a say in a value, under the name and with the text that it has in its own layer."""

    name: str
    value: str | None
    source: ConfigSource


@dataclass(frozen=True, slots=True)
class ConfigEntry:
    """A config as it is now. `synonyms` are all that would decide it, the one that does first."""

    definition: ConfigDef
    value: str | None
    source: ConfigSource
    read_only: bool
    synonyms: tuple[ConfigSynonym, ...]


_FAMILIES = [
    tuple(synonym.name for synonym in definition.synonyms)
    for definition in TOPIC_CONFIGS.values()
    if len(definition.synonyms) > 1
]
_FAMILY = {name: family for family in _FAMILIES for name in family}
"""Broker configs that set the same thing in several units, the strongest first, by each of their names."""


_VISIBLE = {name: definition for name, definition in sorted(TOPIC_CONFIGS.items()) if not definition.hidden}


class NodeConfig:
    """The configuration of broker `node_id`. `static` has the text values it was started with, by Kafka's names.

    Give `static` only what was really set, since DescribeConfigs tells set values from defaults.
    """

    def __init__(self, static: Mapping[str, str], metadata: IClusterMetadata, node_id: int) -> None:
        self.node_id = node_id
        self._static = dict(static)
        self._metadata = metadata
        self._merged: tuple[int, Mapping[str, str]] = (-1, {})
        self._defaults: tuple[int, dict[str, ConfigEntry]] = (-1, {})

    def merged(self) -> Mapping[str, str]:
        """Text values of all broker configs that are set in any layer. The same mapping until the metadata changes."""
        version: int = self._metadata.version
        if self._merged[0] != version:
            layers = (layer for layer, _ in reversed(list(self._layers())))
            self._merged = (version, {name: text for layer in layers for name, text in layer.items()})
        return self._merged[1]

    def value(self, name: str) -> ConfigValue:
        """The parsed value of a broker config."""
        definition = BROKER_CONFIGS[name]
        text = self.merged().get(name)
        return definition.default if text is None else definition.parse(text)

    def number(self, name: str) -> int:
        """The value of a broker config that is a whole number."""
        value = self.value(name)
        if not isinstance(value, int):
            raise TypeError(f"broker config {name} is no number: {value!r}")
        return value

    def topic_settings(self, topic: Topic) -> TopicSettings:
        """The effective settings of `topic` on this node."""
        return topic_settings(topic.configs, self.merged())

    def topic_entries(self, overrides: Mapping[str, str]) -> list[ConfigEntry]:
        """Every topic config of a topic with these overrides, by name."""
        version: int = self._metadata.version
        if self._defaults[0] != version:
            self._defaults = (version, {name: self._topic_entry(_VISIBLE[name], None) for name in _VISIBLE})
        entries = dict(self._defaults[1])
        for name in entries.keys() & overrides.keys():
            entries[name] = self._topic_entry(_VISIBLE[name], overrides[name])
        return list(entries.values())

    def broker_entries(self) -> list[ConfigEntry]:
        """Every broker config of this node, by name."""
        return [self._broker_entry(definition) for definition in BROKER_CONFIGS.values()]

    def group_entries(self, group_id: str) -> list[ConfigEntry]:
        """Every config of a group, by name."""
        configs = self._metadata.group_configs(group_id)
        entries = []
        for name, definition in sorted(GROUP_CONFIGS.items()):
            text, source = configs.get(name), ConfigSource.GROUP
            if text is None:  # what the node was started with is the default, and is shown as such
                names = [synonym.name for synonym in definition.synonyms]
                text = str(self.number(names[0])) if names else definition.text(definition.default)
                source = ConfigSource.DEFAULT
            entries.append(ConfigEntry(definition, text, source, False, (ConfigSynonym(name, text, source),)))
        return entries

    def cluster_entries(self) -> list[ConfigEntry]:
        """The dynamic configs that hold for all brokers, by name."""
        entries = []
        for name, text in sorted(self._metadata.broker_configs(None).items()):
            if name not in BROKER_CONFIGS:  # set by another release
                continue
            source = ConfigSource.DYNAMIC_DEFAULT_BROKER
            entries.append(ConfigEntry(BROKER_CONFIGS[name], text, source, False, (ConfigSynonym(name, text, source),)))
        return entries

    def _layers(self) -> Iterator[tuple[Mapping[str, str], ConfigSource]]:
        yield self._metadata.broker_configs(self.node_id), ConfigSource.DYNAMIC_BROKER
        yield self._metadata.broker_configs(None), ConfigSource.DYNAMIC_DEFAULT_BROKER
        yield self._static, ConfigSource.STATIC_BROKER

    def _topic_entry(self, definition: ConfigDef, override: str | None) -> ConfigEntry:
        strongest = definition.synonyms[0].name if definition.synonyms else ""
        synonyms = self._synonyms(strongest)
        if strongest and strongest not in BROKER_CONFIGS:  # nothing acts on it, so nothing but its default can be set
            synonyms = (ConfigSynonym(strongest, definition.text(definition.default), ConfigSource.DEFAULT),)
        if override is not None:
            value = definition.text(definition.parse(override))
            synonyms = (ConfigSynonym(definition.name, value, ConfigSource.TOPIC), *synonyms)
        else:
            value = definition.text(default_value(definition, self.merged()))
        return ConfigEntry(definition, _shown(definition, value), _source(synonyms), False, synonyms)

    def _broker_entry(self, definition: ConfigDef) -> ConfigEntry:
        synonyms = self._synonyms(definition.name)
        value = definition.text(self.value(definition.name))
        return ConfigEntry(definition, _shown(definition, value), _source(synonyms), not definition.dynamic, synonyms)

    def _synonyms(self, name: str) -> tuple[ConfigSynonym, ...]:
        """All settings of broker config `name` and its weaker relatives; nothing while `name` itself isn't set, as in Kafka."""
        family: Sequence[str] = _FAMILY.get(name, (name,))
        found = [
            ConfigSynonym(member, layer[member], source)
            for layer, source in self._layers()
            for member in family
            if member in layer
        ]
        for member in family:
            definition = BROKER_CONFIGS.get(member)
            if definition is not None and definition.default is not None:
                found.append(ConfigSynonym(member, definition.text(definition.default), ConfigSource.DEFAULT))
        names = [synonym.name for synonym in found]
        return tuple(found[names.index(name) :]) if name in names else ()


def _source(synonyms: tuple[ConfigSynonym, ...]) -> ConfigSource:
    return synonyms[0].source if synonyms else ConfigSource.DEFAULT


def _shown(definition: ConfigDef, value: str | None) -> str | None:
    return None if definition.sensitive else value
