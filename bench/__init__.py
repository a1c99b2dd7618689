"""Benchmarks: each number beside the floor that was measured in the same minutes on the same server.

`python -m bench` runs them; see README.md. Must not be imported by the product.
"""
