"""Aggregations over hits, after Elasticsearch's: counted by workers as records come, merged, and finished by the node."""
