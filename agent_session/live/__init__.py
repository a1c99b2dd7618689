"""Ephemeral progress: tokens, tool output, retries. Never durable, never in Temporal, never holds up a
turn. Workers publish, commands watch: by `live.sock` in the data directory, which `up` relays, or by Redis.
"""
