"""The activity `llm_chat`: one model step of a turn.

In order: check who speaks (I10), write the person's words (I4), build the prompt from the volume (I2),
ask the model, write its answer, return a small summary. A step that is recorded is returned and not
asked again; once the model has answered, only the append is retried: a paid answer is not paid twice.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog

from agent_session.activities.attempt import Run
from agent_session.activities.judge import Judged, judge
from agent_session.activities.watchers import tell_approvals, tell_turn_ended, tell_turn_started
from agent_session.activities.words import words_of
from agent_session.domain.authority import message_is_signed
from agent_session.domain.failures import FailureEnvelope
from agent_session.domain.ids import error_id
from agent_session.domain.limits import CALLS_PER_STEP, REPLY_BYTES
from agent_session.domain.options import Options, changed
from agent_session.domain.turns import ASK, REFUSE, RUN, StepAnswer, StepInput, ToolCall
from agent_session.live.events import DELTA, STEP, LiveEvent
from agent_session.models.base import ModelAnswer, ModelFault, Prompt
from agent_session.operations import Services
from agent_session.transcript import lines as L
from agent_session.transcript.lines import Line
from agent_session.transcript.log import VolumeFault
from agent_session.transcript.recorder import Opened, Recorded, add_usage
from agent_session.transcript.volume import VolumeUnavailable

log = structlog.get_logger("agent_session.llm_chat")


async def take_step(services: Services, options: Options, step: StepInput, run: Run) -> StepAnswer:
    """Errors: ModelFault, VolumeUnavailable, VolumeFault, TurnEnded, UnknownTurn, StaleAttempt."""
    key_bytes = await asyncio.to_thread(services.volume.signing_key, services.settings.mac_key_file)
    signed = [one for one in step.messages if message_is_signed(key_bytes, step.key, one)]
    refused = tuple(one.scoped for one in step.messages if one not in signed)
    if refused:
        log.warning("messages without a valid signature were refused", count=len(refused))
    if refused and not signed and step.step == 1:
        return StepAnswer(seq=step.after_seq, finish="refused", refused=refused)
    words = [await asyncio.to_thread(words_of, services, step.key, one) for one in signed]
    seq = await services.record.catch_up(step.key, step.turn, step.after_seq)
    gap = (seq + 1, step.after_seq) if seq < step.after_seq else None
    opened = await services.record.open_step(step.key, step.turn, step.step, words, run, gap)
    known = StepAnswer(
        seq=opened.seq,
        n=opened.n,
        refused=refused,
        earlier=opened.earlier,
        model=services.model.name if services.model.name != step.model else "",
        options=changed(options) if changed(options) != (step.options or {}) else None,
    )
    if opened.answer is not None or opened.ended is not None:
        return summary_of(services, opened.answer, opened.ended, known)
    if opened.earlier and len(opened.earlier) == len(words) and step.step == 1:
        return replace(known, finish="answered")
    begun = LiveEvent(session=step.key, kind=STEP, turn=step.turn, n=opened.n, step=step.step)
    tell_turn_started(services.live, begun, words)
    return await _ask_and_record(services, options, step, opened, known, run, begun)


async def _ask_and_record(
    services: Services,
    options: Options,
    step: StepInput,
    opened: Opened,
    known: StepAnswer,
    run: Run,
    begun: LiveEvent,
) -> StepAnswer:
    last_step = step.step >= options.max_steps
    prompt = await _prompt(services, step, opened.n, last_step)
    services.live.publish(begun)
    answer = await _ask(
        services, options, prompt, lambda text: services.live.publish(replace(begun, kind=DELTA, text=text))
    )
    judged = await asyncio.to_thread(judge, services, step, answer.calls, opened.grants, last_step=last_step)
    line, results = _lines_of(services, step, answer, judged, opened)
    ended: Line | None = None
    if not answer.calls:
        ended = L.event_line(step.turn, L.ENDED, outcome="answered")
    elif last_step:
        failure = FailureEnvelope(kind="step_limit", error_id=error_id(step.turn, "steps"))
        ended = L.event_line(
            step.turn, L.ENDED, outcome="failed", failure="step_limit",
            error_id=failure.error_id, content=failure.apology,
        )  # fmt: skip
    recorded = await _append(services, options, step, line, results, ended, run)
    tell_approvals(services.live, begun, [one.call for one in judged])
    if ended is not None:
        tell_turn_ended(services.live, begun, ended, str(line["content"]), add_usage(opened.spent, line["usage"]))
    if recorded.written_before:  # another attempt was quicker: its answer counts, and so does its end
        opened = await services.record.open_step(step.key, step.turn, step.step, (), run)
        ended = opened.ended
    return summary_of(services, recorded.line, ended, replace(known, seq=recorded.seq))


async def _ask(services: Services, options: Options, prompt: Prompt, on_text: Callable[[str], None]) -> ModelAnswer:
    """One request, bounded as a whole: a provider that sends a byte a minute never times out by itself."""
    try:
        return await asyncio.wait_for(services.call_model(prompt, on_text), options.model_timeout_s)
    except TimeoutError:
        message = f"no whole answer within {options.model_timeout_s} s"
        raise ModelFault("time_out", message, transient=True) from None


async def _prompt(services: Services, step: StepInput, n: int, last_step: bool) -> Prompt:
    """Build it, with a few tries inside the attempt: a read of the volume may stumble."""
    limits = services.settings.operations
    for tried in range(1, limits.build_prompt_attempts + 1):
        try:
            building = services.build_prompt(step.key, step.turn, n, step.step, last_step=last_step)
            return await asyncio.wait_for(building, limits.build_prompt_timeout_s)
        except OSError:  # TimeoutError among them
            if tried == limits.build_prompt_attempts:
                raise
            await asyncio.sleep(0.2 * tried)
    raise AssertionError("unreachable")


async def _append(
    services: Services, options: Options, step: StepInput, line: Line, results: list[Line], ended: Line | None, run: Run
) -> Recorded:
    """The answer is paid for: retry the append alone, as long as a step may wait for the volume."""
    waited, pause = 0.0, 0.2
    while True:
        try:
            return await services.record.answer(step.key, step.turn, line, results, ended, run)
        except (VolumeUnavailable, VolumeFault) as error:
            if waited > options.volume_patience_s:
                raise
            log.warning("the answer cannot be written yet", error=str(error), waited_s=round(waited))
            await asyncio.sleep(pause)
            waited, pause = waited + pause, min(pause * 2, 5.0)


def _lines_of(
    services: Services, step: StepInput, answer: ModelAnswer, judged: list[Judged], opened: Opened
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
        "model": services.model.name,
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
