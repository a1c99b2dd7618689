"""A model that says back what it heard. It calls no tools and needs no network."""

from collections.abc import Callable

from agent_session.models.base import ModelAnswer, ModelFault, Prompt
from agent_session.settings import Settings

PREFIXES = ("echo",)


class Echo:
    """One object serves all sessions: it keeps nothing."""

    name = "echo"

    async def warm(self) -> None:
        return

    async def answer(self, prompt: Prompt, on_text: Callable[[str], None]) -> ModelAnswer:
        now = [line for line in prompt.lines if line["role"] == "user" and line["turn"] == prompt.turn]
        if not now:
            raise ModelFault("bad_request", "echo: nobody has said anything in this turn", transient=False)
        text = str(now[-1]["content"])
        on_text(text)
        return ModelAnswer(text)


def create(name: str, settings: Settings) -> Echo:
    if name != "echo":
        raise ModelFault("model_setup", f"model.name {name!r}: echo has no variants", transient=False)
    return Echo()
