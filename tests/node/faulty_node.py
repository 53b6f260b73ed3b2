"""A node of its own process with a topic `safe`, on a disk that syncs no batches: prints its port, then waits for its end."""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from chronik.config import Config
from chronik.controller.commands import CreateTopics, NewTopic
from chronik.services import make_node
from chronik.tap import exit_on
from tests.node.test_faults import FaultyDisk


def main() -> None:
    disk = FaultyDisk()
    disk.broken = ".log"
    settings = {
        "data_directory": sys.argv[1],
        "listeners": "127.0.0.1:0",
        "admin_listener": "none",
        "search_listener": "none",
    }
    node = make_node(Config.resolve(settings), exit_on(None), disk=disk)  # type: ignore[arg-type]

    async def run() -> None:
        await node.ready
        topic = NewTopic("safe", 1, configs=(("chronik.durability", "fsync"),))
        await node.controller.propose(CreateTopics((topic,)))
        print(node.kafka_ports[0][1].getHost().port, flush=True)

    reactor.callWhenRunning(node.startService)  # type: ignore[attr-defined]
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(run()))  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
