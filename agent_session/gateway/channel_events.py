"""What a channel's own service posts here: Slack's events. The channel itself checks who it is, by signature, before
it believes anything; a token of ours is not asked for. Answers success only once Temporal has accepted.
"""

from aiohttp import web

from agent_session.client import SessionClient
from agent_session.gateway.body import read_body
from agent_session.gateway.errors import Problem
from agent_session.gateway.route import JSON, Answer, Call, Route
from agent_session.gateway.state import Gateway
from channels import NoSuchChannel, load_channel, missing
from channels.base import HttpEvents, TakesHttp

BODY_BYTES = 1024 * 1024


async def events(gateway: Gateway, call: Call) -> web.StreamResponse:
    name = call.request.match_info["name"]
    body = await read_body(call.request, BODY_BYTES)
    status, answer = await _handler_of(gateway, name).handle(body, call.request.headers)
    return web.Response(status=status, body=answer, content_type=JSON if answer else None)


def _handler_of(gateway: Gateway, name: str) -> HttpEvents:
    """One a process and channel, made when it is first posted to. Errors: Problem 404."""
    found = gateway.channel_events.get(name)
    if found is None:
        try:
            found = gateway.channel_events[name] = _channel(gateway, name).http_events(_client(gateway, name))
        except ValueError as error:
            told = f"the channel {name} takes nothing by HTTP: {error}"
            raise Problem(404, "no_such_path", told) from None
    return found


def _channel(gateway: Gateway, name: str) -> TakesHttp:
    """Errors: Problem 404."""
    try:
        channel = load_channel(name, gateway.settings)
        lacking = missing(name, gateway.settings)
    except NoSuchChannel:
        channel, lacking = None, ""
    if not isinstance(channel, TakesHttp) or lacking:
        raise Problem(404, "no_such_path", "no channel of this name takes events by HTTP here")
    return channel


def _client(gateway: Gateway, name: str) -> SessionClient:
    """Without grants: authority is what the channel gives to whom it has authenticated (I10)."""
    client = SessionClient(gateway.temporal, gateway.settings, channel=name, principal=name)
    client.grants = ()
    return client


ROUTES = (
    Route(
        method="POST",
        path="/channels/{name}/events",
        handler=events,
        summary="What a channel's own service posts, signed by it",
        tag="channels",
        body_bytes=BODY_BYTES,
        answers={200: Answer(about="Accepted, by Temporal too", content="*/*")},
        problems=(400, 401, 404, 413, 503),
    ),
)
