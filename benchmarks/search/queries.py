"""The queries of `benchmarks.corpus` over HTTP, newest 10, one call after the other; at 1 M, 10 M and 50 M messages.

The corpus is fed until there are so many, the index drains, what it has not made a block of yet stays a tail. Every query is
called until it is warm, then so often as `Schedule.search_calls` says, in windows of a tenth of that, without a total; a few
calls more count up to 10,000 hits, as Elasticsearch does by default. Then the node is stopped in order, so that all of
its index is in files, and these are measured.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from benchmarks import brokers, corpus
from benchmarks.results import Results
from benchmarks.schedule import Schedule
from benchmarks.search.feeding import feed
from benchmarks.search.nodes import KEPT, PARTITIONS, SearchedNode, searched
from benchmarks.search.timing import quiet_windows, window

PART = "search-queries"
TOPIC = "corpus"
_NEWEST = 10


def run(results: Results, schedule: Schedule, sizes: Sequence[int], place: str = "disk") -> None:
    """Measure what `results` lacks of corpora of these sizes."""
    wanted = [size for size in sorted(sizes) if not results.has(PART, str(size))]
    if not wanted:
        return
    schedule.prepare(brokers.DIRECTORIES[place])
    with searched(place) as node:
        node.create(TOPIC, PARTITIONS, KEPT)
        there = 0
        for size in wanted:
            schedule.say(f"queries over {size:,} messages: feeding {size - there:,}")
            fed = feed(node.port, TOPIC, there, size - there)
            drained = node.drain(TOPIC)
            cell = {"messages": size, "fed": size - there, "feed_seconds": fed, "drain_seconds": drained}
            there = size
            cell["lag_messages"], found = node.lag(TOPIC)
            if found != size:
                raise RuntimeError(f"{TOPIC} has {found} messages, {size} were produced")
            cell["queries"] = {query.name: _measure(node, query, schedule) for query in corpus.QUERIES}
            check_rare(node, size)
            node.restart()
            cell["index_bytes"], cell["log_bytes"] = node.bytes_of("search"), node.bytes_of("topics")
            cell["raw_bytes"] = size * corpus.MEAN_BYTES
            results.put(PART, str(size), cell)


def check_rare(node: SearchedNode, size: int) -> None:
    """The rare messages are all found. Raises RuntimeError where they aren't: its figures would mean nothing."""
    found = node.search.json("POST", f"/{TOPIC}/_count", {"query": {"query_string": {"query": corpus.QUERIES[0].text}}})
    there = len(range(corpus.RARE_AT, size, corpus.RARE_EVERY))
    if found["count"] != there:
        raise RuntimeError(f"{found['count']} of {there} rare messages were found")


def _measure(node: SearchedNode, query: corpus.Query, schedule: Schedule) -> dict[str, Any]:
    schedule.say(f"  {query.name}")
    body = {"query": {"query_string": {"query": query.text}}, "size": _NEWEST, "track_total_hits": False}
    content, counting = json.dumps(body).encode(), json.dumps({**body, "track_total_hits": 10_000}).encode()
    path = f"/{TOPIC}/_search"
    calls = schedule.search_calls
    for _ in range(max(2, calls // 50)):
        answer = json.loads(node.search.ask("POST", path, content))
    explained = node.search.json("POST", f"/{TOPIC}/_explain", body)
    windows = quiet_windows(node.pid, lambda: node.search.ask("POST", path, content), calls, max(1, calls // 10))
    return {
        "text": query.text,
        "hits": len(answer["hits"]["hits"]),
        "failed": answer["_shards"]["failed"],
        "costs": explained["chronik"]["costs"],
        "windows": windows,
        "counting": window(node.pid, lambda: node.search.ask("POST", path, counting), max(1, calls // 50)),
    }
