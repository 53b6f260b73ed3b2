"""Columns of a topic out of samples and declarations."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chronik.analytics.schema import MAX_COLUMNS, infer, quoted


def types(*values: Any, **declared: str) -> dict[str, str]:
    texts = [value if isinstance(value, bytes) or value is None else json.dumps(value).encode() for value in values]
    found = infer(texts, {name.replace("__", "."): text for name, text in declared.items()})
    return {each.name: each.type for each in found.columns if each.member is not None}


class Schemas(SynchronousTestCase):
    def test_types(self) -> None:
        for values, expected in (
            ([1, 2], "BIGINT"), ([1, 2.5], "DOUBLE"), ([10**18], "DOUBLE"), ([-(10**18) + 1], "BIGINT"), ([True], "BOOLEAN"),
            (["a"], "VARCHAR"), (["a", 1], "VARCHAR"), ([True, 1], "VARCHAR"), ([None], "JSON"), ([None, 1], "BIGINT"),
            ([{"a": 1}], 'STRUCT("a" BIGINT)'), ([{"a": 1}, {"b": "x"}], 'STRUCT("a" BIGINT, "b" VARCHAR)'),
            ([{"a": 1}, {"a": 1.5}], 'STRUCT("a" DOUBLE)'), ([{"a": 1}, 1], "JSON"), ([{}], "JSON"),
            ([{"a": 1, "A": 2}], "JSON"),
            ([{str(n): 1 for n in range(60)}], "JSON"), ([[1]], "BIGINT[]"), ([[1], [2.5]], "DOUBLE[]"), ([[]], "JSON"),
            ([[1, "a"]], "VARCHAR[]"), ([[1], "a"], "JSON"), ([[{"a": [1]}]], 'STRUCT("a" BIGINT[])[]'),
            ([{"a": {"b": {"c": {"d": {"e": 1}}}}}], 'STRUCT("a" STRUCT("b" STRUCT("c" STRUCT("d" JSON))))'),
        ):  # fmt: skip
            self.assertEqual(types(*({"x": value} for value in values)), {"x": expected}, values)

    def test_what_is_no_object_says_nothing(self) -> None:
        self.assertEqual(types(b"plain", None, b"[1]", b"1", b"\xff", b'{"a":', {"a": 1}), {"a": "BIGINT"})

    def test_declared(self) -> None:
        self.assertEqual(types({"x": 1}, x="VARCHAR", y="DOUBLE"), {"x": "VARCHAR", "y": "DOUBLE"})
        self.assertEqual(types({"u": {"a": 1}}, u__id="DOUBLE"), {"u": 'STRUCT("a" BIGINT, "id" DOUBLE)'})
        self.assertEqual(types({"u": 5}, u__id="DOUBLE"), {"u": 'STRUCT("id" DOUBLE)'})

    def test_names(self) -> None:
        found = types({"Level": 1, "level": 2, "_offset": 3, "a b": 4, 'q"': 5, "": 6, "a\n": 7, "x" * 600: 8})
        self.assertEqual(list(found), ["Level", "level_1", "_offset_1", "a b", 'q"'])
        self.assertEqual(quoted('q"'), '"q"""')
        wide = infer([json.dumps({f"f{n}": n for n in range(600)}).encode()], {})
        self.assertEqual((len(wide.columns), wide.left_out), (MAX_COLUMNS, 106))
