"""Durable decisions. Deterministic (I8): no I/O, no wall clock, no randomness outside Temporal's."""
