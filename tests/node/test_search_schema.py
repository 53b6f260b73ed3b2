"""Schemathesis makes requests to the search listener out of its OpenAPI document, and checks the answers. Slow: tagged."""

from __future__ import annotations

import os
import subprocess
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from chronik.testing import Chronik
from tests.node.searching import produce


class GeneratedRequests(SynchronousTestCase):
    def test_every_answer_is_as_documented(self) -> None:
        if not os.environ.get("CHRONIK_TEST_SLOW"):
            raise SkipTest("set CHRONIK_TEST_SLOW=1 to run it (some minutes)")
        with Chronik(search_listener="127.0.0.1:0", process=True) as broker:
            produce(broker, "events", [(b"k", b'{"n":%d,"t":"text"}' % number) for number in range(100)])
            arguments = [
                sys.executable, "-m", "schemathesis.cli", "run", f"{broker.search_url}/v1/openapi.json", "--max-examples=15",
                "--seed=1", "--workers=1", "--exclude-checks=unsupported_method,positive_data_acceptance",
                "--generation-database=none", "--exclude-path-regex=_msearch",  # it can't make NDJSON
            ]  # fmt: skip
            done = subprocess.run(
                arguments, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, timeout=900, check=False
            )
        self.assertEqual(done.returncode, 0, (done.stdout + done.stderr)[-6000:])
