"""Ephemeral progress: tokens, tool output, retries. Never durable, never in Temporal, never holds up a
turn. Workers publish, `up` relays on `live.sock` in the data directory, commands watch.
"""
