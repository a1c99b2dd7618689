"""A model step as it stands in the transcript, and as the workflow learns of it: no argument, and no text
over 8 KiB (I2)."""

from dataclasses import replace
from typing import Any

from agent_session.activities.judge import Judged
from agent_session.domain.cards import request_text
from agent_session.domain.limits import CALLS_PER_STEP, REPLY_BYTES
from agent_session.domain.turns import ASK, REFUSE, RUN, StepAnswer, StepInput, ToolCall
from agent_session.models.base import ModelAnswer
from agent_session.operations import Services
from agent_session.transcript import lines as L
from agent_session.transcript import spool
from agent_session.transcript.lines import Line
from agent_session.transcript.recorder import Opened


def lines_of(
    step: StepInput, model: str, answer: ModelAnswer, judged: list[Judged], opened: Opened
) -> tuple[Line, list[Line]]:
    content = answer.text
    if opened.gap is not None and not answer.calls:
        first, last = opened.gap
        content = (
            f"Sorry: the data volume came back older than this conversation; lines {first} to {last} of it "
            f"are lost, and I go on from what is there.\n\n{content}"
        )
    line: Line = {
        "turn": step.turn,
        "role": L.ASSISTANT,
        "step": step.step,
        "content": content,
        "tool_calls": [one.call for one in judged],
        "usage": _usage_of(answer),
        "model": model,
    }
    if answer.parts is not None:
        line |= {"parts": answer.parts, "parts_of": answer.parts_of}
    results = [
        L.result_line(step.turn, one.call["id"], one.outcome, one.why, name=one.call["name"])
        for one in judged
        if one.why
    ]
    return line, results


def summary_of(services: Services, line: Line | None, ended: Line | None, known: StepAnswer) -> StepAnswer:
    """What the workflow learns of a recorded answer: no argument, and no text over 8 KiB (I2). `ended` is
    the turn's end where it has one already: by this answer, or by another hand."""
    calls: list[Line] = (line or {}).get("tool_calls") or []
    if line is None or (ended is not None and (calls or ended.get("outcome") != "answered")):
        assert ended is not None
        return replace(
            known,
            finish="ended",
            outcome=str(ended.get("outcome", "")),
            failure=str(ended.get("failure", "")),
            error_id=str(ended.get("error_id", "")),
        )
    usage: dict[str, Any] = line.get("usage") or {}
    runnable = tuple(
        _summary_of_call(services, index, call)
        for index, call in enumerate(calls[:CALLS_PER_STEP])
        if call.get("verdict") != REFUSE
    )
    text = "" if calls else str(line.get("content", ""))
    fits = len(text.encode("utf-8", "replace")) <= REPLY_BYTES
    return replace(
        known,
        finish="tools" if calls else "stop",
        text=text if fits else "",
        text_ref=not fits,
        calls=runnable,
        n=int(line.get("n", known.n)) or known.n,
        input_tokens=int(usage.get("input_tokens", 0)),
        output_tokens=int(usage.get("output_tokens", 0)),
        cached_tokens=int(usage.get("cached_tokens", 0)),
        cost_microusd=int(usage.get("cost_microusd", 0)),
    )


def _usage_of(answer: ModelAnswer) -> dict[str, int]:
    usage = {"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens}
    more = {"cached_tokens": answer.cached_tokens, "cost_microusd": answer.cost_microusd}
    return usage | {name: value for name, value in more.items() if value}


def _summary_of_call(services: Services, index: int, call: Line) -> ToolCall:
    tool = services.toolbox.find(str(call.get("name")))
    verdict = str(call.get("verdict", RUN))
    return ToolCall(
        index=index,
        tool=str(call.get("name"))[:64],
        verdict=verdict,
        digest=str(call.get("digest", "")) if verdict == ASK else "",
        timeout_s=tool.timeout_s if tool else 600,
        parallel=tool.parallel if tool else True,
    )


def card_for(services: Services, step: StepInput, line: Line) -> str:
    """The request for a decision, in the spool, where the turn's place is pushed to. Errors: VolumeUnavailable."""
    asking = [call for call in L.calls_of(line) if call.get("verdict") == ASK]
    if not asking or not step.pushed:
        return ""
    shown = [{"call": str(call["id"]), "tool": str(call["name"]), **call} for call in asking]
    return spool.put(services.volume, step.key, request_text(shown, step.key).encode("utf-8", "replace"))


def notes_of(turn: str, *, fresh: bool, chosen: bool, choice: str) -> list[Line]:
    """What people decided about the talk itself, as events before their words."""
    begins = [L.event_line(turn, L.NEW)] if fresh else []
    return [*begins, *([L.event_line(turn, L.MODEL, model=choice)] if chosen else [])]
