"""docs/search.md says what is so: its examples parse, and what it lists is what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from chronik.search.aggregations.parse import _GROUPINGS, _LEAVES
from chronik.search.elastic import _PARSERS
from chronik.search.mapping import TYPES, parse_mapping
from chronik.search.match import Scope, check_query
from chronik.search.query import DEFAULT_LIMITS
from chronik.search.query_string import parse
from tests.search.records import NOW

TEXT = (Path(__file__).parents[2] / "docs" / "search.md").read_text()


def section(title):
    return re.split(r"^## ", TEXT.split(f"## {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(text):
    return [row.split(" | ")[0].removeprefix("| ") for row in text.splitlines() if row.startswith("| `")]


class DocsTests(SynchronousTestCase):
    def test_examples_of_the_query_string_parse(self):
        examples = section("The query string").split("```")[1].split("\n")
        for cell in first_cells(section("What a clause asks")) + first_cells(section("The query string")):
            for example in re.findall(r"`([^`]+)`", cell.replace("\\|", "|")):
                if example[0] not in "<>={[" and "(no " not in example:
                    examples.append(example)
        examples = [example for example in examples if example.strip()]
        self.assertGreater(len(examples), 30)
        for example in examples:
            check_query(parse(example), Scope("t", 0, NOW))

    def test_kinds_of_queries_are_those_that_are_served(self):
        named = {name for cell in first_cells(section("Elasticsearch's JSON")) for name in re.findall(r"`(\w+)`", cell)}
        self.assertEqual(named, {*_PARSERS, "bool", "constant_score"})

    def test_types_and_aggregations_are_those_that_are_served(self):
        for name in TYPES:
            self.assertIn(f"`{name}`", section("Mapping"))
        for name in (*_LEAVES, *_GROUPINGS):
            self.assertIn(f"`{name}`", section("Aggregations"))
        example = section("Mapping").split("```json\n")[1].split("```")[0]
        self.assertEqual(len(parse_mapping(json.loads(example)).fields), 3)

    def test_limits(self):
        limits = section("Limits")
        for number in (
            f"{DEFAULT_LIMITS.clauses} clauses",
            f"{DEFAULT_LIMITS.depth} levels",
            f"{DEFAULT_LIMITS.terms:,} values",
        ):
            self.assertIn(number, limits)
        self.assertIn("16 KiB", limits)
        self.assertEqual(DEFAULT_LIMITS.query_bytes, 16 << 10)
