"""The options of search and SQL: how many processes, the listener, and what a search or a statement may take.

One of the declarations that `chronik.config.Config` is made of.
"""

from __future__ import annotations

from dataclasses import dataclass

from chronik.addresses import ListenerAddress, parse_listener
from chronik.options import BYTES, MILLISECONDS, Section

SEARCH = Section("Search")


def _parse_listener(text: str) -> ListenerAddress | None:
    return None if text.lower() == "none" else parse_listener(text, "HTTP")


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What makes messages searchable."""

    search_workers: int = SEARCH.integer(
        1,
        "Processes that index and search. Each owns a part of the partitions. 0: nothing is indexed, and search is not served.",
        low=0,
        high=64,
    )
    search_listener: ListenerAddress | None = SEARCH.custom(
        ListenerAddress("HTTP", "127.0.0.1", 9200),
        "Where messages are searched by HTTP, as Elasticsearch speaks it. It has no authentication yet: keep it on loopback.",
        _parse_listener,
        "host:port, tcp:port or tcp:port:interface=host, or none",
        flag="search-listen",
    )
    search_split_messages: int = SEARCH.integer(
        1_000_000,
        "Messages of one split of the inverted index, which topics with chronik.search=full have. What is newer than the last "
        "split is searched without one.",
        low=1000,
        high=10_000_000,
    )
    search_timeout_ms: int = SEARCH.integer(
        30_000,
        "The longest that a search may take, and the time that one has which doesn't say how long.",
        low=1,
        high=600_000,
        unit=MILLISECONDS,
    )
    tail_max_clients: int = SEARCH.integer(
        10_000,
        "Live tails that are served at the same time. Each has a connection, and so a file descriptor (`ulimit -n`).",
        low=0,
        high=1_000_000,
    )
    tail_max_queries: int = SEARCH.integer(
        2_000,
        "Different queries that live tails may wait for at the same time, however many clients each of them has.",
        low=0,
        high=100_000,
    )
    query_workers: int = SEARCH.integer(
        1, "Processes that run continuous queries, each a part of them. 0: none are run.", low=0, high=64
    )
    query_interval_ms: int = SEARCH.integer(
        100,
        "Between two steps of a continuous query there is at least so much: each step is a transaction.",
        low=1,
        high=60_000,
        unit=MILLISECONDS,
    )
    query_idle_ms: int = SEARCH.integer(
        10_000,
        "A partition from which nothing came for so long doesn't hold back event time. When all are idle, it goes on with the"
        " wall clock, so the last windows end.",
        low=100,
        high=86_400_000,
        unit=MILLISECONDS,
    )
    query_ahead_ms: int = SEARCH.integer(
        3_600_000,
        "Event times that are further ahead of the wall clock don't count: one wrong clock would end all windows. They are"
        " counted as `outside`.",
        low=0,
        high=366 * 86_400_000,
        unit=MILLISECONDS,
    )
    sql_workers: int = SEARCH.integer(
        2,
        "Processes that run SQL, one statement each at a time; others wait. 0: SQL is not served.",
        low=0,
        high=64,
    )
    sql_timeout_ms: int = SEARCH.integer(
        60_000,
        "The longest that a statement may run, and the time that one has which doesn't say how long.",
        low=1,
        high=3_600_000,
        unit=MILLISECONDS,
    )
    sql_max_rows: int = SEARCH.integer(
        10_000,
        "The most rows of an answer, and of one whose request says none. What is cut off is told.",
        low=1,
        high=10_000_000,
    )
    sql_memory_bytes: int = SEARCH.integer(
        512 << 20,
        "The most memory of a statement, and of one that doesn't say how much. Its process may have 768 MiB beside it.",
        low=32 << 20,
        high=1 << 40,
        unit=BYTES,
    )
    sql_threads: int = SEARCH.integer(
        2, "The most threads of a statement, and those of one that doesn't say how many.", low=1, high=256
    )
