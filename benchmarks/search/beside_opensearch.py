"""The corpus in OpenSearch: one node, six shards without replicas, the standard analyzer, its defaults otherwise.

Documents are value, key and timestamp; searches are sorted by timestamp, newest first. Fed by bulks of 5,000 in one connection.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import corpus, machine
from benchmarks.search.nodes import PARTITIONS, HttpAsker
from benchmarks.search.timing import saved, window
from tests.peers.cache import PeerMissing
from tests.peers.opensearch_node import VERSION, OpenSearchNode

_BULK = 5_000
_PROBES = 20
_INDEX = {
    "settings": {"number_of_shards": PARTITIONS, "number_of_replicas": 0},
    "mappings": {
        "properties": {"value": {"type": "text"}, "key": {"type": "keyword"}, "timestamp": {"type": "date"}},
    },
}


class Missing(Exception):
    """A program that this compares with is not here."""


def _all_of(*words: str) -> dict[str, Any]:
    return {"bool": {"filter": [{"match": {"value": word}} for word in words]}}


QUERIES: dict[str, dict[str, Any]] = {
    "rare term": _all_of(corpus.RARE),
    "error": _all_of("error"),
    "and of three": _all_of("error", "payments", "timeout"),
    "time range and term": {
        "bool": {
            "filter": [
                {"range": {"timestamp": {"gte": corpus.START_MS + 2_000, "lte": corpus.START_MS + 9_000}}},
                {"match": {"value": "declined"}},
            ]
        }
    },
    "phrase": {"match_phrase": {"value": "connection reset"}},
}
"""Regular expressions over the raw text of an analysed field are nothing that it has."""


def measure(home: Path, messages: int, calls: int) -> dict[str, Any]:
    """Feed and ask it. Raises Missing where it cannot be had."""
    try:
        node = OpenSearchNode(home)
    except PeerMissing as why:
        raise Missing(str(why)) from None
    try:
        node.start()
        asker, pid = HttpAsker(node.port), node.process.pid
        asker.json("PUT", "/corpus", _INDEX)
        first, begun = machine.sample(pid), time.perf_counter()
        for bulk in _bulks(messages):
            if json.loads(asker.ask("POST", "/corpus/_bulk", bulk, "application/x-ndjson"))["errors"]:
                raise RuntimeError("OpenSearch refused a document")
        asker.json("POST", "/corpus/_refresh")
        fed, cpu = time.perf_counter() - begun, machine.sample(pid).process - first.process
        queries = {}
        for name, query in QUERIES.items():
            body = {"query": query, "size": 10, "sort": [{"timestamp": "desc"}], "track_total_hits": False}
            content = json.dumps(body).encode()
            for _ in range(20):
                asker.ask("POST", "/corpus/_search?request_cache=false", content)
            queries[name] = window(
                pid,
                lambda content=content: asker.ask("POST", "/corpus/_search?request_cache=false", content),
                calls,  # type: ignore[misc]
            )
        fresh = _freshness(asker, pid)
        asker.json("POST", "/corpus/_flush")
        size = sum(path.stat().st_size for path in node.data.rglob("*") if path.is_file())
        return {
            "what": f"OpenSearch {VERSION}, 1 GB heap; HTTP; sorted by time; its fresh messages by the default refresh",
            "feed_seconds": fed,
            "cpu_seconds": cpu,
            "disk_bytes": size,
            "queries": queries,
            "fresh": fresh,
        }
    finally:
        node.stop()


def _bulks(messages: int) -> Iterator[bytes]:
    source = corpus.messages(messages)
    while some := list(islice(source, _BULK)):
        lines = []
        for message in some:
            document = {"value": message.value.decode(), "timestamp": message.timestamp}
            if message.key is not None:
                document["key"] = message.key.decode()
            lines.append('{"index":{}}')
            lines.append(json.dumps(document))
        yield ("\n".join(lines) + "\n").encode()


def _freshness(asker: HttpAsker, pid: int) -> dict[str, Any]:
    """From the acknowledgement of a document to the end of the response that holds it."""
    latencies = []
    first, begun = machine.sample(pid), time.perf_counter()
    for number in range(_PROBES):
        word = f"probe{number}x"
        asker.json("POST", "/corpus/_doc", {"value": f"level=info msg={word} sent to be found", "timestamp": 0})
        acknowledged = time.perf_counter_ns()
        query = json.dumps({"query": {"match": {"value": word}}, "size": 1, "track_total_hits": False}).encode()
        while word.encode() not in asker.ask("POST", "/corpus/_search", query):
            pass
        latencies.append((time.perf_counter_ns() - acknowledged) // 1000)
    return saved(first, machine.sample(pid), time.perf_counter() - begun, latencies)
