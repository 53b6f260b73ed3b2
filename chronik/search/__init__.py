"""Search: the language, what a hit is, what may be pruned, and what is made of hits. Tiers only propose; `match` decides."""
