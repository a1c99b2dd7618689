"""Every provider of pydantic-ai behind the engine's protocol: its direct API, streamed.

The provider's client does not retry by itself (Temporal does), so one attempt is one request. Tool
call ids are ours on the way out; the provider's own are kept in the answer's parts.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from agent_session.domain.ids import call_id
from agent_session.models.base import Line, Model, ModelAnswer, ModelFault, Prompt, RequestedCall
from agent_session.models.faults import fault_of
from agent_session.settings import Settings

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolCallPart
    from pydantic_ai.models import Model as ProviderModel

PREFIXES = ("*",)  #: whatever no other file of this folder claims


class ProviderBackedModel:
    """One pydantic-ai model, shared by all sessions of the worker."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self._settings = settings.model
        self._model = _build(name, settings)

    async def warm(self) -> None:
        importlib.import_module("pydantic_ai.direct")  # the first import costs about 100 ms

    async def answer(self, prompt: Prompt, on_text: Callable[[str], None]) -> ModelAnswer:
        from pydantic_ai.direct import model_request_stream
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.settings import ModelSettings
        from pydantic_ai.tools import ToolDefinition

        tools = [
            ToolDefinition(name=tool.name, description=tool.description, parameters_json_schema=tool.schema)
            for tool in prompt.tools
        ]
        try:
            async with model_request_stream(
                self._model,
                _messages(prompt, self.name),
                model_settings=ModelSettings(
                    max_tokens=self._settings.max_output_tokens, timeout=float(self._settings.timeout_s)
                ),
                model_request_parameters=ModelRequestParameters(function_tools=tools),
            ) as stream:
                async for event in stream:
                    if text := _text_of(event):
                        on_text(text)
                response = stream.get()
        except Exception as error:
            raise fault_of(error, self.name) from error
        return _answer(response, self.name)


def create(name: str, settings: Settings) -> Model:
    """Errors: ModelFault (model_setup)."""
    return ProviderBackedModel(name, settings)


def _build(name: str, settings: Settings) -> ProviderModel:
    try:
        from pydantic_ai.models import infer_model
        from pydantic_ai.providers import infer_provider_class

        def provider(kind: str) -> Any:
            kwargs: dict[str, Any] = {}
            if settings.model.base_url:
                kwargs["base_url"] = settings.model.base_url
            return _without_retries(infer_provider_class(kind)(**kwargs))

        return infer_model(name, provider)
    except ImportError as error:
        extra = name.partition(":")[0]
        raise ModelFault(
            "model_setup",
            f"model.name {name!r} needs a package that is not installed: "
            f'pip install "pydantic-ai-slim[{extra}]" ({error})',
            transient=False,
        ) from error
    except Exception as error:
        advice = str(error).split(" or ")[0]  # the rest is advice for programmers of that library
        raise ModelFault("model_setup", f"model.name {name!r} cannot be used: {advice}", transient=False) from error


def _without_retries(provider: Any) -> Any:
    client = getattr(provider, "client", None)
    if hasattr(client, "max_retries"):
        cast(Any, client).max_retries = 0
    return provider


def _text_of(event: Any) -> str:
    from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta

    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return ""


def _answer(response: ModelResponse, name: str) -> ModelAnswer:
    from pydantic_ai.messages import ModelMessagesTypeAdapter, TextPart, ToolCallPart

    calls = [
        RequestedCall(part.tool_name, _args_of(part), part.tool_call_id)
        for part in response.parts
        if isinstance(part, ToolCallPart)
    ]
    text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
    if not calls and not text.strip():
        raise ModelFault("bad_answer", f"{name} answered with nothing", transient=True)
    dumped = cast(list[Any], ModelMessagesTypeAdapter.dump_python([response], mode="json"))
    usage = response.usage
    return ModelAnswer(text, calls, usage.input_tokens, usage.output_tokens, dumped[0]["parts"], name)


def _args_of(part: ToolCallPart) -> str:
    """The arguments as the model wrote them, also where they do not parse: our tools say what is wrong."""
    return part.args if isinstance(part.args, str) else part.args_as_json_str()


def _messages(prompt: Prompt, name: str) -> list[ModelMessage]:
    """Transcript lines as the provider's conversation: requests and responses in turn."""
    from pydantic_ai.messages import ModelRequest, ModelResponse, ToolReturnPart, UserPromptPart

    messages: list[ModelMessage] = []

    def request() -> ModelRequest:
        if not messages or isinstance(messages[-1], ModelResponse):
            messages.append(ModelRequest(parts=[]))
        return cast("ModelRequest", messages[-1])

    def add(part: Any) -> None:
        cast(list[Any], request().parts).append(part)

    tools: dict[str, str] = {}
    for line in prompt.lines:
        role = line.get("role")
        if role == "user":
            add(UserPromptPart(content=str(line.get("content", ""))))
        elif role == "assistant":
            for call in cast(list[Line], line.get("tool_calls") or []):
                tools[call["id"]] = call["name"]
            if response := _response(line, name):
                messages.append(response)
        elif role == "tool":
            call = str(line.get("call"))
            add(ToolReturnPart(tools.get(call, "tool"), str(line.get("content", "")), call))
        elif line.get("event") == "ended" and line.get("outcome") != "answered":
            add(UserPromptPart(content=f"[The turn above ended {line.get('outcome')}.]"))
        elif line.get("event") == "gap":
            add(UserPromptPart(content=f"[Lines {line.get('from')} to {line.get('to')} of this talk were lost.]"))
    if prompt.instructions:
        request().instructions = prompt.instructions
    return messages


def _response(line: Line, name: str) -> ModelResponse | None:
    from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelResponse, TextPart, ToolCallPart

    calls: list[Line] = line.get("tool_calls") or []
    if line.get("parts") and line.get("parts_of") == name:
        parts = [dict(part) for part in cast(list[Line], line["parts"])]
        renamed = iter(calls)
        for part in parts:
            if part.get("part_kind") == "tool-call":
                part["tool_call_id"] = next(renamed)["id"]
        (message,) = ModelMessagesTypeAdapter.validate_python([{"kind": "response", "parts": parts}])
        return cast("ModelResponse", message)
    built: list[Any] = [TextPart(content=line["content"])] if line.get("content") else []
    for index, call in enumerate(calls):
        name_of = call.get("id") or call_id(str(line.get("turn")), int(line.get("step", 0)), index)
        built.append(ToolCallPart(tool_name=call["name"], args=call.get("args") or "{}", tool_call_id=name_of))
    return ModelResponse(parts=built) if built else None
