"""What the engine asks of a language model: one prompt in, one answer out, streamed on the way.

A model knows nothing of Temporal or the transcript's file; it gets lines and gives an answer. Faults
are `ModelFault`s with a class word of `domain.failures`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Line = dict[str, Any]


@dataclass(frozen=True)
class ToolSpec:
    """A tool as the model sees it."""

    name: str
    description: str
    schema: dict[str, Any]


def _say_nothing(text: str) -> None:
    return


@dataclass(frozen=True)
class Image:
    """A picture that a person sent."""

    media_type: str
    data: bytes = field(repr=False)


def image_type(data: bytes) -> str:
    """The media type of a picture that models take, by its first bytes; empty for anything else. What a
    sender claims is no guide: a provider refuses a picture whose type is not what it says."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "image/png"
    if data[:3] == b"\xff\xd8\xff":
        return "image/jpeg"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


@dataclass(frozen=True)
class Prompt:
    """All that a model call needs. `lines` are transcript lines, oldest first; `tools` is empty at the
    last step that a turn may take."""

    instructions: str
    lines: list[Line]
    tools: list[ToolSpec]
    session: str
    turn: str
    n: int
    step: int
    model: str = ""  #: chosen by a person for this session; empty: the configured one
    images: Mapping[str, Image] = field(default_factory=lambda: dict[str, Image]())  #: by an attachment's `ref`
    on_wait: Callable[[str], None] = field(default=_say_nothing, compare=False, repr=False)
    #: gets a sentence for watchers when the request must wait before it is sent


@dataclass(frozen=True)
class RequestedCall:
    """A tool call as the model made it; `args` is JSON text, which may not parse."""

    name: str
    args: str
    provider_id: str = ""


@dataclass(frozen=True)
class ModelAnswer:
    text: str
    calls: list[RequestedCall] = field(default_factory=lambda: list[RequestedCall]())
    input_tokens: int = 0
    output_tokens: int = 0
    parts: list[Any] | None = None  #: the provider's own pieces, sent back only to `parts_of`
    parts_of: str = ""
    cached_tokens: int = 0  #: of the input tokens, those that the provider read from its cache
    cost_microusd: int = 0  #: millionths of a US dollar, by genai-prices; 0 when the price is not known
    finish: str = ""  #: why it ended, in OpenTelemetry's words (stop, length, tool_call, …); empty: not said


class ModelFault(Exception):
    """A model call that failed. `kind` is a class word of `domain.failures.ADVICE`; `retry_after_s` is
    what the provider asked for (0: it said nothing)."""

    def __init__(self, kind: str, message: str, *, transient: bool, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.kind, self.transient, self.retry_after_s = kind, transient, retry_after_s


class Model(Protocol):
    """A language model. One object serves many sessions at once."""

    name: str

    async def answer(self, prompt: Prompt, on_text: Callable[[str], None]) -> ModelAnswer:
        """Ask once. `on_text` gets the answer's words as they come. Errors: ModelFault."""
        ...

    async def warm(self) -> None:
        """Do what makes the first call slow (imports, connections); never fails."""
        ...
