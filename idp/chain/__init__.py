"""The audit chain: sealed in order, anchored outside, verified by anybody who holds the master key, and purged."""
