"""Whether the gateway lives, whether it can do its work, and what it counts. Without a token: they say nothing of
any session."""

from typing import Literal

from aiohttp import web
from pydantic import Field

from agent_session.gateway.metrics import CONTENT_TYPE
from agent_session.gateway.route import Answer, Call, Route, Tolerant
from agent_session.gateway.state import Gateway
from agent_session.telemetry.listen import exposition


class Health(Tolerant):
    status: Literal["ok"] = "ok"


class Readiness(Tolerant):
    status: Literal["ok", "unavailable"]
    temporal: bool = Field(description="Temporal answers.")
    volume: bool | None = Field(description="The data volume is there and can be written.", default=None)
    worker: bool | None = Field(description="A worker polls, or did in the last minute.", default=None)


class What(Tolerant):
    whom: Literal["gateway"] | None = Field(
        alias="for",
        default=None,
        description="`gateway`: only whether this process reaches Temporal, so that it takes messages and answers "
        "questions while no worker polls and the volume is away.",
    )


async def healthz(gateway: Gateway, call: Call) -> web.StreamResponse:
    return web.json_response(Health().model_dump())


async def readyz(gateway: Gateway, call: Call) -> web.StreamResponse:
    if call.query.whom == "gateway":
        good = await gateway.probe.connected()
        told = {"temporal": good}
    else:
        found = await gateway.probe.found()
        good = found.ready
        told = {"temporal": found.temporal, "volume": found.volume, "worker": found.worker}
    answer = Readiness(status="ok" if good else "unavailable", **told)
    return web.json_response(answer.model_dump(exclude_none=True), status=200 if good else 503)


async def metrics(gateway: Gateway, call: Call) -> web.StreamResponse:
    return web.Response(body=gateway.metrics.text() + exposition(), headers={"Content-Type": CONTENT_TYPE})


ROUTES = (
    Route(
        method="GET",
        path="/healthz",
        handler=healthz,
        summary="The process lives",
        tag="health",
        answers={200: Answer(about="It does", body=Health)},
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=readyz,
        summary="Whether messages can be taken and answered",
        tag="health",
        query=What,
        answers={
            200: Answer(about="They can", body=Readiness),
            503: Answer(about="They cannot, and why; with for=gateway, they cannot be taken", body=Readiness),
        },
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=metrics,
        summary="Counts and times, for Prometheus",
        tag="health",
        answers={200: Answer(about="Prometheus' text format", content="text/plain")},
    ),
)
