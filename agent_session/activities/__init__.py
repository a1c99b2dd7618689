"""Effects with retries. Each writes its own outcome to the transcript and returns a small summary."""
