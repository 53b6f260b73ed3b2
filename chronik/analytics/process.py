"""What a process that runs SQL is allowed: memory, whatever in it allocates.

DuckDB has a limit of its own, but not everything that it allocates counts for that: a list of 300 million numbers, sorted, took
15 GB under a limit of 256 MB.
"""

from __future__ import annotations

import os
import resource

from chronik.analytics.messages import Limits

OWN_BYTES = 768 << 20
"""What the process may need beside DuckDB's memory: its libraries, chunks of records, an answer."""
_THREAD_BYTES = 16 << 20
"""For each thread: its stack, and what it allocates by itself."""


def prepare() -> None:
    """To be called before Arrow is imported: its own allocator reserves a GiB of addresses at once, which counts as memory."""
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"


def bound(limits: Limits) -> None:
    """Let this process allocate so much, and no more: what goes beyond fails as an allocation does."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = limits.memory_bytes + OWN_BYTES + limits.threads * _THREAD_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
