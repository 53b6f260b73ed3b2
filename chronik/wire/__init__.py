"""Bytes of the Kafka protocol: frames, messages, record batches. Pure: no I/O, no clock."""
