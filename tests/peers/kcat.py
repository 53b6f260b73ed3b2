"""kcat, Debian's command-line client (on librdkafka 2.0.2: a good old client)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

from tests.peers import cache


def run(*arguments: str, stdin: bytes | None = None, timeout: float = 60.0) -> bytes:
    """Run kcat to its end and return its output. Raises RuntimeError with its errors when it fails."""
    line = [cache.program("kcat", "kcat"), *arguments]
    done = subprocess.run(line, input=stdin or b"", capture_output=True, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(line)} ended with {done.returncode}: {done.stderr.decode('utf-8', 'replace')}")
    return done.stdout


def produce(bootstrap: str, topic: str, lines: Iterable[bytes], codec: str, keyed: bool = False) -> None:
    """Produce one message a line; with `keyed`, a line is "key<TAB>value"."""
    key = ("-K", "\t") if keyed else ()
    run(
        *("-P", "-b", bootstrap, "-t", topic, "-z", codec, "-X", "acks=all", "-X", "message.timeout.ms=60000"),
        *key,
        stdin=b"".join(line + b"\n" for line in lines),
    )


def consume(bootstrap: str, topic: str) -> list[tuple[int, int, bytes, bytes]]:
    """All of a topic as (partition, offset, key, value), each partition in its order."""
    output = run("-C", "-q", "-b", bootstrap, "-t", topic, "-o", "beginning", "-e", "-f", "%p %o %K %S\n%k%s\n")
    found, position = [], 0
    while position < len(output):
        stop = output.index(b"\n", position)
        partition, offset, key_size, value_size = map(int, output[position:stop].split())
        key = stop + 1
        value = key + max(0, key_size)
        end = value + max(0, value_size)
        found.append((partition, offset, output[key:value], output[value:end]))
        position = end + 1
    return found
