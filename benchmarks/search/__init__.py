"""Search under measurement: how fresh, how fast, what it costs a producer, how it grows, and beside others.

    python -m benchmarks search                   all of the parts below, some two hours; goes on where it stopped
    python -m benchmarks search-freshness         acknowledgement to the first response that holds the message
    python -m benchmarks search-produce           produce with the index and without it: saturated, and at a fixed rate
    python -m benchmarks search-indexing          from the segment's file to the written signature, by one core
    python -m benchmarks search-queries           the queries of `benchmarks.corpus` by HTTP, over 10 M messages
    python -m benchmarks search-growth            the same over 1 M, 10 M and 50 M
    python -m benchmarks search-beside            1 M messages beside OpenSearch, tantivy and `zstdcat | rg`

`--most N` leaves out corpora of more than N messages. Every part has a module here; `nodes` starts a node and asks it,
`feeding` puts the corpus into it, `timing` has windows, and `report` and `plot` write what came of it.
"""
