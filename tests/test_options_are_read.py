"""No option is accepted that nothing reads: each is an attribute that some module of the node loads."""

from __future__ import annotations

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import chronik
from chronik.config import OPTIONS, TOPIC_DEFAULTS
from chronik.topic_config import TOPIC_CONFIGS

_DECLARING = {
    "config.py",
    "options.py",
    "node_options.py",
    "log_options.py",
    "coordinator_options.py",
    "search_options.py",
    "example_config.py",
    "broker_config.py",
}
_AT_THEIR_DEFAULT_ONLY = {"object_store_type"}
"""Accepted so that one may say it aloud; any other value is refused, so there is nothing to read."""


def read_names(root: Path) -> set[str]:
    """The names of all attributes that are loaded, and all text constants, in the modules under `root`, but for those that
    declare options: an option is read as `config.num_partitions`, or by Kafka's name through `NodeConfig`."""
    found: set[str] = set()
    for path in root.rglob("*.py"):
        if path.parent == root and path.name in _DECLARING:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


class EveryOption(SynchronousTestCase):
    root = Path(chronik.__file__).parent

    def test_is_read_by_the_node(self) -> None:
        read = read_names(self.root)
        unread = (
            {name for name, option in OPTIONS.items() if not read & {name, option.kafka}}
            - set(TOPIC_DEFAULTS)
            - _AT_THEIR_DEFAULT_ONLY
        )
        self.assertEqual(unread, set())

    def test_of_topics_reaches_the_topics(self) -> None:
        self.assertIn("config.kafka_configs()", (self.root / "assembly.py").read_text())
        reached = {synonym.name for definition in TOPIC_CONFIGS.values() for synonym in definition.synonyms}
        self.assertLessEqual({option.kafka for option in TOPIC_DEFAULTS.values()}, reached)
