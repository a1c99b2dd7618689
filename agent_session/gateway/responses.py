"""OpenAI's responses, in their basic form: text in, text out, and going on with an earlier one. Which fields count:
docs/openai.md."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from aiohttp import web
from pydantic import Field

from agent_session.gateway.access import SEND
from agent_session.gateway.completions import HEADERS
from agent_session.gateway.errors import Problem
from agent_session.gateway.openai_answers import Sent, answer_with
from agent_session.gateway.openai_bodies import ResponseRequest, words_of_response
from agent_session.gateway.openai_names import place_in, place_of
from agent_session.gateway.openai_turn import UNKNOWN_MODEL, Answer, Spent
from agent_session.gateway.response_ids import response_id, session_of
from agent_session.gateway.route import Answer as Documented
from agent_session.gateway.route import Call, Route, Tolerant
from agent_session.gateway.state import Gateway


class ResponseAnswer(Tolerant):
    """OpenAI's `response`."""

    id: str = Field(description="Of use to this token alone, as `previous_response_id`.")
    object: str
    created_at: int
    status: str
    model: str = Field(description="The model that answered.")
    output: list[dict[str, Any]] = Field(description="One message.")
    usage: dict[str, Any] = Field(description="Of the whole turn.")


class ResponseShape:
    """`response`, and the events of its stream."""

    last = b""

    def __init__(self, id: str, scoped: str, previous: str | None) -> None:
        self._id, self._item, self._previous = id, f"msg_{scoped}", previous
        self._created = int(time.time())
        self._number = 0
        self._text = ""

    def whole(self, answer: Answer) -> dict[str, Any]:
        return self._response("completed", self._message("completed", answer.text), answer.spent)

    def opening(self) -> Iterable[Sent]:
        yield self._event("response.created", response=self._response("in_progress"))
        yield self._event("response.in_progress", response=self._response("in_progress"))
        begun: dict[str, Any] = {**self._message("in_progress", ""), "content": []}
        yield self._event("response.output_item.added", output_index=0, item=begun)
        yield self._part_event("response.content_part.added", part=_part(""))

    def piece(self, text: str) -> Iterable[Sent]:
        self._text += text
        yield self._part_event("response.output_text.delta", delta=text, logprobs=[])

    def closing(self, answer: Answer) -> Iterable[Sent]:
        message = self._message("completed", self._text)
        yield self._part_event("response.output_text.done", text=self._text, logprobs=[])
        yield self._part_event("response.content_part.done", part=_part(self._text))
        yield self._event("response.output_item.done", output_index=0, item=message)
        yield self._event("response.completed", response=self._response("completed", message, answer.spent))

    def failed(self, problem: Problem, request_id: str) -> Iterable[Sent]:
        response = self._response("failed", self._message("incomplete", self._text) if self._text else None)
        error = {"code": problem.code, "message": f"{problem.message} (request {request_id})"}
        yield self._event("response.failed", response={**response, "error": error})

    def _message(self, status: str, text: str) -> dict[str, Any]:
        about = {"id": self._item, "type": "message", "role": "assistant", "status": status}
        return {**about, "content": [_part(text)]}

    def _response(
        self, status: str, message: dict[str, Any] | None = None, spent: Spent | None = None
    ) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": spent.model if spent else UNKNOWN_MODEL,
            "output": [message] if message else [],
            "parallel_tool_calls": True,
            "previous_response_id": self._previous,
            "store": True,
            "temperature": None,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "truncation": "disabled",
            "usage": _usage_of(spent) if spent else None,
        }

    def _part_event(self, kind: str, **data: Any) -> Sent:
        return self._event(kind, item_id=self._item, output_index=0, content_index=0, **data)

    def _event(self, kind: str, **data: Any) -> Sent:
        number, self._number = self._number, self._number + 1
        return kind, {"type": kind, "sequence_number": number, **data}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage_of(spent: Spent) -> dict[str, Any]:
    return {
        "input_tokens": spent.input_tokens,
        "input_tokens_details": {"cached_tokens": spent.cached_tokens},
        "output_tokens": spent.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": spent.input_tokens + spent.output_tokens,
    }


async def respond(gateway: Gateway, call: Call) -> web.StreamResponse:
    body: ResponseRequest = call.body
    words = await asyncio.to_thread(words_of_response, body)  # files may be large
    previous = body.previous_response_id
    if previous:
        place = await place_in(gateway, call, session_of(gateway, call, previous), words, previous)
    else:
        place = await place_of(gateway, call, body.user, words)
    shape = ResponseShape(response_id(gateway, call, place), place.scoped, previous)
    return await answer_with(shape, gateway, call, place, words, stream=bool(body.stream))


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/responses",
        handler=respond,
        summary="OpenAI's responses: text in, text out, on with an earlier one",
        scope=SEND,
        tag="openai",
        body=ResponseRequest,
        headers=HEADERS,
        answers={200: Documented(about="The response; with `stream`, server-sent events", body=ResponseAnswer)},
        problems=(404, 409, 422, 502, 504),
    ),
)
