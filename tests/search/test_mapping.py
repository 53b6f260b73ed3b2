"""Mappings and names of fields."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from chronik.search.fields import Field, resolve
from chronik.search.mapping import MAX_FIELDS, Mapping, Property, extend_mapping, mapping_body, parse_mapping
from chronik.search.query import QueryError

GOOD = {
    "properties": {
        "status": {"type": "long"},
        "user": {"properties": {"id": {"type": "keyword"}, "name.first": {"type": "text"}}},
        "since": {"type": "date", "format": "strict_date_optional_time||epoch_second"},
        "msg": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
        "headers.retry": {"type": "integer"},
        "key": {"type": "keyword"},
        "a.keyword": {"type": "boolean"},
    }
}


def field(type_):
    return {"properties": {"f": type_}}


class MappingTests(SynchronousTestCase):
    def test_what_it_says(self):
        mapping = parse_mapping(GOOD)
        self.assertEqual(
            mapping.fields,
            {
                "status": Property("long"),
                "user.id": Property("keyword"),
                "user.name.first": Property("text"),
                "since": Property("date", True),
                "msg": Property("text"),
                "headers.retry": Property("integer"),
                "key": Property("keyword"),
                "a.keyword": Property("boolean"),
            },
        )
        self.assertEqual(parse_mapping(mapping_body(mapping)), mapping)
        self.assertEqual(msgspec.msgpack.decode(msgspec.msgpack.encode(mapping), type=Mapping), mapping)
        self.assertEqual(parse_mapping({}), Mapping())
        self.assertEqual(parse_mapping({"dynamic": True, "properties": {}}), Mapping())

    def test_errors_say_where_and_why(self):
        deep = {"type": "long"}
        for _ in range(25):
            deep = {"properties": {"x": deep}}
        for body, start in (
            ([], "an object is expected"),
            ({"dynamic": "strict"}, "dynamic: only true"),
            ({"_source": {}}, "_source: not supported"),
            ({"properties": []}, "properties: an object"),
            (field({}), "properties.f.type: an unknown type None"),
            (field({"type": "ip"}), "properties.f.type: an unknown type 'ip'"),
            (field({"type": "keyword", "ignore_above": 256}), "properties.f.ignore_above: not supported"),
            (field({"type": "nested", "properties": {}}), "properties.f.type: a field with properties"),
            (field({"type": "text", "fields": {"raw": {"type": "keyword"}}}), "properties.f.fields.raw: not supported"),
            (field({"type": "text", "fields": {"keyword": {"type": "long"}}}), "properties.f.fields.keyword: only"),
            (field({"type": "date", "format": "yyyy"}), "properties.f.format: 'yyyy' is not supported"),
            (field({"type": "long", "format": "epoch_millis"}), "properties.f.format: 'epoch_millis' is not supported"),
            (field({"type": "date", "format": "epoch_millis||epoch_second"}), "properties.f.format: a number cannot"),
            ({"properties": {"": {"type": "long"}}}, "properties.: no name"),
            ({"properties": {"a..b": {"type": "long"}}}, "properties.a..b: no name"),
            ({"properties": {"timestamp": {"type": "date"}}}, "properties.timestamp: `timestamp` has its meaning"),
            ({"properties": {"value.x": {"type": "date"}}}, "properties.value.x: `value.x` has its meaning"),
            ({"properties": {"a": {"type": "long"}, "a.b": {"type": "long"}}}, "properties: `a` is of type long"),
            (
                {"properties": {"a.b": {"type": "long"}, "a": {"properties": {"b": {"type": "text"}}}}},
                "properties.a.properties.b: `a.b`",
            ),
            (
                {"properties": {str(n): {"type": "long"} for n in range(MAX_FIELDS + 1)}},
                "properties.1000: more than 1000",
            ),
            (deep, "properties.x.properties"),
        ):
            error = self.assertRaises(QueryError, parse_mapping, body)
            self.assertTrue(str(error).startswith(start), str(error))

    def test_types_stay(self):
        mapping = parse_mapping(field({"type": "long"}))
        more = extend_mapping(mapping, parse_mapping({"properties": {"g": {"type": "text"}, "f": {"type": "long"}}}))
        self.assertEqual(sorted(more.fields), ["f", "g"])
        for other in ({"f": {"type": "text"}}, {"f.x": {"type": "long"}}):
            self.assertRaises(QueryError, extend_mapping, mapping, parse_mapping({"properties": other}))


class FieldTests(SynchronousTestCase):
    def test_names(self):
        mapping = parse_mapping(GOOD)
        for name, wanted in {
            "value": ("value", "", "text", False),
            "value.keyword": ("value", "", "keyword", False),
            "key": ("key", "", "keyword", False),
            "headers": ("headers", "", "dynamic", False),
            "headers.retry": ("header", "retry", "number", False),
            "headers.trace.id.keyword": ("header", "trace.id", "keyword", False),
            "timestamp": ("timestamp", "", "date", False),
            "timestamp.keyword": ("timestamp", "", "date", False),
            "offset": ("offset", "", "number", False),
            "partition": ("partition", "", "number", False),
            "topic": ("topic", "", "keyword", False),
            "_index": ("topic", "", "keyword", False),
            "status": ("path", "status", "number", False),
            "value.status": ("path", "status", "number", False),
            "value.timestamp": ("path", "timestamp", "dynamic", False),
            "value.value": ("path", "value", "dynamic", False),
            "value.key": ("path", "key", "dynamic", False),
            "value.headers.retry": ("path", "headers.retry", "dynamic", False),
            "since": ("path", "since", "date", True),
            "since.keyword": ("path", "since", "keyword", False),
            "a.keyword": ("path", "a.keyword", "boolean", False),
            "a": ("path", "a", "dynamic", False),
            "keyword": ("path", "keyword", "dynamic", False),
            "b.keyword.keyword": ("path", "b", "keyword", False),
            "value.b.keyword": ("path", "b", "keyword", False),
            "keys": ("path", "keys", "dynamic", False),
        }.items():
            self.assertEqual(resolve(name, mapping), Field(name, *wanted), name)
