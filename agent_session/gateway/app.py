"""The gateway's aiohttp application, from the table of routes."""

from collections.abc import Sequence

from aiohttp import web

from agent_session.gateway import (
    approvals,
    channel_events,
    codes,
    completions,
    events,
    files,
    health,
    openapi,
    page,
    responses,
    sessions,
)
from agent_session.gateway.entry import entry
from agent_session.gateway.guard import add_headers, middleware
from agent_session.gateway.route import Route
from agent_session.gateway.state import Gateway

#: in the order of `/openapi.json`
ROUTES: tuple[Route, ...] = (
    *sessions.ROUTES,
    *events.ROUTES,
    *approvals.ROUTES,
    *files.ROUTES,
    *completions.ROUTES,
    *responses.ROUTES,
    *codes.ROUTES,
    *channel_events.ROUTES,
    *health.ROUTES,
    *openapi.ROUTES,
    *page.ROUTES,
)


def application(gateway: Gateway, routes: Sequence[Route] = ROUTES) -> web.Application:
    settings = gateway.settings.gateway
    app = web.Application(middlewares=[middleware(settings)], client_max_size=settings.max_body_bytes)
    app.on_response_prepare.append(add_headers)
    for route in routes:
        app.router.add_route(route.method, route.path, entry(gateway, route))
    return app
