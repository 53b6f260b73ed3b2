"""docs/sql.md names all that a request and its answer may have, and what it calls a limit is one."""

from __future__ import annotations

from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from chronik.analytics import answers, connection, schema, service, syntax
from chronik.analytics.messages import Counts
from chronik.config import Config
from chronik.listeners.search_schema import SqlAnswer
from chronik.listeners.sql_calls import KINDS, SqlBody

TEXT = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()


class Docs(SynchronousTestCase):
    def test_every_name_is_there(self) -> None:
        structs = (SqlBody, SqlAnswer, Counts)
        names = [field.encode_name for struct in structs for field in msgspec.structs.fields(struct)]
        for name in (*names, *KINDS, *syntax.META, "sql_workers"):
            self.assertRegex(TEXT, rf"[`\"]{name}[`\"]|`{name}:", name)
        for kind in schema.META_TYPES.values():
            self.assertIn(kind, TEXT)

    def test_limits_are_those(self) -> None:
        config = Config(data_directory="/x")
        for text in (
            f"at most {connection.MAX_STATEMENT_BYTES:,} bytes",
            f"{answers.MAX_BYTES >> 20} MiB",
            f"{service.MAX_UNDER_WAY} are under way",
            f"more than {service.MAX_PARTITIONS:,} partitions",
            f"At most {schema.MAX_COLUMNS} columns",
            f"more than {schema.MAX_MEMBERS} names",
            f"`sql_max_rows` ({config.sql_max_rows:,})",
            f"`sql_timeout_ms` ({config.sql_timeout_ms:,})",
            f"`sql_memory_bytes` ({config.sql_memory_bytes >> 20} MiB)",
            f"`sql_threads` ({config.sql_threads})",
            f"`sql_workers` ({config.sql_workers})",
        ):
            self.assertIn(text, TEXT)
