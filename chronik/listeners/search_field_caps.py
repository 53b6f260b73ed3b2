"""`_field_caps`: which fields there are, and of which types: of every record, of the mapping, and what a sample says.

Messages have no schema, so beyond a mapping nobody knows their fields: the newest `SAMPLE` messages of each topic are looked
at, of the first `MAX_SAMPLED` topics. The answer says so, under `chronik`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from chronik.listeners.http import Refusal
from chronik.listeners.search_calls import NAME_PARAMETERS, Searches, mapping_of
from chronik.listeners.search_http import Call, switch
from chronik.search.mapping import Mapping
from chronik.search.rendering import LeafKinds
from chronik.search.requests import json_body
from chronik.search.wildcards import compiled, parts
from chronik.topic_config import SEARCH_MAPPING

SAMPLE = 200
MAX_SAMPLED = 16
MAX_PATTERNS = 100
MAX_FIELDS = 10_000
"""Of an answer."""
_MAX_CONTENT = 16 * 1024
_AT_ONCE = 20
_OF_EVERY_RECORD = {
    "_id": "_id", "_index": "_index", "timestamp": "date", "partition": "long", "offset": "long", "value": "text",
    "key": "text", "key.keyword": "keyword", "topic": "keyword",
}  # fmt: skip
_METADATA = frozenset({"_id", "_index"})
_KINDS: msgspec.json.Decoder[dict[str, str]] = msgspec.json.Decoder(dict[str, str])


async def field_caps(searches: Searches, call: Call, clock: IReactorTime) -> dict[str, Any]:
    """The answer. Raises QueryError, NamesError, Refusal."""
    about_names, rest = call.split(*NAME_PARAMETERS)
    wanted = _patterns(call, rest)
    topics = await searches.topics(call.names, about_names)
    types: dict[str, dict[str, set[str]]] = {}
    sampled: dict[str, int] = {}
    for number, topic in enumerate(topics):
        _add(types, topic.name, _OF_EVERY_RECORD, wanted)
        _add(types, topic.name, _mapped(mapping_of(topic.configs.get(SEARCH_MAPPING, ""))), wanted)
        if number >= MAX_SAMPLED:
            if not number % _AT_ONCE:
                await deferLater(clock, 0)
            continue
        found = await searches.sample([topic], SAMPLE, LeafKinds())
        sampled[topic.name] = len(found.hits)
        known = {name for name, by_type in types.items() if topic.name in set().union(*by_type.values())}
        for at, hit in enumerate(found.hits):
            kinds = _KINDS.decode(hit.hit.rendered)
            _add(types, topic.name, {name: kind for name, kind in kinds.items() if name not in known}, wanted, True)
            if not at % _AT_ONCE:
                await deferLater(clock, 0)
            if len(types) > MAX_FIELDS:
                raise Refusal(400, f"there are more than {MAX_FIELDS} fields; ask for fewer by `fields`")
    names = [topic.name for topic in topics]
    return {
        "indices": names,
        "fields": {field: _of_types(field, by_type, names) for field, by_type in sorted(types.items())},
        "chronik": {"sampled": sampled},
    }


def _patterns(call: Call, parameters: dict[str, str]) -> list[re.Pattern[str]]:
    """The fields that are asked for, all by default."""
    if switch(parameters, "include_unmapped"):
        raise Refusal(400, "include_unmapped is not served: a field is there or not")
    if not switch(parameters, "include_empty_fields", True):
        raise Refusal(400, "include_empty_fields is true: a mapping may name fields that no message has")
    for name in parameters:
        if name not in ("fields", "include_unmapped", "include_empty_fields"):
            raise Refusal(400, f"unrecognized parameter `{name:.50}`")
    if len(call.content) > _MAX_CONTENT:
        raise Refusal(413, f"the body of _field_caps may have {_MAX_CONTENT} bytes")
    body = json_body(call.content).known("fields")
    texts = [item.text() for item in body["fields"].items()] if body.has("fields") else []
    texts += parameters["fields"].split(",", MAX_PATTERNS) if "fields" in parameters else []
    if len(texts) > MAX_PATTERNS or any(len(text) > 1000 for text in texts):
        raise Refusal(400, f"at most {MAX_PATTERNS} names or patterns of fields are allowed, of 1000 characters each")
    return [compiled(parts(text.replace("\\", "\\\\").replace("?", "\\?"))) for text in dict.fromkeys(texts or ["*"])]


def _mapped(mapping: Mapping) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, field in mapping.fields.items():
        fields[name] = field.type
        if field.type == "text":
            fields[f"{name}.keyword"] = "keyword"
    return fields


def _add(
    types: dict[str, dict[str, set[str]]],
    topic: str,
    fields: dict[str, str],
    wanted: Sequence[re.Pattern[str]],
    with_keywords: bool = False,
) -> None:
    """Note the fields that are wanted; `with_keywords`, each text's exact form too."""
    for name, kind in fields.items():
        kinds = ("text", "long", "double", "boolean") if kind == "mixed" else (kind,)
        both = [(name, one) for one in kinds]
        if with_keywords and "text" in kinds:
            both.append((f"{name}.keyword", "keyword"))
        for field, one in both:
            if any(pattern.fullmatch(field) for pattern in wanted):
                types.setdefault(field, {}).setdefault(one, set()).add(topic)


def _of_types(field: str, by_type: dict[str, set[str]], topics: Sequence[str]) -> dict[str, Any]:
    """A field's capabilities, by its types; where there are several, which topics have each."""
    capabilities: dict[str, Any] = {}
    for kind, having in sorted(by_type.items()):
        capabilities[kind] = {
            "type": kind,
            "metadata_field": field in _METADATA,
            "searchable": True,
            "aggregatable": kind != "text",
        }
        if len(by_type) > 1:
            capabilities[kind]["indices"] = [topic for topic in topics if topic in having]
    return capabilities
