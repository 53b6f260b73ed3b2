"""Chronik beside Apache Kafka 4.1 on the same machine, in the same run, under the same generators.

    python -m benchmarks all                  everything, for an hour or two on a quiet machine; picks up where it stopped
    python -m benchmarks throughput|latency|requests|tails|memory|native|report   one part; every part rewrites RESULTS.md
    python -m benchmarks search               of searches, beside OpenSearch and others; see `benchmarks.search`
    python -m benchmarks all --quick          minutes: to see that it runs, not to measure; keeps nothing

See README.md beside this file.
"""
