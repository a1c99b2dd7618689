"""What OpenAI's clients send: the bodies of both endpoints, the new message in them, and what is refused.

Pure. What would change the meaning of an answer is refused by name; what only tunes a model is ignored.
"""

import base64
import binascii
import hashlib
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import Field

from agent_session.gateway.errors import Problem
from agent_session.gateway.route import Tolerant

Content = str | list[dict[str, Any]] | None
DATA_URL = re.compile(r"data:([\w.+-]{1,60}/[\w.+-]{1,60})?((?:;[\w.+-]+=[^;,]*)*);base64,", re.ASCII)
OWN_TOOLS = "the session has tools of its own, which the service runs"
ONE_TEXT = "the answer is one plain text"
#: field → values that ask for nothing, and why any other is refused
REFUSED_OF_CHAT: dict[str, tuple[tuple[Any, ...], str]] = {
    "n": ((1,), "a session gives one answer"),
    "tools": (([],), OWN_TOOLS),
    "tool_choice": (("none", "auto"), OWN_TOOLS),
    "functions": (([],), OWN_TOOLS),
    "function_call": (("none", "auto"), OWN_TOOLS),
    "web_search_options": ((), OWN_TOOLS),
    "response_format": (({"type": "text"},), ONE_TEXT),
    "modalities": ((["text"],), ONE_TEXT),
    "audio": ((), ONE_TEXT),
    "stop": (([], ""), "an answer is never cut"),
    "logprobs": ((False,), "a session knows no probabilities"),
    "top_logprobs": ((0,), "a session knows no probabilities"),
}
REFUSED_OF_RESPONSES: dict[str, tuple[tuple[Any, ...], str]] = {
    "tools": (([],), OWN_TOOLS),
    "tool_choice": (("none", "auto"), OWN_TOOLS),
    "text_format": (({"type": "text"},), ONE_TEXT),
    "background": ((False,), "an answer that takes long is waited for: ask again with the same Idempotency-Key"),
    "conversation": ((), "name a session with X-Session-Key or previous_response_id"),
    "prompt": ((), "send the text itself as input"),
    "top_logprobs": ((0,), "a session knows no probabilities"),
}
NAMES = {"text_format": "text.format"}  #: of fields that lie deeper


class ChatMessage(Tolerant):
    role: str
    content: Content = None


class ChatStreamOptions(Tolerant):
    include_usage: bool | None = Field(default=None, description="One more chunk at the end, with `usage`.")


class ChatRequest(Tolerant):
    model: str = Field(default="", description="Any name: the session's own model answers, and the answer names it.")
    messages: list[ChatMessage] = Field(
        min_length=1, description="The last one is said to the session, and must be the user's. Others are ignored."
    )
    user: str | None = Field(default=None, description="The session, unless X-Session-Key names it.")
    stream: bool | None = None
    stream_options: ChatStreamOptions | None = None
    n: Any = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    web_search_options: Any = None
    response_format: Any = None
    modalities: Any = None
    audio: Any = None
    stop: Any = None
    logprobs: Any = None
    top_logprobs: Any = None


class ResponseItem(Tolerant):
    type: str = "message"
    role: str = ""
    content: Content = None


class ResponseText(Tolerant):
    format: Any = None


class ResponseRequest(Tolerant):
    model: str = Field(default="", description="Any name: the session's own model answers, and the answer names it.")
    input: str | list[ResponseItem] = Field(description="A text, or items of which the last is the user's message.")
    previous_response_id: str | None = Field(default=None, description="Goes on with the session of that answer.")
    user: str | None = Field(default=None, description="The session, unless X-Session-Key names it.")
    stream: bool | None = None
    tools: Any = None
    tool_choice: Any = None
    text: ResponseText | None = None
    background: Any = None
    conversation: Any = None
    prompt: Any = None
    top_logprobs: Any = None

    @property
    def text_format(self) -> Any:
        return self.text.format if self.text is not None else None


@dataclass(frozen=True)
class File:
    """One that came in a message."""

    data: bytes
    ref: str  #: sha256 of it
    kind: str  #: media type
    name: str


@dataclass(frozen=True)
class Words:
    """The new message."""

    text: str
    files: tuple[File, ...]
    count: int  #: of the request's messages: where in its conversation the client stands


def refuse_unsupported(body: Tolerant, refused: Mapping[str, tuple[tuple[Any, ...], str]]) -> None:
    """Errors: Problem 400 that names the field."""
    for name, (harmless, why) in refused.items():
        value = getattr(body, name)
        if value is not None and value not in harmless:
            shown = NAMES.get(name, name)
            raise Problem(400, "unsupported_parameter", f"{shown} is not supported: {why}. Leave it out.", shown)


def words_of_chat(body: ChatRequest) -> Words:
    """Errors: Problem 400."""
    refuse_unsupported(body, REFUSED_OF_CHAT)
    last = len(body.messages) - 1
    if body.messages[last].role != "user":
        raise Problem(400, "no_user_message", "the last message must be the user's: it is what is said", "messages")
    return _words(body.messages[last].content, f"messages.{last}.content", len(body.messages))


def words_of_response(body: ResponseRequest) -> Words:
    """Errors: Problem 400."""
    refuse_unsupported(body, REFUSED_OF_RESPONSES)
    if isinstance(body.input, str):
        return _words(body.input, "input", 1)
    last = len(body.input) - 1
    if last < 0 or body.input[last].type != "message" or body.input[last].role != "user":
        raise Problem(400, "no_user_message", "the last item must be a message of the user's: it is what is said",
                      "input")  # fmt: skip
    return _words(body.input[last].content, f"input.{last}.content", len(body.input))


def _words(content: Content, where: str, count: int) -> Words:
    texts: list[str] = []
    files: list[File] = []
    for number, part in enumerate(content if isinstance(content, list) else []):
        found = _part(part, f"{where}.{number}")
        if isinstance(found, str):
            texts.append(found)
        else:
            files.append(found)
    text = content if isinstance(content, str) else "\n".join(texts)
    if not text.strip() and not files:
        raise Problem(400, "empty_message", "the message is empty: give it a text", where)
    return Words(text, tuple(files), count)


def _part(part: Mapping[str, Any], where: str) -> str | File:
    kind = part.get("type")
    if kind in ("text", "input_text") and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind in ("image_url", "input_image"):
        image = part.get("image_url")
        url = cast(Mapping[str, Any], image).get("url") if isinstance(image, Mapping) else image
        return _file(url, "", where)
    if kind in ("file", "input_file"):
        given = part.get("file") if kind == "file" else part
        about: Mapping[str, Any] = cast(Mapping[str, Any], given) if isinstance(given, Mapping) else {}
        return _file(about.get("file_data"), str(about.get("filename") or ""), where)
    raise Problem(400, "unsupported_part", f"{where}: a part is a text, or an image or a file as a data: URL", where)


def _file(url: object, name: str, where: str) -> File:
    found = DATA_URL.match(url) if isinstance(url, str) else None
    if found is None or not isinstance(url, str):
        message = f"{where}: send the file itself, as 'data:<media type>;base64,…'; nothing is fetched"
        raise Problem(400, "unsupported_part", message, where)
    try:
        data = base64.b64decode(url[found.end() :], validate=True)
    except binascii.Error:
        raise Problem(400, "bad_base64", f"{where}: what stands behind 'base64,' is no base64", where) from None
    kind = found[1] or "application/octet-stream"
    ref = hashlib.sha256(data).hexdigest()
    return File(data, ref, kind, name or f"{kind.partition('/')[0]}{mimetypes.guess_extension(kind) or ''}")
