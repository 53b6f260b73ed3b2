"""The parts of `python -m benchmarks search`, by name."""

from __future__ import annotations

from benchmarks.results import Results
from benchmarks.schedule import Schedule
from benchmarks.search import beside, freshness, indexing, producing, queries

KEPT_AS = {"search-growth": queries.PART}
"""Parts whose results have another's name."""


def run(part: str, results: Results, schedule: Schedule, most: int) -> None:
    """Run one of them: what `results` lacks, with corpora of at most `most` messages."""
    sizes = [size for size in schedule.search_sizes if size <= most]
    if part == "search-freshness":
        freshness.run(results, schedule)
    elif part == "search-produce":
        producing.run(results, schedule)
    elif part == "search-indexing":
        indexing.run(results, schedule)
    elif part == "search-queries":
        queries.run(results, schedule, sizes[:2][-1:])
    elif part == "search-growth":
        queries.run(results, schedule, sizes)
    else:
        beside.run(results, schedule, min(most, schedule.beside_messages))
