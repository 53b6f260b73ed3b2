"""The same requests to Apache Kafka and to Chronik, answers compared.

`scenarios/` is the script: functions that send requests over raw sockets and use what comes back (ids, epochs) in the next
ones. `session` sends, decodes and records; `masks` replaces what may differ (ids by ordinals, times, addresses);
`compare` finds differences; `differences` is the one table of those that are intended, each with its reason.
`recorded/` holds the masked answers of Apache Kafka, so that the comparison also runs where no Java is.

    python -m tests.differential record            ask Apache Kafka, write recorded/
    python -m tests.differential compare HOST:PORT ask a running node, print what differs
    python -m tests.differential show [SCENARIO]   print Kafka's recorded answers for people
"""
