"""The transcript: a session's JSONL history on the shared volume, and what lies beside it."""
