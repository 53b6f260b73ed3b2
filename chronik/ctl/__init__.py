"""`chronik-ctl`: the command line for any Kafka-compatible cluster."""
