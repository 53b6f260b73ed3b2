"""KafkaJS: the client most Node programs use, driven through `kafkajs/client.js`."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.peers import cache

RECIPE = Path(__file__).parent / "kafkajs"


def packages() -> Path:
    """The directory that holds node_modules, filled by npm on first use (no install scripts run)."""
    manifest = (RECIPE / "package.json").read_bytes()

    def install(home: Path) -> None:
        npm = cache.program("npm", "npm")
        shutil.copy(RECIPE / "package.json", home)
        options = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock")
        done = subprocess.run([npm, "install", *options], cwd=home, capture_output=True, text=True, check=False)
        if done.returncode:
            raise cache.PeerMissing(f"npm could not install KafkaJS:\n{done.stderr[-2000:]}")

    return cache.installed("kafkajs", manifest, install)


def _run(*arguments: str, stdin: bytes = b"", timeout: float = 90.0) -> bytes:
    line = [cache.program("node", "nodejs"), str(RECIPE / "client.js"), *arguments]
    environment = {**os.environ, "CHRONIK_KAFKAJS": str(packages())}
    done = subprocess.run(line, input=stdin, capture_output=True, timeout=timeout, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"KafkaJS {arguments[0]} failed: {done.stderr.decode('utf-8', 'replace')[-3000:]}")
    return done.stdout


def produce(bootstrap: str, topic: str, messages: Iterable[tuple[bytes | None, bytes]], codec: str) -> None:
    """Produce (key, value) pairs, acks=all, idempotent, in batches of up to 500."""
    coded = [
        {"key": None if key is None else base64.b64encode(key).decode(), "value": base64.b64encode(value).decode()}
        for key, value in messages
    ]
    _run("produce", bootstrap, topic, codec, stdin=json.dumps(coded).encode())


def consume(bootstrap: str, topic: str, group: str, count: int) -> list[tuple[int, int, bytes | None, bytes]]:
    """The first `count` messages of a topic, as a member of `group`: (partition, offset, key, value)."""
    found = json.loads(_run("consume", bootstrap, topic, group, str(count)))
    return [
        (partition, offset, None if key is None else base64.b64decode(key), base64.b64decode(value))
        for partition, offset, key, value in found
    ]
