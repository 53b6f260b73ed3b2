"""Hits as JSON: the source by the letter, filters, and fields."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.search.body import Body
from chronik.search.document import Document
from chronik.search.highlight import parse_highlight
from chronik.search.mapping import NO_MAPPING, Mapping, parse_mapping
from chronik.search.match import Scope
from chronik.search.query import ALL
from chronik.search.query_string import parse
from chronik.search.rendering import FieldWish, LeafKinds, Shape, place_only, renderer
from tests.search.records import NOW

SCOPE = Scope("events", 3, NOW)
WHOLE = Shape()
TREE = {"user": {"id": 5, "name": "x", "deep": {"a": 1}}, "tags": [{"k": 1, "v": 2}, {"v": 3}], "n": 1.50, "userid": 2}


def raw(value: bytes | None, shape: Shape = WHOLE, mapping: Mapping = NO_MAPPING, **more: Any) -> bytes:
    document = Document(17, more.get("timestamp", NOW), more.get("key"), value, more.get("headers", ()))
    scope = Scope("events", 3, NOW, mapping)
    return renderer(shape, more.get("query", ALL), scope)(document, scope, [NOW])


def shown(value: bytes | None, shape: Shape = WHOLE, mapping: Mapping = NO_MAPPING, **more: Any) -> Any:
    return json.loads(raw(value, shape, mapping, **more))


def source(value: Any, *includes: str, excludes: tuple[str, ...] = ()) -> Any:
    return shown(json.dumps(value).encode(), Shape(includes=includes, excludes=excludes))["_source"]


class Sources(SynchronousTestCase):
    def test_a_json_object_is_the_source_by_the_letter(self) -> None:
        for value in (
            b'{"a": 1}',
            b'  {"big": 123456789012345678901234567890, "d": 1.10, "a":1, "a":2}\n',
            b'{"t": "\\u00e9\\ud83d\\ude00", "e": 1E5}',
            b"{}",
        ):
            self.assertIn(b'"_source":' + value, raw(value))
            self.assertEqual(shown(value)["_source"], json.loads(value))

    def test_any_other_value_is_a_text(self) -> None:
        for value, text in [
            (b"plain", "plain"), (b"level=error a=b", "level=error a=b"), (b"[1,2]", "[1,2]"), (b'"x"', '"x"'), (b"17", "17"),
            (b'{"bad":', '{"bad":'), (b'{"a":NaN}', '{"a":NaN}'), (b"\xff\xfe", "\ufffd\ufffd"), (b"", ""),
            (b'{"a":"\xff"}', '{"a":"\ufffd"}'),
            (b"\x00\x1f\"\\", '\x00\x1f"\\'), (b"{" * 5000, "{" * 5000), (None, None),
            (b'{"a":' * 200 + b"1" + b"}" * 200, '{"a":' * 200 + "1" + "}" * 200),
        ]:  # fmt: skip
            self.assertEqual(shown(value)["_source"], {"value": text}, value)

    def test_where_it_is(self) -> None:
        hit = shown(b"{}")
        self.assertEqual((hit["_index"], hit["_id"], hit["_score"]), ("events", "3:17", None))
        self.assertEqual(
            json.loads(place_only(Document(17, 0, None, b"x"), SCOPE)), {k: hit[k] for k in ("_index", "_id", "_score")}
        )

    def test_sources_that_are_not_wanted(self) -> None:
        self.assertNotIn("_source", shown(b"{}", Shape(source=False)))

    def test_filters(self) -> None:
        tree = TREE
        for includes, excludes, expected in [
            (("user",), (), {"user": tree["user"]}),
            (("user.*",), (), {"user": tree["user"]}),
            (("user.id",), (), {"user": {"id": 5}}),
            (("user*",), (), {"user": tree["user"], "userid": 2}),
            (("*.k",), (), {"tags": [{"k": 1}]}),
            (("tags.v",), (), {"tags": [{"v": 2}, {"v": 3}]}),
            (("nothing",), (), {}),
            ((), ("user",), {"tags": tree["tags"], "n": 1.5, "userid": 2}),
            ((), ("user.d*", "tags.*", "n", "userid"), {"user": {"id": 5, "name": "x"}}),
            (("user",), ("user.deep",), {"user": {"id": 5, "name": "x"}}),
            (("us?r",), (), {}),
            (("*",), (), tree),
        ]:
            self.assertEqual(source(tree, *includes, excludes=excludes), expected, (includes, excludes))

    def test_filters_keep_numbers_exact(self) -> None:
        value = b'{"big":123456789012345678901234567890,"d":1.10,"e":1E+400}'
        self.assertIn(b'"_source":' + value, raw(value, Shape(includes=("*",))))

    def test_filters_on_what_is_no_json(self) -> None:
        self.assertEqual(shown(b"text", Shape(includes=("value",)))["_source"], {"value": "text"})
        self.assertEqual(shown(b"a=b", Shape(includes=("a",)))["_source"], {})

    @given(
        st.binary(max_size=60),
        st.binary(max_size=8),
        st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5))),
    )
    def test_any_bytes_make_json(self, value: bytes, key: bytes, headers: list[tuple[str, bytes | None]]) -> None:
        for shape in (Shape(), Shape(includes=("a*",), fields=(FieldWish("*"), FieldWish("value", "iso")), sort=True)):
            hit = shown(value, shape, key=key, headers=headers)
            self.assertEqual(hit["_id"], "3:17")


class Fields(SynchronousTestCase):
    def test_what_a_record_has_beside_its_value(self) -> None:
        hit = shown(b"{}", key=b"k\xff", headers=[("h", b"1"), ("i", None), ("h", b"2")])
        self.assertEqual(
            hit["fields"],
            {
                "timestamp": ["2026-01-01T12:00:00.000Z"],
                "partition": [3],
                "offset": [17],
                "key": ["k\ufffd"],
                "headers.h": ["1", "2"],
                "headers.i": [None],
            },
        )
        self.assertEqual(shown(b"{}", timestamp=-1)["fields"], {"partition": [3], "offset": [17]})

    VALUE = b'{"a":{"b":[1,2.50,"x"],"t":true},"when":"2026-01-01","epoch":1767268800,"n":null}'

    def fields(self, *wishes: FieldWish, mapping: Mapping = NO_MAPPING, **more: Any) -> dict[str, Any]:
        known = shown(self.VALUE, **more)["fields"]
        found = shown(self.VALUE, Shape(fields=wishes), mapping, **more)["fields"]
        return {name: values for name, values in found.items() if known.get(name) != values}

    def test_fields_that_are_asked_for(self) -> None:
        for wish, expected in [
            (FieldWish("a.b"), {"a.b": [1, 2.5, "x"]}),
            (FieldWish("a.*"), {"a.b": [1, 2.5, "x"], "a.t": [True]}),
            (FieldWish("value.a.t"), {"value.a.t": [True]}),
            (FieldWish("nothing"), {}),
            (FieldWish("n"), {}),
            (FieldWish("topic"), {"topic": ["events"]}),
            (FieldWish("value"), {"value": [self.VALUE.decode()]}),
            (FieldWish("when"), {"when": ["2026-01-01"]}),
            (FieldWish("when", "epoch_millis"), {"when": ["1767225600000"]}),
            (FieldWish("when", "epoch_second"), {"when": ["1767225600"]}),
            (FieldWish("when", "iso"), {"when": ["2026-01-01T00:00:00.000Z"]}),
            (FieldWish("timestamp", "epoch_millis"), {"timestamp": [str(NOW)]}),
            (FieldWish("timestamp", "iso"), {}),
            (FieldWish("epoch", "iso"), {"epoch": [1767268800]}),
        ]:
            self.assertEqual(self.fields(wish), expected, wish)

    def test_a_mapping_says_what_is_a_date(self) -> None:
        mapping = parse_mapping({"properties": {"epoch": {"type": "date", "format": "epoch_second"}}})
        self.assertEqual(
            self.fields(FieldWish("epoch", "iso"), mapping=mapping), {"epoch": ["2026-01-01T12:00:00.000Z"]}
        )

    def test_what_was_found_is_marked(self) -> None:
        highlight = parse_highlight(Body({"fields": {"*": {}}, "number_of_fragments": 0}))
        hit = shown(b'{"msg":"connection reset"}', Shape(highlight=highlight), query=parse("msg:reset"))
        self.assertEqual(hit["highlight"], {"msg": ["connection <em>reset</em>"]})
        other = shown(b'{"msg":"connection"}', Shape(highlight=highlight), query=parse("NOT msg:reset"))
        self.assertNotIn("highlight", other)

    def test_what_it_was_sorted_by(self) -> None:
        self.assertEqual(shown(b"{}", Shape(sort=True))["sort"], [NOW, "events:3:17"])


class Leaves(SynchronousTestCase):
    def test_the_kinds_of_a_value_s_fields(self) -> None:
        for value, expected in [
            (b'{"a":1,"b":{"c":2.5,"d":"x"},"e":[true],"f":null,"g":{}}',
             {"a": "long", "b.c": "double", "b.d": "text", "e": "boolean"}),
            (b'{"d":"2026-01-01T10:00:00Z","y":"2026","n":"17-05"}', {"d": "date", "y": "text", "n": "text"}),
            (b'{"m":[1,"x"],"k":[1,2]}', {"m": "mixed", "k": "long"}),
            (b"level=error took=5", {"level": "text", "took": "text"}),
            (b"plain", {}), (b"{broken", {}), (b"", {}),
        ]:  # fmt: skip
            document = Document(0, 0, None, value)
            self.assertEqual(json.loads(renderer(LeafKinds(), ALL, SCOPE)(document, SCOPE, ())), expected, value)
