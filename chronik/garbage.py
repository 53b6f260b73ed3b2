"""Has Python look through all of its objects seldom.

A full collection of garbage cycles visits every object of the process while nothing else runs: some 40 ms with 6,000 open
partitions. By default one comes whenever the number of objects has grown by a quarter, that is, just while many topics are
created. Nearly everything in a node is freed by its reference count, so the young generations are collected as ever and
the oldest only after `YOUNG_COLLECTIONS` of the one before it. Source: the documentation of gc.set_threshold.
"""

from __future__ import annotations

import gc

YOUNG_COLLECTIONS = 50
"""Collections of the middle generation before one of everything; with Python's other defaults, 350,000 new objects."""


def collect_seldom() -> None:
    """Set the threshold for this process."""
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, YOUNG_COLLECTIONS)
