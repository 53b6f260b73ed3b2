"""The same messages and queries by others: OpenSearch, tantivy alone, and a compressed file that is searched by ripgrep.

Each gets the first messages of the corpus, in a process of its own where it has one, and is asked for the newest 10. Who
cannot say a query is not asked it. What is compared is written down with each of them: they are not the same thing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import brokers, corpus, machine
from benchmarks.results import Results
from benchmarks.schedule import Schedule
from benchmarks.search import beside_opensearch, beside_tantivy
from benchmarks.search.beside_opensearch import Missing
from benchmarks.search.feeding import feed
from benchmarks.search.freshness import Prober
from benchmarks.search.nodes import KEPT, PARTITIONS, searched
from benchmarks.search.queries import TOPIC
from benchmarks.search.timing import saved, window

PART = "search-beside"
_PROBES = 100
_NEWEST = 10

_PIPES = {
    "rare term": f"rg -i -w {corpus.RARE}",
    "error": "rg -i -w error",
    "and of three": "rg -i -w error | rg -i -w payments | rg -i -w timeout",
    "phrase": "rg -i '\\bconnection[^a-z0-9]+reset\\b'",
    "regex with a literal": "rg 'timeout.{1,20}db'",
    "regex without a literal": "rg ' [0-9]{5} ms'",
}


def run(results: Results, schedule: Schedule, messages: int, place: str = "disk") -> None:
    """Measure what `results` lacks; who is not on this machine is left out, and said."""
    engines = {
        "chronik": _chronik,
        "opensearch": beside_opensearch.measure,
        "tantivy": beside_tantivy.measure,
        "ripgrep": _ripgrep,
    }
    schedule.prepare(brokers.DIRECTORIES[place])
    for name, measure in engines.items():
        if results.has(PART, name):
            continue
        schedule.say(f"{messages:,} messages in {name}")
        home = Path(tempfile.mkdtemp(prefix=f"chronik-beside-{name}-", dir=brokers.DIRECTORIES[place]))
        try:
            found = measure(home, messages, max(10, schedule.search_calls // 5))
        except Missing as why:
            schedule.say(f"  left out: {why}")
            continue
        finally:
            shutil.rmtree(home, ignore_errors=True)
        results.put(PART, name, {"messages": messages, **found})


def _chronik(home: Path, messages: int, calls: int) -> dict[str, Any]:
    with searched("disk") as node:
        node.create(TOPIC, PARTITIONS, KEPT)
        first = machine.sample(node.pid)
        fed = feed(node.port, TOPIC, 0, messages)
        node.drain(TOPIC)
        cpu = machine.sample(node.pid).process - first.process
        queries = {}
        for query in corpus.QUERIES:
            body = {"query": {"query_string": {"query": query.text}}, "size": _NEWEST, "track_total_hits": False}
            content = json.dumps(body).encode()
            queries[query.name] = window(
                node.pid,
                lambda content=content: node.search.ask("POST", f"/{TOPIC}/_search", content),
                calls,  # type: ignore[misc]
            )
        prober = Prober(node, TOPIC)
        first, begun = machine.sample(node.pid), time.perf_counter()
        probes = [prober.probe() for _ in range(min(_PROBES, calls))]
        fresh = saved(first, machine.sample(node.pid), time.perf_counter() - begun, probes)
        node.restart()
        return {
            "what": "a broker over Kafka's protocol; log and index; HTTP, one node with one search process",
            "feed_seconds": fed,
            "cpu_seconds": cpu,
            "disk_bytes": node.bytes_of("search") + node.bytes_of("topics"),
            "queries": queries,
            "fresh": fresh,
        }


def _ripgrep(home: Path, messages: int, calls: int) -> dict[str, Any]:
    for program in ("rg", "zstd"):
        if shutil.which(program) is None:
            raise Missing(f"{program} is not on the PATH")
    path = home / "corpus.zst"
    first, begun = time.process_time(), time.perf_counter()
    with subprocess.Popen(["zstd", "-q", "-1", "-o", str(path)], stdin=subprocess.PIPE) as packer:
        assert packer.stdin is not None
        for message in corpus.messages(messages):
            packer.stdin.write(message.value + b"\n")
        packer.stdin.close()
    queries: dict[str, Any] = {}
    for query in corpus.QUERIES:
        pipe = _PIPES.get(query.name)
        line = f"zstdcat {path} | {pipe} | tail -{_NEWEST}"
        if pipe is not None:
            queries[query.name] = window(
                1,
                lambda line=line: subprocess.run(["sh", "-c", line], stdout=subprocess.DEVNULL, check=True),
                max(3, calls // 40),  # type: ignore[misc]
            )
    return {
        "what": "a file of lines without times and keys, read whole each time; up to 2 cores",
        "feed_seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - first,
        "disk_bytes": path.stat().st_size,
        "queries": queries,
    }
