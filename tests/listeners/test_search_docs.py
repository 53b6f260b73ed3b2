"""docs/search-http.md names all that is served, and what it calls a limit is one."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from chronik.listeners import search_calls, search_field_caps, search_http, search_multiple
from chronik.listeners.search_catalog import COLUMNS
from chronik.listeners.search_schema import OPERATIONS
from chronik.search import requests, writing
from chronik.search.messages import Costs

TEXT = (Path(__file__).parents[2] / "docs" / "search-http.md").read_text()


class Docs(SynchronousTestCase):
    def test_every_path_parameter_and_key_is_named(self) -> None:
        for operation in OPERATIONS:
            self.assertIn(operation.path.replace("{names}", "TOPICS"), TEXT)
        names = {*requests.SEARCH_PARAMETERS, *requests.SEARCHED_WITH, *requests.TUNING, *search_calls.NAME_PARAMETERS}
        for name in (*names, *Costs.__struct_fields__):
            self.assertRegex(TEXT, rf"[`/\"]{re.escape(name)}[`:=]", name)
        for column in COLUMNS:
            self.assertIn(column, TEXT)

    def test_limits_are_those(self) -> None:
        for number in (
            f"{requests.MAX_WINDOW:,}", f"{search_http.MAX_BODY >> 20} MiB", f"{search_calls.MAX_UNDER_WAY} searches",
            f"{search_multiple.MAX_SEARCHES} searches", f"newest {search_field_caps.SAMPLE} messages",
            f"first {search_field_caps.MAX_SAMPLED}", f"{writing.MAX_ANSWER_BYTES >> 20} MiB a process",
            f"of {search_http.MAX_PRETTY >> 20} MiB at most",
        ):  # fmt: skip
            self.assertIn(number, TEXT)
