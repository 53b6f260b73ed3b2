"""Clients and tools that others wrote, unmodified, against a node that runs as a process of its own.

By default a bounded slice runs; `CHRONIK_COMPAT=1` runs everything. A test whose peer is not installed and cannot be
skips, saying what is missing; `tests/peers/install` puts all of them on a Debian machine. `CHRONIK_COMPAT_BROKER=kafka` points
the very same tests at Apache Kafka 4.1 instead of Chronik: what fails there too is the test's fault.
"""
