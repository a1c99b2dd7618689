"""Sessions over HTTP: say something, look, cancel, close."""

import asyncio
from dataclasses import asdict, dataclass
from typing import Literal
from urllib.parse import quote

from aiohttp import web
from pydantic import Field, RootModel

from agent_session.client_types import Receipt, Reply, ReplyPending
from agent_session.domain.failures import ADVICE
from agent_session.domain.ids import message_id, scoped_id, workflow_id
from agent_session.domain.limits import SPOOL_BYTES
from agent_session.domain.replies import FAILED
from agent_session.domain.status import Status
from agent_session.gateway import history, listing
from agent_session.gateway.access import READ, SEND
from agent_session.gateway.errors import Problem
from agent_session.gateway.files import stored_attachments
from agent_session.gateway.idempotency import refuse_another
from agent_session.gateway.route import Answer, Call, Route, Strict, Tolerant
from agent_session.gateway.state import CHANNEL, Gateway

LONGEST_WAIT_S = 600
LEAST_WAIT_S = 0.5  #: an answer that is there is found in it
BUSY_S = 5  #: how long a session that takes no messages is tried
FULL_RETRY_S = 5


class Message(Strict):
    text: str = Field(description="What to say; may be empty beside attachments. At most 64 MiB.")
    mode: Literal["collect", "followup", "steer", "interrupt"] = Field(
        default="collect", description="What to do while a turn runs: join the next one, wait, join it, stop it."
    )
    attachments: list[str] = Field(default=[], max_length=16, description="As POST …/attachments named them.")
    sender: str = Field(default="", description="A name to show; it gives no rights.", max_length=200)


class Wait(Strict):
    wait: float = Field(default=0, ge=0, le=LONGEST_WAIT_S, description="Seconds to hold for the reply.")


class MessageAnswer(Tolerant):
    session: str
    id: str = Field(description="The message's id: send again with it, and it is the same message.")
    status: Literal["accepted", "answered", "interrupted", "cancelled", "failed"]
    text: str = Field(default="", description="The reply, or why there is none.")
    turn: str = ""
    n: int = Field(default=0, description="The turn's number.")
    error_id: str = Field(default="", description="Of a failure: `agent-session logs --id` finds it.")


@dataclass(frozen=True, kw_only=True)
class ShownStatus(Status):
    temporal_url: str = ""  #: of the workflow in Temporal's web UI, where its address is configured


class StatusAnswer(RootModel[ShownStatus]):
    """All times are seconds since the epoch, 0 for never."""


class Cancel(Strict):
    turn: str = Field(default="", max_length=64, description="Only this turn; empty: whichever runs.")


class CancelAnswer(Tolerant):
    turn: str = Field(description="The turn that is being cancelled; empty when none ran.")


class CloseAnswer(Tolerant):
    session: str


async def send(gateway: Gateway, call: Call) -> web.StreamResponse:
    body: Message = call.body
    id = call.header("Idempotency-Key")
    attachments = await stored_attachments(gateway, call.key, body.attachments)
    _refuse_empty_or_large(body)
    if id:
        scoped = scoped_id(CHANNEL, call.access.principal, message_id(id))
        await refuse_another(gateway.recent, gateway.volume, call.key, scoped, body.text, attachments)
    receipt = await call.client.send(
        call.key, body.text, id=id, mode=body.mode, sender=body.sender, attachments=attachments, timeout_s=BUSY_S
    )
    wait: Wait = call.query
    if not wait.wait:
        return _accepted(receipt)
    reply = await _reply(gateway, call, receipt, wait.wait)
    if reply is None:
        return _accepted(receipt)
    if full := queue_full(reply):
        raise full
    return web.json_response(_answer(receipt, reply).model_dump())


async def reply(gateway: Gateway, call: Call) -> web.StreamResponse:
    """Asking costs the session nothing: the answer is read from its transcript."""
    receipt = Receipt(call.key, message_id(call.request.match_info["id"]), "")
    found = await _reply(gateway, call, receipt, max(call.query.wait, LEAST_WAIT_S))
    return _accepted(receipt) if found is None else web.json_response(_answer(receipt, found).model_dump())


async def _reply(gateway: Gateway, call: Call, receipt: Receipt, wait_s: float) -> Reply | None:
    """None when it has not come in time, or the gateway stops: who waits is told, not cut off."""
    asking = asyncio.create_task(call.client.await_reply(call.key, receipt.id, timeout_s=wait_s))
    stopping = asyncio.create_task(gateway.stopping.wait())
    try:
        await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return asking.result() if asking.done() else None
    except ReplyPending:
        return None
    finally:
        asking.cancel()
        stopping.cancel()


def queue_full(reply: Reply) -> Problem | None:
    """Set when the message was not taken: it can be sent again with the same id."""
    if reply.outcome != FAILED or ADVICE["queue_full"] not in reply.text:
        return None
    return Problem(429, "queue_full", reply.text, headers={"Retry-After": str(FULL_RETRY_S)})


def _refuse_empty_or_large(body: Message) -> None:
    if not body.text.strip() and not body.attachments:
        raise Problem(400, "invalid_field", "text: the message is empty", "text")
    if len(body.text) * 4 > SPOOL_BYTES and len(body.text.encode("utf-8", "replace")) > SPOOL_BYTES:
        raise Problem(413, "too_large", f"the text is too large: the limit is {SPOOL_BYTES} bytes", "text")


def _accepted(receipt: Receipt) -> web.Response:
    answer = MessageAnswer(session=receipt.session, id=receipt.id, status="accepted")
    return web.json_response(answer.model_dump(), status=202)


def _answer(receipt: Receipt, reply: Reply) -> MessageAnswer:
    given = {"session": receipt.session, "id": receipt.id, "status": reply.outcome, "text": reply.text}
    return MessageAnswer.model_validate({**given, "turn": reply.turn, "n": reply.n, "error_id": reply.error_id})


async def status(gateway: Gateway, call: Call) -> web.StreamResponse:
    found = await call.client.status(call.key)
    url = temporal_url(gateway.settings.temporal.ui_url, gateway.temporal.namespace, call.key)
    return web.json_response({**asdict(found), "temporal_url": url})


def temporal_url(ui: str, namespace: str, key: str) -> str:
    """Where Temporal's web UI shows a session's workflow; `/<run id>/history` behind it is one run."""
    if not ui:
        return ""
    return f"{ui.rstrip('/')}/namespaces/{quote(namespace, safe='')}/workflows/{quote(workflow_id(key), safe='')}"


async def cancel(gateway: Gateway, call: Call) -> web.StreamResponse:
    turn: str = call.body.turn
    if not turn:
        turn = (await call.status_by_a_worker()).turn
    if turn:
        await call.client.cancel(call.key, turn)
    return web.json_response(CancelAnswer(turn=turn).model_dump())


async def close(gateway: Gateway, call: Call) -> web.StreamResponse:
    await call.client.close(call.key)
    return web.json_response(CloseAnswer(session=call.key).model_dump(), status=202)


ROUTES = (
    Route(
        method="GET",
        path="/v1/sessions/{key}/messages/{id}",
        handler=reply,
        summary="The reply to a message that this token sent, by its id",
        scope=SEND,
        query=Wait,
        answers={
            200: Answer(about="The reply", body=MessageAnswer),
            202: Answer(about="Still being worked on", body=MessageAnswer),
        },
        problems=(404,),
    ),
    Route(
        method="POST",
        path="/v1/sessions/{key}/messages",
        handler=send,
        summary="Say something to a session, which begins to live if it does not yet",
        scope=SEND,
        body=Message,
        query=Wait,
        headers={"Idempotency-Key": "The message's id, 1 to 256 characters. The same one again is the same message."},
        answers={
            200: Answer(about="The reply", body=MessageAnswer),
            202: Answer(about="Accepted: it will be answered, whatever dies meanwhile", body=MessageAnswer),
        },
        problems=(404, 422),
    ),
    *listing.ROUTES,
    Route(
        method="GET",
        path="/v1/sessions/{key}",
        handler=status,
        summary="What a session is doing",
        scope=READ,
        answers={200: Answer(about="Its status", body=StatusAnswer)},
        problems=(404,),
    ),
    *history.ROUTES,
    Route(
        method="POST",
        path="/v1/sessions/{key}/cancel",
        handler=cancel,
        summary="Cancel the running turn",
        scope=SEND,
        body=Cancel,
        answers={200: Answer(about="What is being cancelled", body=CancelAnswer)},
        problems=(404,),
    ),
    Route(
        method="POST",
        path="/v1/sessions/{key}/close",
        handler=close,
        summary="End a session once nothing is open; its transcript stays",
        scope=SEND,
        answers={202: Answer(about="It ends once nothing is open", body=CloseAnswer)},
        problems=(404,),
    ),
)
