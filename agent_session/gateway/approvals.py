"""Calls that wait for a person, and decisions on them. A decision is bound to what would run (`digest`): what
changed meanwhile is not run."""

import asyncio
from typing import Literal

from aiohttp import web
from pydantic import Field

from agent_session.gateway.access import APPROVE, READ
from agent_session.gateway.errors import Problem
from agent_session.gateway.route import Answer, Call, Route, Strict, Tolerant
from agent_session.gateway.state import Gateway


class Waiting(Tolerant):
    call: str
    tool: str
    args: str = Field(description="The call's arguments, as JSON text.")
    digest: str = Field(description="What a decision is bound to.")
    why: str = Field(description="Why it asks.")
    pattern: str = Field(description="That could be allowed for the session; empty when there is none.")


class WaitingAnswer(Tolerant):
    approvals: list[Waiting]


class Decision(Strict):
    decision: Literal["allow", "deny"]
    digest: str = Field(description="As the list of approvals shows it.", min_length=1, max_length=128)
    reason: str = Field(default="", description="For the model to read.", max_length=10_000)
    pattern: str = Field(default="", description="With allow: also calls like it, for the session.", max_length=1_000)


class DecisionAnswer(Tolerant):
    call: str
    decision: str


async def waiting(gateway: Gateway, call: Call) -> web.StreamResponse:
    found = WaitingAnswer(approvals=[Waiting.model_validate(one) for one in await _waiting(call)])
    return web.json_response(found.model_dump())


async def decide(gateway: Gateway, call: Call) -> web.StreamResponse:
    body: Decision = call.body
    name = call.request.match_info["call"]
    if body.pattern and body.decision != "allow":
        raise Problem(400, "invalid_field", "pattern: only a call that is allowed can allow others", "pattern")
    found = next((one for one in await _waiting(call) if one["call"] == name), None)
    if found is None:
        raise Problem(409, "not_waiting", "this call does not wait for a person, or no longer", "call")
    if found["digest"] != body.digest:
        raise Problem(409, "changed", "what would run has changed: look at it again", "digest")
    await call.client.resolve(call.key, name, body.digest, body.decision, body.reason, pattern=body.pattern)
    return web.json_response(DecisionAnswer(call=name, decision=body.decision).model_dump())


async def _waiting(call: Call) -> list[dict[str, str]]:
    """Errors: NoSuchSession, VolumeUnavailable; Problem where no worker can say what waits."""
    status = await call.status_by_a_worker()
    return await asyncio.to_thread(call.client.waiting_calls, call.key, status)


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/sessions/{key}/approvals",
        handler=waiting,
        summary="Calls that wait for a person",
        scope=READ,
        tag="approvals",
        answers={200: Answer(about="Each with what it would do", body=WaitingAnswer)},
        problems=(404,),
    ),
    Route(
        method="POST",
        path="/v1/sessions/{key}/approvals/{call}",
        handler=decide,
        summary="Allow or deny a call that waits",
        scope=APPROVE,
        tag="approvals",
        body=Decision,
        answers={200: Answer(about="The decision is on its way to the session", body=DecisionAnswer)},
        problems=(404, 409),
    ),
)
