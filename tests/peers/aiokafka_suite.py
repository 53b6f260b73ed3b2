"""aiokafka's own integration tests, pointed at a broker that runs elsewhere.

No source distribution of aiokafka on PyPI has its tests: they come out of its repository, and `CHRONIK_AIOKAFKA` names a clone
(a directory with or without a work tree, or an address that git can clone). The tests run against the aiokafka that is
installed beside Chronik, at the tag of its version; their conftest.py, which starts containers, is replaced.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tests.peers import cache

_CONFTEST = '''"""The fixtures of aiokafka's integration tests; the broker is the one that AIOKAFKA_TEST_BROKER names."""

import asyncio
import gc
import os
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def kafka_server():
    host, port = os.environ["AIOKAFKA_TEST_BROKER"].split(":")
    return SimpleNamespace(host=host, port=int(port), hosts=[f"{host}:{port}"])


@pytest.fixture(scope="class")
def loop():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    if not loop.is_closed():
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
    gc.collect()
    asyncio.set_event_loop(None)


@pytest.fixture(scope="class")
def setup_test_class_serverless(request, loop):
    request.cls.loop = loop


@pytest.fixture(scope="class")
def setup_test_class(request, loop, kafka_server):
    request.cls.loop = loop
    request.cls.kafka_host = kafka_server.host
    request.cls.kafka_port = kafka_server.port
    request.cls.hosts = kafka_server.hosts
    request.cls.kafka_version = os.environ["AIOKAFKA_TEST_VERSION"]
'''


def source() -> Path:
    """The directory that holds aiokafka's package `tests`. Raises PeerMissing where no clone is named."""
    version = importlib.metadata.version("aiokafka")

    def install(home: Path) -> None:
        repository = os.environ.get("CHRONIK_AIOKAFKA")
        if not repository:
            raise cache.PeerMissing(
                "no release of aiokafka on PyPI has its tests: set CHRONIK_AIOKAFKA to a clone of it"
            )
        clone = home / "clone.git"
        _git(["clone", "--quiet", "--bare", repository, str(clone)])
        with tarfile.open(fileobj=io.BytesIO(_git(["-C", str(clone), "archive", f"v{version}", "tests"]))) as bundle:
            bundle.extractall(home, filter="data")
        (home / "tests" / "conftest.py").write_text(_CONFTEST)

    return cache.installed("aiokafka", f"{version} {_CONFTEST}".encode(), install)


def _git(arguments: Sequence[str]) -> bytes:
    done = subprocess.run([cache.program("git", "git"), *arguments], capture_output=True, check=False)
    if done.returncode:
        raise cache.PeerMissing(f"git {' '.join(arguments)} failed: {done.stderr.decode('utf-8', 'replace')[-2000:]}")
    return done.stdout
