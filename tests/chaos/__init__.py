"""Chaos: the real service as separate processes, faults from a seeded plan, and a checker that only looks."""
