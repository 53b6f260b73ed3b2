"""The options of search: how many processes, and the listener.

One of the declarations that `chronik.config.Config` is made of.
"""

from __future__ import annotations

from dataclasses import dataclass

from chronik.options import Section

SEARCH = Section("Search")


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What makes messages searchable."""

    search_workers: int = SEARCH.integer(
        1,
        "Processes that index and search. Each owns a part of the partitions. 0: nothing is indexed, and search is not served.",
        low=0,
        high=64,
    )
