"""What a tool is: a typed async function, and three words about it.

    @tool(effects="none", timeout_s=30)
    async def read_file(ctx: ToolContext, path: Annotated[str, "Path below the workspace."]) -> str:
        '''Read a text file.'''

The schema that the model sees comes from the signature. `effects` decides what happens after a lost
worker (I4): `none` and `idempotent` tools just run again, one with `side_effects` is reported as
"may or may not have taken effect". A tool raises `ToolError` for what the model can do better.
"""

import inspect
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from agent_session.domain.limits import ARGUMENT_BYTES
from agent_session.domain.schedules import Shown, Wanted
from agent_session.settings import ToolsSettings

Effects = Literal["none", "idempotent", "side_effects"]


class ToolError(Exception):
    """What went wrong, in words that the model can act on. It becomes the call's result."""


class BadTool(Exception):
    """A tool that cannot be offered; the message names it and says why."""


class OwnSchedules(Protocol):
    """The schedules of the session that calls. Errors of all: BadSchedule, whose words the model can act on; any
    other is the service's."""

    def now(self) -> str:
        """Day, time and time zone, as times that name no zone are meant."""
        ...

    async def add(self, wanted: Wanted) -> Shown:
        """The same tool call again makes no second one."""
        ...

    async def listed(self) -> list[Shown]: ...

    async def remove(self, name: str) -> None: ...


@dataclass(frozen=True)
class NamedFile:
    """A file to send: what it is called, and what it holds."""

    name: str
    data: bytes


class Sends(Protocol):
    """A message to an address, once the call has ended well; an empty address: where the turn came from. Errors:
    ToolError."""

    async def __call__(self, address: str, text: str, files: Sequence[NamedFile] = ()) -> None: ...


@dataclass(frozen=True)
class ToolContext:
    """What a tool is given beside its arguments."""

    session: str
    call: str
    workspace: Path  #: open paths in it through `agent_session.paths` only (I11)
    settings: ToolsSettings
    model_name: str
    artifacts: Path  #: results too large for the transcript, one file a call id; to read only
    before_effect: Callable[[], Awaitable[None]]  #: await it right before a side effect; StaleAttempt stops the tool
    send: Sends
    on_output: Callable[[str], None]  #: progress for watchers; never durable
    schedules: OwnSchedules | None = None  #: None: this worker has none


@dataclass(frozen=True)
class Tool:
    """A tool, ready to be offered and called."""

    name: str
    description: str
    schema: dict[str, Any]
    function: Callable[..., Awaitable[str]]
    arguments: type[BaseModel]
    effects: Effects
    timeout_s: int
    parallel: bool
    approval: bool
    grant: str
    available: Callable[[ToolsSettings, str], str]
    asks: "Asks"
    subject: Callable[[dict[str, Any]], str]
    is_command: bool
    to_places: bool

    def parse(self, args: str) -> dict[str, Any]:
        """The arguments as the function takes them. Errors: ToolError that names each bad one."""
        if len(args) > ARGUMENT_BYTES:
            raise ToolError(f"the arguments of {self.name} are larger than {ARGUMENT_BYTES} bytes")
        try:
            raw: Any = json.loads(args or "{}")
        except ValueError as error:
            raise ToolError(f"the arguments of {self.name} are not JSON: {error}") from None
        if not isinstance(raw, dict):
            raise ToolError(f"the arguments of {self.name} must be a JSON object")
        try:
            parsed = self.arguments.model_validate(raw)
        except ValidationError as error:
            problems = (f"{'.'.join(map(str, p['loc'])) or 'arguments'}: {p['msg']}" for p in error.errors())
            raise ToolError(f"bad arguments for {self.name}: {'; '.join(problems)}") from None
        return {name: getattr(parsed, name) for name in self.arguments.model_fields}


Asks = Callable[[dict[str, Any], ToolsSettings], str]  #: why this very call needs a person; empty when it does not


def _always(settings: ToolsSettings, model_name: str) -> str:
    return ""


def _never(arguments: dict[str, Any], settings: ToolsSettings) -> str:
    return ""


def _no_subject(arguments: dict[str, Any]) -> str:
    return ""


def tool(
    *,
    effects: Effects,
    timeout_s: int = 600,
    parallel: bool = True,
    approval: bool = False,
    grant: str = "",
    available: Callable[[ToolsSettings, str], str] = _always,
    asks: Asks = _never,
    subject: Callable[[dict[str, Any]], str] = _no_subject,
    is_command: bool = False,
    to_places: bool = False,
) -> Callable[[Callable[..., Awaitable[str]]], Tool]:
    """Make a tool of a function. A person is asked before each call with `approval`; unless whoever speaks
    holds the `grant`; and where `asks` looks at the arguments and says why. `subject` is the text of a call
    that patterns are matched with (of the setting `tools.ask`, and those that a person allowed for the
    session); `is_command` says that it is a shell command, `to_places` that it is an address. `available`
    returns why the tool cannot be used with these settings and this model, or nothing. Errors: BadTool."""

    def make(function: Callable[..., Awaitable[str]]) -> Tool:
        name = cast(Any, function).__name__
        arguments = _arguments_of(function, name)
        schema = arguments.model_json_schema()
        schema.pop("title", None)
        return Tool(
            name=name,
            description=inspect.cleandoc(function.__doc__ or ""),
            schema=schema,
            function=function,
            arguments=arguments,
            effects=effects,
            timeout_s=timeout_s,
            parallel=parallel,
            approval=approval,
            grant=grant,
            available=available,
            asks=asks,
            subject=subject,
            is_command=is_command,
            to_places=to_places,
        )

    return make


def _arguments_of(function: Callable[..., Awaitable[str]], name: str) -> type[BaseModel]:
    if not inspect.iscoroutinefunction(function):
        raise BadTool(f"tool {name} must be an async function")
    if not function.__doc__:
        raise BadTool(f"tool {name} needs a docstring: it is what the model reads")
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) or parameter.name not in hints:
            raise BadTool(f"tool {name}: parameter {parameter.name} needs a name and a type of its own")
        default = ... if parameter.default is parameter.empty else parameter.default
        hint = hints[parameter.name]
        described = [extra for extra in get_args(hint)[1:] if isinstance(extra, str)]
        if get_origin(hint) is Annotated and described:
            hint = get_args(hint)[0]
        fields[parameter.name] = (hint, Field(default, description=described[0] if described else None))
    try:
        model = create_model(f"{name}_arguments", __config__=ConfigDict(extra="forbid"), **fields)
        model.model_json_schema()
    except Exception as error:
        raise BadTool(f"tool {name}: its parameters have no JSON schema: {error}") from error
    return model
