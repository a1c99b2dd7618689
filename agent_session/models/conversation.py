"""Transcript lines as a provider's conversation: requests and responses in turn.

Tool call ids are ours on the way out; the provider's own parts go back only to the model that made them.
Must not read the volume: pictures come with the prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from agent_session.domain.ids import call_id
from agent_session.models.base import Line, Prompt

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse


def messages_of(prompt: Prompt, name: str, *, sees: bool = True) -> list[ModelMessage]:
    """The conversation for the model `name`; `sees`: whether it takes pictures."""
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
            add(UserPromptPart(content=_words_and_pictures(line, prompt) if sees else str(line.get("content", ""))))
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


def _words_and_pictures(line: Line, prompt: Prompt) -> Any:
    """A person's words, followed by the pictures that they sent and that the prompt holds."""
    from pydantic_ai.messages import BinaryContent

    words = str(line.get("content", ""))
    attachments = cast(list[Line], line.get("attachments") or [])
    pictures = [prompt.images[ref] for one in attachments if (ref := str(one.get("ref"))) in prompt.images]
    if not pictures:
        return words
    return [words, *(BinaryContent(one.data, media_type=one.media_type) for one in pictures)]


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
