"""The comparison itself: what counts as a difference, and what an entry of the table excuses."""

from __future__ import annotations

import unittest
from typing import Any

from tests.differential import compare, masks
from tests.differential.differences import DIFFERENCES, Difference


def found(kafka: Any, chronik: Any, *table: Difference) -> list[tuple[str, bool]]:
    """(path, whether it is intended) of each difference between two answers of one step."""
    findings = compare.compare({"s": {"a step": kafka}}, {"s": {"a step": chronik}}, table)
    return [(finding.path, finding.intended is not None) for finding in findings]


class Compare(unittest.TestCase):
    """`compare`, `Difference` and the joining of Fetch answers."""

    def test_equal_answers_do_not_differ(self) -> None:
        answer = {"topics": [{"name": "a", "error_code": 0}], "nothing": None}
        self.assertEqual(found(answer, {**answer}), [])

    def test_values_kinds_and_absence_differ(self) -> None:
        self.assertEqual(
            found({"a": 1, "b": 0, "c": 2}, {"a": 2, "b": False}), [("a", False), ("b", False), ("c", False)]
        )
        self.assertEqual(found({}, {"new": None}), [("new", False)])

    def test_items_are_known_by_what_names_them(self) -> None:
        kafka = [{"name": "a", "code": 0}, {"name": "b", "code": 0}]
        self.assertEqual(found({"topics": kafka}, {"topics": kafka[1:]}), [("topics[a]", False)])
        self.assertEqual(
            found({"topics": kafka}, {"topics": [kafka[1], {"name": "a", "code": 3}]}), [("topics[a].code", False)]
        )

    def test_a_step_that_is_missing_differs(self) -> None:
        self.assertEqual(len(compare.compare({"s": {"one": 1, "two": 2}}, {"s": {"one": 1}}, ())), 1)
        self.assertEqual(len(compare.compare({}, {"s": {"one": 1}}, ())), 1)

    def test_an_entry_excuses_its_place_and_values_only(self) -> None:
        kafka, chronik = {"topics": [{"name": "a", "code": 0}]}, {"topics": [{"name": "a", "code": 3}]}
        for entry, excused in (
            (Difference("r"), True),
            (Difference("r", "s", "a *", "topics[a].code"), True),
            (Difference("r", "s", "a *", "topics[[]a].code"), False),
            (Difference("r", "t"), False),
            (Difference("r", step="b *"), False),
            (Difference("r", path="*.name"), False),
            (Difference("r", kafka=0, chronik=3), True),
            (Difference("r", kafka=0, chronik=4), False),
            (Difference("r", kafka=None), False),
            (Difference("r", chronik=lambda value: value > 2), True),
            (Difference("r", chronik=lambda value: value > 3), False),
        ):
            self.assertEqual(found(kafka, chronik, entry), [("topics[a].code", excused)], entry)

    def test_entries_that_excuse_nothing_are_told(self) -> None:
        ran = {scenario: {} for scenario in ("api_versions", "metadata_creates")}
        unused = compare.unused([], ran)
        self.assertEqual(unused, [entry for entry in DIFFERENCES if any(entry.concerns(name) for name in ran)])
        self.assertTrue(unused)
        finding = compare.Finding("metadata_creates", "first", "x", 0, 1, unused[-1])
        self.assertNotIn(unused[-1], compare.unused([finding], ran))

    def test_every_entry_says_why(self) -> None:
        for entry in DIFFERENCES:
            self.assertGreater(len(entry.reason.split()), 5, entry)

    def test_a_fetched_topic_is_one_however_often_it_is_named(self) -> None:
        def topic(name: str, *partitions: int) -> dict[str, Any]:
            return {
                "topic": name,
                "topic_id": "<none>",
                "partitions": [{"partition_index": each} for each in partitions],
            }

        joined = masks._joined([topic("a", 2), topic("b", 0), topic("a", 1)])
        self.assertEqual(joined, [topic("a", 1, 2), topic("b", 0)])


if __name__ == "__main__":
    unittest.main()
