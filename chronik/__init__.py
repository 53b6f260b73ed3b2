"""Chronik Stream: a Kafka-compatible log whose every message is searchable, on Twisted."""

__version__ = "0.1.0"
