"""The options of search: how many processes, the listener, and how long a search may take.

One of the declarations that `chronik.config.Config` is made of.
"""

from __future__ import annotations

from dataclasses import dataclass

from chronik.addresses import ListenerAddress, parse_listener
from chronik.options import MILLISECONDS, Section

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
