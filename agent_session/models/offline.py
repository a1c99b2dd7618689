"""The offline model: no network, no key, deterministic, honest about itself.

It lets a newcomer try the machine, and tests drive every path of the engine through the door that
people use. Commands: `run <command>`, `read <path>`, `write <path> <text>`, `list [path]`,
`remember …`, `what did I say?`, `sleep <s>`, `tools a; b; c`; anything else is acknowledged.
"""

import asyncio
import json
import re
from collections.abc import Callable

from agent_session.models.base import Line, Model, ModelAnswer, ModelFault, Prompt, RequestedCall
from agent_session.settings import Settings

PREFIXES = ("offline",)
HINT = "offline model - set ANTHROPIC_API_KEY or OPENAI_API_KEY for a real one"
MAX_SLEEP_S = 3_600.0


class OfflineModel:
    """Answers from the transcript alone."""

    name = "offline"

    async def warm(self) -> None:
        return

    async def answer(self, prompt: Prompt, on_text: Callable[[str], None]) -> ModelAnswer:
        """What was said since the model last spoke: results are reported, commands become calls."""
        said, results = _since_last_answer(prompt)
        sentences = [_report(line) for line in results]
        calls: list[RequestedCall] = []
        for words in said:
            call = _calls_for(words)
            if call and prompt.tools:
                calls += call
            elif call:
                sentences.append("I may take no more steps in this turn, so I did not call the tool.")
            else:
                sentences.append(await _sentence_for(words, prompt))
        text = "\n".join(sentence for sentence in sentences if sentence)
        for word in re.findall(r"\S+\s*", text):
            on_text(word)
            await asyncio.sleep(0)
        return ModelAnswer(text, calls, _tokens(prompt), len(text) // 4, finish="tool_call" if calls else "stop")


def create(name: str, settings: Settings) -> Model:
    if name != "offline":
        raise ModelFault("model_setup", f"model.name {name!r}: the offline model has no variants", transient=False)
    return OfflineModel()


def _since_last_answer(prompt: Prompt) -> tuple[list[str], list[Line]]:
    said: list[str] = []
    results: list[Line] = []
    for line in prompt.lines:
        if line.get("turn") != prompt.turn:
            continue
        if line.get("role") == "assistant":
            said, results = [], []
        elif line.get("role") == "user":
            said.append(str(line.get("content", "")))
        elif line.get("role") == "tool":
            results.append(line)
    return said, sorted(results, key=lambda line: int(str(line.get("call")).rpartition("-")[2]))


def _report(line: Line) -> str:
    content = str(line.get("content", "")).rstrip("\n")
    if line.get("outcome") == "ok":
        return content or "(no output)"
    return f"The tool was {line.get('outcome')}: {content}" if line.get("outcome") != "error" else f"Error: {content}"


def _calls_for(words: str) -> list[RequestedCall]:
    verb, _, rest = words.strip().partition(" ")
    rest = rest.strip()
    if verb == "tools" and rest:
        return [call for part in rest.split(";") for call in _calls_for(part)]
    if verb == "run" and rest:
        return [_call("shell", command=rest)]
    if verb == "read" and rest:
        return [_call("read_file", path=rest)]
    if verb == "write" and " " in rest:
        path, _, text = rest.partition(" ")
        return [_call("write_file", path=path, text=text)]
    if verb == "list":
        return [_call("list_dir", path=rest or ".")]
    if verb == "call" and rest:  # any tool by name, with JSON arguments: for trying tools, also wrongly
        name, _, args = rest.partition(" ")
        return [RequestedCall(name, args or "{}")]
    return []


def _call(tool: str, **args: str) -> RequestedCall:
    return RequestedCall(tool, json.dumps(args))


async def _sentence_for(words: str, prompt: Prompt) -> str:
    text = words.strip()
    verb, _, rest = text.partition(" ")
    if verb == "remember" and rest:
        return f"I will remember: {rest}"
    if verb == "sleep" and re.fullmatch(r"\d+(\.\d+)?", rest):
        await asyncio.sleep(min(float(rest), MAX_SLEEP_S))
        return f"I slept for {rest} s."
    if re.fullmatch(r"what did i say\??", text, re.IGNORECASE):
        return _what_was_said(prompt)
    return f"Turn {prompt.n}: I heard “{text[:2_000]}”. ({HINT})"


def _what_was_said(prompt: Prompt) -> str:
    earlier = [
        str(line.get("content", ""))
        for line in prompt.lines
        if line.get("role") == "user" and line.get("turn") != prompt.turn
    ]
    if not earlier:
        return "You have said nothing before this."
    return "You said: " + "; ".join(words[:200] for words in earlier[-10:])


def _tokens(prompt: Prompt) -> int:
    return sum(len(str(line.get("content", ""))) for line in prompt.lines) // 4
