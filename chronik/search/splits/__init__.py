"""Tier 2 of search: tantivy splits, which count and propose, beside the signatures. See docs/adr/0014-splits.md."""
