"""Every provider of pydantic-ai behind the engine's protocol: its direct API, streamed.

The provider's client does not retry by itself (Temporal does), so one attempt is one request. Requests
pass the worker's limiter first. Tool call ids are ours on the way out; the provider's own are kept in the
answer's parts. Must not read the volume or know of Temporal.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import orjson

from agent_session.models.base import Model, ModelAnswer, ModelFault, Prompt, RequestedCall
from agent_session.models.build import address_of, build_model, provider_of
from agent_session.models.conversation import messages_of
from agent_session.models.faults import fault_of
from agent_session.models.limiter import LONGEST_WAIT_S, Entry, Limiter, TooLong, limiter_of
from agent_session.models.prices import cost_microusd, is_own_server
from agent_session.settings import Settings

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelResponse, ToolCallPart
    from pydantic_ai.settings import ModelSettings

PREFIXES = ("*",)  #: whatever no other file of this folder claims
CACHE_KEYS = {
    **dict.fromkeys(("openai", "openai-chat", "openai-responses", "azure"), "openai_prompt_cache_key"),
    "mistral": "mistral_prompt_cache_key",
}  #: requests with the same key reach the same cache of the provider's
CHARS_PER_TOKEN, IMAGE_TOKENS, USUAL_ANSWER_TOKENS = 4, 1_500, 1_000  #: rough; settled with the true usage


class ProviderBackedModel:
    """One pydantic-ai model, shared by all sessions of the worker."""

    def __init__(self, name: str, settings: Settings, limiter: Limiter | None = None) -> None:
        self.name = name
        self._settings = limits = settings.model
        self._model = build_model(name, settings)
        self._provider = provider_of(name)
        self._limiter = limiter or limiter_of(
            self._provider, limits.base_url, limits.requests_per_minute, limits.tokens_per_minute
        )
        self._address = address_of(self._model)
        self._sees = bool(self._model.profile.get("supports_image_input", True))

    async def warm(self) -> None:
        from pydantic_ai.messages import ModelResponse

        importlib.import_module("pydantic_ai.direct")  # the first import costs about 100 ms
        self._cost_of(ModelResponse(parts=[]))  # the first price list likewise costs about 30 ms

    async def answer(self, prompt: Prompt, on_text: Callable[[str], None]) -> ModelAnswer:
        from pydantic_ai.direct import model_request_stream
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.tools import ToolDefinition

        tools = [
            ToolDefinition(name=tool.name, description=tool.description, parameters_json_schema=tool.schema)
            for tool in prompt.tools
        ]
        async with self._admitted(prompt) as entry:
            try:
                async with model_request_stream(
                    self._model,
                    messages_of(prompt, self.name, sees=self._sees),
                    model_settings=self._model_settings(prompt.session),
                    model_request_parameters=ModelRequestParameters(function_tools=tools),
                ) as stream:
                    async for event in stream:
                        if text := _text_of(event):
                            on_text(text)
                    response = stream.get()
            except Exception as error:
                raise fault_of(error, self.name) from error
            if used := response.usage.total_tokens:
                self._limiter.settle(entry, used)
            return self._answer_of(response)

    @asynccontextmanager
    async def _admitted(self, prompt: Prompt) -> AsyncGenerator[Entry]:
        """Wait for the worker's limits; a provider that says "not before" is believed for all sessions."""
        longest = min(LONGEST_WAIT_S, self._settings.timeout_s / 2)  # the wait must leave time for the answer
        try:
            entry = await self._limiter.admit(self._estimate(prompt), prompt.on_wait, longest)
        except TooLong as error:
            raise ModelFault(
                "rate_limit", f"{self.name}: {error}", transient=True, retry_after_s=error.wait_s
            ) from error
        try:
            yield entry
        except ModelFault as fault:
            if fault.kind in ("rate_limit", "overloaded"):
                self._limiter.settle(entry, 0)
                if fault.retry_after_s:
                    self._limiter.pause(fault.retry_after_s)
            raise

    def _estimate(self, prompt: Prompt) -> int:
        if not self._settings.tokens_per_minute:
            return 0
        chars = len(prompt.instructions) + sum(
            len(str(line.get("content", ""))) + len(str(line.get("tool_calls", ""))) for line in prompt.lines
        )
        chars += sum(len(orjson.dumps(tool.schema)) + len(tool.description) for tool in prompt.tools)
        expected = min(self._settings.max_output_tokens, USUAL_ANSWER_TOKENS)
        return chars // CHARS_PER_TOKEN + IMAGE_TOKENS * len(prompt.images) + expected

    def _model_settings(self, session: str) -> ModelSettings:
        """`cache` is pydantic-ai's own: it marks instructions, tools and the talk so far where the provider
        wants marks. A compatible server of somebody else's may refuse a field that it does not know, so the
        cache key goes to known providers only."""
        limits = self._settings
        made: dict[str, Any] = {
            "max_tokens": limits.max_output_tokens,
            "timeout": float(limits.timeout_s),
            "cache": limits.cache,
        }
        if limits.cache and (key := CACHE_KEYS.get(self._provider)) and is_own_server(self._address):
            made[key] = hashlib.sha256(session.encode()).hexdigest()[:32]
        return cast("ModelSettings", made)

    def _answer_of(self, response: ModelResponse) -> ModelAnswer:
        from pydantic_ai.messages import ModelMessagesTypeAdapter, TextPart, ToolCallPart

        calls = [
            RequestedCall(part.tool_name, _args_of(part), part.tool_call_id)
            for part in response.parts
            if isinstance(part, ToolCallPart)
        ]
        text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
        if response.finish_reason == "content_filter" and not calls:
            raise ModelFault("content_filter", f"{self.name}: the answer was stopped", transient=False)
        if not calls and not text.strip():
            raise ModelFault("bad_answer", f"{self.name} answered with nothing", transient=True)
        dumped = cast(list[Any], ModelMessagesTypeAdapter.dump_python([response], mode="json"))
        usage = response.usage
        return ModelAnswer(
            text,
            calls,
            usage.input_tokens,
            usage.output_tokens,
            dumped[0]["parts"],
            self.name,
            usage.cache_read_tokens,
            self._cost_of(response),
            response.finish_reason or "",
        )

    def _cost_of(self, response: ModelResponse) -> int:
        return cost_microusd(response, self._model.model_name, self._address, self._model.system)


def create(name: str, settings: Settings) -> Model:
    """Errors: ModelFault (model_setup)."""
    return ProviderBackedModel(name, settings)


def _text_of(event: Any) -> str:
    from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta

    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return ""


def _args_of(part: ToolCallPart) -> str:
    """The arguments as the model wrote them, also where they do not parse: our tools say what is wrong."""
    return part.args if isinstance(part.args, str) else part.args_as_json_str()
