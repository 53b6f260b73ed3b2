"""The corpus in tantivy, in this process: no broker, no network, no durable single messages; an index, merged and warm."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from benchmarks import corpus
from benchmarks.search.timing import window

_FIRST, _LAST = corpus.START_MS + 2_000, corpus.START_MS + 9_000
QUERIES = {
    "rare term": corpus.RARE.lower(),
    "error": "error",
    "and of three": "+error +payments +timeout",
    "time range and term": f"+timestamp:[{_FIRST} TO {_LAST}] +declined",
    "phrase": '"connection reset"',
}
_HEAP_BYTES = 256 << 20


def measure(home: Path, messages: int, calls: int) -> dict[str, Any]:
    """Index and ask it."""
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_text_field("value", stored=False)
    builder.add_unsigned_field("timestamp", indexed=True, fast=True)
    schema = builder.build()
    index = tantivy.Index(schema, path=str(home))
    wall, cpu = time.perf_counter(), time.process_time()
    writer = index.writer(_HEAP_BYTES, 1)
    for message in corpus.messages(messages):
        document = tantivy.Document()
        document.add_text("value", message.value.decode())
        document.add_unsigned("timestamp", message.timestamp)
        writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    index.reload()
    searcher = index.searcher()
    queries = {}
    for name, text in QUERIES.items():
        parsed = index.parse_query(text, ["value"])
        queries[name] = window(
            os.getpid(),
            lambda parsed=parsed: searcher.search(parsed, 10, False, order_by_field="timestamp"),
            calls,  # type: ignore[misc]
        )
    version = tantivy.__version__.split(",")[0]
    return {
        "what": f"{version} in the measuring process, one writing thread; finds places, has no sources",
        "feed_seconds": wall,
        "cpu_seconds": cpu,
        "disk_bytes": sum(path.stat().st_size for path in home.iterdir()),
        "queries": queries,
    }
