"""Real neighbours: Apache Kafka, its Java tools, kcat, kafkajs, and Chronik itself as a process of its own.

Each module installs one kind of peer (once, into `cache.directory()`, which lies outside the repository) and runs it on
loopback with free ports. Everything started here is stopped by its own process id.
"""
