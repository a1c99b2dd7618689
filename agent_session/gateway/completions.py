"""OpenAI's chat completions and models, in front of sessions. Which fields count: docs/openai.md."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from aiohttp import web
from pydantic import Field

from agent_session.gateway.access import READ, SEND
from agent_session.gateway.errors import Problem
from agent_session.gateway.openai_answers import Sent, answer_with
from agent_session.gateway.openai_bodies import ChatRequest, words_of_chat
from agent_session.gateway.openai_names import place_of
from agent_session.gateway.openai_turn import UNKNOWN_MODEL, Answer, Spent
from agent_session.gateway.route import Answer as Documented
from agent_session.gateway.route import Call, Route, Tolerant
from agent_session.gateway.state import Gateway
from agent_session.models import model_name


class ChatAnswer(Tolerant):
    """OpenAI's `chat.completion`."""

    id: str
    object: str
    created: int
    model: str = Field(description="The model that answered.")
    choices: list[dict[str, Any]] = Field(description="One.")
    usage: dict[str, Any] = Field(description="Of the whole turn.")


class ModelList(Tolerant):
    object: str
    data: list[dict[str, Any]]


class ChatShape:
    """`chat.completion`, and its chunks."""

    last = b"data: [DONE]\n\n"

    def __init__(self, scoped: str, *, with_usage: bool) -> None:
        self._about = {"id": f"chatcmpl-{scoped}", "created": int(time.time())}
        self._with_usage = with_usage

    def whole(self, answer: Answer) -> dict[str, Any]:
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        kind = {"object": "chat.completion", "model": answer.spent.model}
        return {**self._about, **kind, "choices": [choice], "usage": usage_of(answer.spent)}

    def opening(self) -> Iterable[Sent]:
        yield self._chunk({"role": "assistant", "content": ""})

    def piece(self, text: str) -> Iterable[Sent]:
        yield self._chunk({"content": text})

    def closing(self, answer: Answer) -> Iterable[Sent]:
        yield self._chunk({}, finish="stop", model=answer.spent.model)
        if self._with_usage:
            kind = {"object": "chat.completion.chunk", "model": answer.spent.model}
            yield "", {**self._about, **kind, "choices": [], "usage": usage_of(answer.spent)}

    def failed(self, problem: Problem, request_id: str) -> Iterable[Sent]:
        yield "", problem.body(request_id)

    def _chunk(self, delta: dict[str, str], finish: str | None = None, model: str = UNKNOWN_MODEL) -> Sent:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = {**self._about, "object": "chat.completion.chunk", "model": model, "choices": [choice]}
        return "", chunk | ({"usage": None} if self._with_usage else {})


def usage_of(spent: Spent) -> dict[str, Any]:
    return {
        "prompt_tokens": spent.input_tokens,
        "completion_tokens": spent.output_tokens,
        "total_tokens": spent.input_tokens + spent.output_tokens,
        "prompt_tokens_details": {"cached_tokens": spent.cached_tokens},
    }


async def chat(gateway: Gateway, call: Call) -> web.StreamResponse:
    body: ChatRequest = call.body
    words = await asyncio.to_thread(words_of_chat, body)  # files may be large
    place = await place_of(gateway, call, body.user, words)
    options = body.stream_options
    shape = ChatShape(place.scoped, with_usage=bool(options and options.include_usage))
    return await answer_with(shape, gateway, call, place, words, stream=bool(body.stream))


async def models(gateway: Gateway, call: Call) -> web.StreamResponse:
    names = dict.fromkeys((UNKNOWN_MODEL, model_name(gateway.settings)))
    found = [{"id": name, "object": "model", "created": 0, "owned_by": "agent-session"} for name in names]
    return web.json_response({"object": "list", "data": found})


HEADERS = {
    "X-Session-Key": "The session. Without it, and without `user`, the message gets a session of its own.",
    "Idempotency-Key": "The message's id. The same one again is the same message.",
}
ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/chat/completions",
        handler=chat,
        summary="OpenAI's chat completions: the last message is said to a session",
        scope=SEND,
        tag="openai",
        body=ChatRequest,
        headers=HEADERS,
        answers={200: Documented(about="The reply; with `stream`, chunks as server-sent events", body=ChatAnswer)},
        problems=(409, 422, 502, 504),
    ),
    Route(
        method="GET",
        path="/v1/models",
        handler=models,
        summary="The models that may be named",
        scope=READ,
        tag="openai",
        answers={200: Documented(about="OpenAI's list of models", body=ModelList)},
    ),
)
