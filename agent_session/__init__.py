"""agent-session: one conversation is one durable Temporal workflow.

The library face is `SessionClient`; everything else is behind the `agent-session` command.
Imports are lazy so that `agent-session --version` stays quick.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from agent_session.client import SessionClient as SessionClient

__all__ = ["SessionClient", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "SessionClient":
        from agent_session.client import SessionClient

        return SessionClient
    raise AttributeError(f"module 'agent_session' has no attribute {name!r}")
