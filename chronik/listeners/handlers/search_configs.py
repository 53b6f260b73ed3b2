"""What DescribeConfigs shows of a saved search: what it is, in configs that can't be changed.

A saved search stores nothing, so none of the configs of topics has a meaning for it. These tell anybody who looks at it with
whatever tool what it is a view of.
"""

from __future__ import annotations

from chronik.config_def import ConfigDef, ConfigSource, ConfigType
from chronik.interfaces import IClusterMetadata
from chronik.model import SavedSearch
from chronik.node_config import ConfigEntry, ConfigSynonym

_SOURCE = ConfigDef("chronik.search.source", ConfigType.STRING, None, "The topic that this saved search is a view of.")
_QUERY = ConfigDef("chronik.search.query", ConfigType.STRING, None, "Which records of the source this topic has.")
_MAPPING = ConfigDef("chronik.search.mapping", ConfigType.STRING, None, "How the query reads the fields of the source.")


def search_entries(search: SavedSearch, metadata: IClusterMetadata) -> list[ConfigEntry]:
    """The entries of a saved search, by name."""
    source = metadata.topic_by_id(search.source_id)
    assert source is not None  # it can't be deleted while the search is there
    entries = [_entry(_QUERY, search.query), _entry(_SOURCE, source.name)]
    return [_entry(_MAPPING, search.mapping), *entries] if search.mapping else entries


def _entry(definition: ConfigDef, value: str) -> ConfigEntry:
    synonym = ConfigSynonym(definition.name, value, ConfigSource.TOPIC)
    return ConfigEntry(definition, value, ConfigSource.TOPIC, True, (synonym,))
