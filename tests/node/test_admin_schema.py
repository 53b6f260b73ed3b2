"""Schemathesis makes requests out of the OpenAPI document, good and bad, and holds the answers against it. Slow: tagged."""

from __future__ import annotations

import os
import sys

from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest, TestCase

from chronik.config import Config
from chronik.services import make_node


class GeneratedRequests(TestCase):
    timeout = 300

    async def test_every_answer_is_as_documented(self) -> None:
        if not os.environ.get("CHRONIK_TEST_SLOW"):
            raise SkipTest("set CHRONIK_TEST_SLOW=1 to run it (about a minute)")
        config = Config.resolve(
            {
                "data_directory": os.path.abspath(self.mktemp()),
                "listeners": "127.0.0.1:0",
                "admin_listener": "127.0.0.1:0",
                "search_listener": "none",
                "offsets_topic_num_partitions": "1",
            }
        )
        node = make_node(config, self.fail)
        node.startService()
        self.addCleanup(node.stopService)
        await node.ready
        assert node.admin_port is not None
        base = f"http://127.0.0.1:{node.admin_port.getHost().port}"
        arguments = [
            "-m", "schemathesis.cli", "run", f"{base}/v1/openapi.json", "--max-examples=15", "--seed=1", "--workers=1",
            "--exclude-checks=unsupported_method,positive_data_acceptance", "--generation-database=none",
        ]  # fmt: skip
        out, err, status = await getProcessOutputAndValue(
            sys.executable, arguments, {**os.environ, "NO_COLOR": "1"}, os.path.abspath("."), reactor
        )
        self.assertEqual(status, 0, (out + err).decode()[-6000:])
        self.assertEqual(self.flushLoggedErrors(), [])
