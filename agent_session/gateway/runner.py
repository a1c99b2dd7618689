"""How connections are bounded, whatever is served on them. aiohttp ends a connection that waits for a request, or
for the rest of its head, after the keep-alive time; bodies are bounded where they are read (`body.py`)."""

from aiohttp import web

HEAD_BYTES = 16 * 1024  #: of the request line, and of each header; more is a 400
IDLE_S = 30.0  #: for a whole request head, from the connection or the last answer on
DRAIN_S = 5.0  #: for requests that are being answered when the gateway stops


def runner_of(app: web.Application, *, idle_s: float = IDLE_S, drain_s: float = DRAIN_S) -> web.AppRunner:
    """A handler is cancelled when its client leaves: nobody waits for a reply that nobody reads. What it has handed
    to Temporal stays."""
    return web.AppRunner(
        app,
        handle_signals=False,
        access_log=None,
        shutdown_timeout=drain_s,
        max_line_size=HEAD_BYTES,
        max_field_size=HEAD_BYTES,
        keepalive_timeout=idle_s,
        handler_cancellation=True,
    )
