"""The scripted model: an OpenAI-compatible server in a process of its own, that answers from the conversation.

`m-0003-0017 do after 0.5` is answered by one command with one effect, then by `done m-0003-0017` or, when the
result says so, `interrupted m-0003-0017`. It never asks for an effect that the conversation shows it asked
for, and names each message in one final answer, so that a second effect or a second naming is the engine's
doing. It fails by chance, seeded, and in windows that the driver opens over `POST /fault`.

Must not remember a conversation: what it knows, it was sent. Must not log headers (they hold the key).
"""

import argparse
import asyncio
import json
import random
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.fakes.providers import Step, breaks_after, calls, fails, garbage, says

ASKED = re.compile(r"\b(m-\d{4}-\w{4}) (?:(say)|do (before|after) ([\d.]+))( wide| loud| peek)?")
NAMED = re.compile(r"\bm-\d{4}-\w{4}\b")
HANG_S = 4.0
AT_ONCE = 8  #: calls in one step
WIDE_CHARS = 9_000  #: more than a reply that rides in an activity's result
LOUD_BYTES = 20_000  #: more than a result that stands in its line


class Talk:
    """What one request shows of its conversation."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.asked: dict[str, re.Match[str]] = {}
        self.named: set[str] = set()
        self.calls: dict[str, str] = {}  #: message id -> id of the call that was asked for it
        self.results: dict[str, str] = {}
        for message in messages:
            content = _text_of(message.get("content"))
            if message["role"] == "user":
                for found in ASKED.finditer(content):
                    self.asked.setdefault(found[1], found)
            elif message["role"] == "assistant":
                self.named.update(NAMED.findall(content))
                for call in message.get("tool_calls") or []:
                    for name in NAMED.findall(call["function"]["arguments"]):
                        self.calls[name] = call["id"]
            elif message["role"] == "tool":
                self.results[message["tool_call_id"]] = content

    def open(self) -> list[str]:
        return [name for name in self.asked if name not in self.named]

    def to_do(self) -> list[str]:
        return [name for name in self.open() if not self.asked[name][2] and name not in self.calls][:AT_ONCE]

    def fate(self, name: str) -> str:
        """What the model was told of the message's effect."""
        if self.asked[name][2]:
            return "said"
        result = self.results.get(self.calls.get(name, ""), "nothing")
        if "may or may not have taken effect" in result:
            return "interrupted"
        if result.startswith("Not run"):
            return "unrun"
        return "broke" if "(exit code" in result or result == "nothing" else "done"


class ModelServer:
    def __init__(self, effects: Path, log: Path, seed: int, rate: float) -> None:
        self._effects, self._log, self._seed, self._rate = effects, log.open("a", buffering=1), seed, rate
        self._window, self._until = "", 0.0
        self._tries: Counter[str] = Counter()

    async def fault(self, request: web.Request) -> web.Response:
        body = await request.json()
        self._window, self._until = body["how"], time.monotonic() + body["length_s"]
        return web.json_response({})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        talk = Talk(body["messages"])
        key = (talk.open() or ["m-none"])[0]
        self._tries[key] += 1
        chance = random.Random(f"{self._seed}/{key}/{self._tries[key]}")
        began = time.monotonic()
        how = self._window if began < self._until else ""
        if not how and chance.random() < self._rate:
            how = chance.choice(("500", "503", "429", "hang", "break", "garbage", "slow"))
        response = await (await self._step(how, talk))(request, body)
        told = {name: talk.fate(name) for name in talk.open() if name in talk.calls}
        entry = {"t": began, "until": time.monotonic(), "first": key, "fault": how, "told": told}
        self._log.write(json.dumps(entry) + "\n")
        return response

    async def _step(self, how: str, talk: Talk) -> Step:
        if how in ("500", "503"):
            return fails(int(how))
        if how == "429":
            return fails(429, **{"Retry-After": "1"})
        if how == "break":
            return breaks_after("half an ans")
        if how == "garbage":
            return garbage()
        if how == "hang":
            await asyncio.sleep(HANG_S)
            return fails(504)
        if how == "slow":
            await asyncio.sleep(1.5)
        return self._answer(talk)

    def _answer(self, talk: Talk) -> Step:
        to_do = talk.to_do()
        if to_do:
            return calls(*(("shell", json.dumps({"command": self._command(talk.asked[name])})) for name in to_do))
        words = " ".join(f"{talk.fate(name)} {name}" for name in talk.open()) or "nothing"
        wide = any(talk.asked[name][5] == " wide" for name in talk.open())
        return says(words + (" " + "w" * WIDE_CHARS if wide else ""))

    def _command(self, asked: re.Match[str]) -> str:
        """One effect: a line of its own in a file outside of the volume, so that a full disk cannot half do it."""
        name, _, when, nap_s, more = asked[1], asked[2], asked[3], asked[4], asked[5]
        effect = f"printf '%s\\n' {name} >> {self._effects}/{name[2:6]}.log"
        nap = f"sleep {nap_s}" if float(nap_s) else ":"
        command = f"{effect}; {nap}" if when == "before" else f"{nap}; {effect}"
        if more == " loud":
            return f"{command}; head -c {LOUD_BYTES} /dev/zero | tr '\\0' z"
        return f"{command}; env" if more == " peek" else command


def _text_of(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--effects", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0)
    given = parser.parse_args()
    server = ModelServer(given.effects, given.log, given.seed, given.rate)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_post("/fault", server.fault)
    web.run_app(app, host="127.0.0.1", port=given.port, print=None, access_log=None)


if __name__ == "__main__":
    main()
