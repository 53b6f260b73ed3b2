"""A broker for the tests that need a real one.

`bootstrap()` gives the address in CHRONIK_TEST_BOOTSTRAP (any Kafka-compatible cluster that may be written to), else that of an
embedded node, started once for the process. Where there is neither, the test is skipped.
"""

from __future__ import annotations

import os
import uuid
from functools import cache
from unittest import SkipTest

import chronik.testing


def bootstrap() -> str:
    """host:port of a broker. Raises SkipTest saying what to set."""
    address = os.environ.get("CHRONIK_TEST_BOOTSTRAP")
    if address:
        return address
    if not hasattr(chronik.testing, "Chronik"):
        raise SkipTest("set CHRONIK_TEST_BOOTSTRAP=host:port to a broker that may be written to")
    return str(_embedded().bootstrap_servers)


@cache
def _embedded() -> object:
    node = chronik.testing.Chronik()
    node.__enter__()
    import atexit

    atexit.register(node.__exit__, None, None, None)
    return node


def fresh(name: str) -> str:
    """A name for a topic or group that nothing else uses."""
    return f"{name}-{uuid.uuid4().hex[:8]}"
