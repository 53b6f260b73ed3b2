"""What is read out of a statement: its topics, the words that may be columns, and what it demands of records."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chronik.analytics.connection import parse_alone
from chronik.analytics.syntax import Statement


def read(statement: str) -> Statement:
    return parse_alone(statement)


def conditions(statement: str) -> list[tuple[str, list[tuple[str, str]]]]:
    return [
        (each.table, sorted((c.column, c.comparison.removeprefix("COMPARE_")) for c in each.conditions))
        for each in sorted(read(statement).occurrences)
    ]


class Syntax(SynchronousTestCase):
    def test_topics(self) -> None:
        for statement, topics, perhaps in (
            ("SELECT 1", set(), set()),
            ("FROM a", {"a"}, set()),
            ('SELECT * FROM "a.b-c", d', {"a.b-c", "d"}, set()),
            (
                "SELECT (SELECT max(x) FROM a), EXISTS (SELECT 1 FROM b), x IN (SELECT y FROM c) FROM d",
                {"a", "b", "c", "d"},
                set(),
            ),
            ("WITH r AS (SELECT * FROM a) SELECT * FROM r JOIN b USING (x)", {"a", "b"}, {"r"}),
            ("WITH RECURSIVE r AS (SELECT 1 n UNION ALL SELECT n+1 FROM r, a) SELECT * FROM R", {"a"}, {"r", "R"}),
            ("SELECT * FROM a UNION ALL SELECT * FROM b ORDER BY 1 LIMIT 3", {"a", "b"}, set()),
            ("SELECT * FROM (PIVOT a ON x IN (1, 2) USING sum(y))", {"a"}, set()),
            ("SELECT * FROM a ASOF JOIN b ON a.x >= b.x", {"a", "b"}, set()),
            ("VALUES (1)", set(), set()),
            ("SELECT * FROM range(3), unnest([1])", set(), set()),
        ):
            found = read(statement)
            self.assertEqual((found.topics, found.perhaps), (topics, perhaps), statement)

    def test_which_columns_may_be_read(self) -> None:
        for statement, every in (
            ("SELECT count(*) FROM a", False),
            ("SELECT x, y FROM a WHERE z > 1 GROUP BY w", False),
            ("SELECT * FROM a", True),
            ("SELECT a.* FROM a", True),
            ("SELECT COLUMNS('x.*') FROM a", True),
            ("SELECT e FROM a e", True),
            ("SELECT a FROM a", True),
            ("SELECT to_json(A) FROM a", True),
            ("SELECT j FROM (a JOIN b USING (x)) j", True),
            ("SELECT count(E) FROM a e", True),
            ("SELECT e.x FROM a e", False),
            ("SELECT 1 FROM a NATURAL JOIN b", True),
            ("SELECT 1 FROM a JOIN b USING (x)", False),
            ("SELECT x FROM a t(x)", True),
            ("FROM a", True),
            ("SELECT * EXCLUDE (x) FROM a", True),
            ("SELECT #1 FROM a", True),
            ("SELECT 1 FROM a, b", False),
        ):
            self.assertEqual(read(statement).every_column, every, statement)
        words = read('SELECT e."X y".z, max(w) FILTER (v) FROM a e JOIN b USING (u) QUALIFY t = 1').words
        self.assertLessEqual({"x y", "z", "w", "v", "u", "t"}, words)

    def test_conditions(self) -> None:
        for statement, expected in (
            ("SELECT 1 FROM a WHERE _offset > 5", [("a", [("_offset", "GREATERTHAN")])]),
            ("SELECT 1 FROM a WHERE 5 > _offset AND x = 1", [("a", [("_offset", "LESSTHAN")])]),
            ("SELECT 1 FROM a WHERE _timestamp >= now() - INTERVAL 1 HOUR", [("a", [("_timestamp", "GREATERTHANOREQUALTO")])]),
            ("SELECT 1 FROM a WHERE _offset BETWEEN 1 AND 2 + 3",
             [("a", [("_offset", "GREATERTHANOREQUALTO"), ("_offset", "LESSTHANOREQUALTO")])]),
            ("SELECT 1 FROM a e WHERE e._PARTITION = 1", [("a", [("_partition", "EQUAL")])]),
            ("SELECT 1 FROM a, b WHERE a._offset > 5 AND _partition = 1", [("a", [("_offset", "GREATERTHAN")]), ("b", [])]),
            ("SELECT 1 FROM a LEFT JOIN b USING (x) WHERE b._offset > 5", [("a", []), ("b", [("_offset", "GREATERTHAN")])]),
            ("WITH r AS (SELECT * FROM a WHERE _offset > 1) SELECT * FROM r WHERE _offset < 5",
             [("a", [("_offset", "GREATERTHAN")]), ("r", [])]),
        ):  # fmt: skip
            self.assertEqual(conditions(statement), expected, statement)

    def test_what_says_nothing_for_sure(self) -> None:
        for statement in (
            "SELECT 1 FROM a WHERE _offset > 5 OR x = 1",
            "SELECT 1 FROM a WHERE NOT _offset > 5",
            "SELECT 1 FROM a WHERE _offset > x",
            "SELECT 1 FROM a WHERE _offset > random() * 10",
            "SELECT 1 FROM a WHERE _offset + 1 > 5",
            "SELECT 1 FROM a WHERE _offset <> 5",
            "SELECT 1 FROM a WHERE _offset > (SELECT max(x) FROM a)",
            "SELECT 1 FROM a HAVING max(_offset) > 5",
            "SELECT 1 FROM a USING SAMPLE 10 ROWS",
            "SELECT 1 FROM a TABLESAMPLE 10% WHERE _offset > 5",
            "SELECT 1 FROM a t(_offset) WHERE _offset > 5",
            "SELECT 1 FROM a ASOF JOIN b ON a.x >= b.x WHERE b._offset > 5 AND a._offset > 5",
            "SELECT 1 FROM a POSITIONAL JOIN b WHERE a._offset > 5",
            "SELECT 1 FROM a WHERE CASE WHEN x THEN _offset > 5 END",
            "SELECT 1 FROM a WHERE e.user._offset > 5",
            "SELECT count(*) FILTER (_offset > 5) FROM a",
            "SELECT 1 FROM (SELECT * FROM a LIMIT 3) WHERE _offset > 5",
            "SELECT 1 FROM a, a WHERE a._offset > 5",
        ):
            for _, found in conditions(statement):
                self.assertEqual(found, [], statement)
