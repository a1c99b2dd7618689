"""Has OpenAI's client send a conversation and tools as they are.

For each request that client compares every part of every message with every type that it could have, to rename and
format what its types say (`openai/_utils/_transform.py`): 56 ms of a worker's only event loop for 400 messages, in
which no other session's step gets on. What pydantic-ai hands over is what goes over the wire already, and `extra_body`
goes there untouched. Anthropic's client has no such walk. Must not send a request.
"""

from typing import Any

LONG = ("messages", "input", "tools")  #: what grows with the conversation, and with the tools


def send_as_it_is(model: Any) -> None:
    """Does nothing for a model of another client than OpenAI's."""
    client: Any = getattr(model, "client", None)
    if not any(kind.__module__.partition(".")[0] == "openai" for kind in type(client).__mro__):
        return
    from pydantic_ai.models.openai import OpenAIResponsesModel

    resource: Any = client.responses if isinstance(model, OpenAIResponsesModel) else client.chat.completions
    create = resource.create

    async def as_it_is(*, extra_body: Any = None, **body: Any) -> Any:
        whole = {name: body[name] for name in LONG if isinstance(body.get(name), list)}
        return await create(**body | dict.fromkeys(whole, ()), extra_body=whole | (extra_body or {}))

    resource.create = as_it_is
