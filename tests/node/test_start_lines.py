"""What a node's log says when it is up."""

from __future__ import annotations

from twisted.logger import eventAsText, globalLogPublisher
from twisted.trial.unittest import TestCase

import chronik.native
from chronik.config import Config
from chronik.services import make_node


class StartLinesTests(TestCase):
    async def test_it_says_where_it_listens_and_which_native_code_there_is(self):
        lines = []
        observer = lambda event: lines.append(eventAsText(event, includeSystem=False))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        node = make_node(
            Config.resolve({"listeners": "127.0.0.1:0", "admin_listener": "none", "search_listener": "none"}),
            lambda _: None,
            in_memory=True,
        )
        node.startService()
        self.addCleanup(node.stopService)
        await node.ready
        self.assertTrue(any("is up after" in line and "Kafka at 127.0.0.1:" in line for line in lines), lines)
        self.assertTrue(any(f"native code: {chronik.native.DESCRIPTION}" in line for line in lines), lines)
