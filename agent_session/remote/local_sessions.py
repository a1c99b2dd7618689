"""Sessions of this machine: `SessionClient`, with their transcripts as commands and the chat read them."""

from agent_session.client import SessionClient
from agent_session.remote.local_transcripts import LocalTranscripts


class LocalSessions(SessionClient, LocalTranscripts):
    """Through Temporal and the volume."""
