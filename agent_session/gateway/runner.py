"""How connections are bounded, whatever is served on them. aiohttp ends a connection that waits for a request, or
for the rest of its head, after the keep-alive time; bodies are bounded where they are read (`body.py`)."""

from aiohttp import web

HEAD_BYTES = 16 * 1024  #: of the request line, and of each header; more is a 400
DRAIN_S = 5.0  #: for requests that are being answered when the gateway stops


def runner_of(app: web.Application, *, idle_s: float = 75.0, drain_s: float = DRAIN_S) -> web.AppRunner:
    """`idle_s`: for a whole request head, from the connection or the last answer on (`gateway.keep_alive_s`). A proxy
    that keeps connections for longer sends its next request into one that is being closed, and answers 502.

    A handler is cancelled when its client leaves: nobody waits for a reply that nobody reads. What it has handed to
    Temporal stays."""
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
