"""The activity `llm_chat`: one model step of a turn.

In order: check who speaks (I10), write the person's words (I4), build the prompt from the volume (I2),
ask the model, write its answer, return a small summary. A step that is recorded is returned and not
asked again; once the model has answered, only the append is retried: a paid answer is not paid twice.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import structlog

from agent_session.activities.attempt import Run
from agent_session.activities.judge import Judged, Speaker, judge
from agent_session.activities.model_step import card_for, lines_of, notes_of, summary_of
from agent_session.activities.recall import recall
from agent_session.activities.watchers import tell_approvals, tell_turn_ended, tell_turn_started
from agent_session.activities.words import words_of
from agent_session.domain.authority import message_is_signed
from agent_session.domain.failures import FailureEnvelope
from agent_session.domain.ids import error_id
from agent_session.domain.options import Options, changed
from agent_session.domain.turns import ASK, StepAnswer, StepInput
from agent_session.live.events import DELTA, RETRY, STEP, LiveEvent
from agent_session.models.base import ModelAnswer, ModelFault, Prompt
from agent_session.operations import Services
from agent_session.sandbox.confinement import confinement_of
from agent_session.telemetry import measure
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
    if step.recall:
        patterns, choice = await asyncio.to_thread(recall, services.volume, step.key)
        choice = step.choice if step.chosen else step.choice or choice
        step = replace(step, allowed=(*patterns, *step.allowed), choice=choice)
    model = services.model_for(step.choice)
    words = [await asyncio.to_thread(words_of, services, step.key, one) for one in signed]
    seq = await services.record.catch_up(step.key, step.turn, step.after_seq)
    gap = (seq + 1, step.after_seq) if seq < step.after_seq else None
    notes = notes_of(step.turn, fresh=step.fresh, chosen=step.chosen, choice=step.choice)
    opened = await services.record.open_step(step.key, step.turn, step.step, words, run, gap, notes)
    known = StepAnswer(
        seq=opened.seq,
        n=opened.n,
        refused=refused,
        earlier=opened.earlier,
        model=model.name if model.name != step.model else "",
        shell=_news(confinement_of(services.settings.tools.shell).words, step.shell),
        recalled=step.allowed if step.recall else (),
        choice=step.choice if step.recall else "",
        options=changed(options) if changed(options) != (step.options or {}) else None,
    )
    if opened.answer is not None or opened.ended is not None:
        return await _with_card(services, step, opened.answer, summary_of(services, opened.answer, opened.ended, known))
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
    prompt = replace(
        await _prompt(services, step, opened.n, last_step),
        model=step.choice,
        on_wait=partial(_tell_wait, services, begun),
    )
    services.live.publish(begun)
    answer = await _measured(
        services, options, prompt, lambda text: services.live.publish(replace(begun, kind=DELTA, text=text))
    )
    speaker = Speaker(opened.principal, opened.grants, opened.place)
    judged = await asyncio.to_thread(judge, services, step, answer.calls, speaker, last_step=last_step)
    line, results = lines_of(step, services.model_for(step.choice).name, answer, judged, opened)
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
    if not recorded.written_before:
        _count_calls(services, judged)
    if ended is not None:
        spent = add_usage(opened.spent, line["usage"])
        tell_turn_ended(services.live, begun, ended, str(line["content"]), spent, str(line["model"]))
        if not recorded.written_before:
            failed = str(ended.get("failure", ""))
            measure.turn_ended(step.key, str(ended["outcome"]), failed=failed, model=str(line["model"]), spent=spent)
    if recorded.written_before:  # another attempt was quicker: its answer counts, and so does its end
        opened = await services.record.open_step(step.key, step.turn, step.step, (), run)
        ended = opened.ended
    summary = summary_of(services, recorded.line, ended, replace(known, seq=recorded.seq))
    return await _with_card(services, step, recorded.line, summary)


def _count_calls(services: Services, judged: list[Judged]) -> None:
    """Those that a person is asked about, and those that end here."""
    for one in judged:
        name = str(one.call["name"])
        if one.why:
            measure.tool_ended(name if services.toolbox.find(name) else "", one.outcome, 0.0)
        elif one.call.get("verdict") == ASK:
            measure.asked(name)


def _tell_wait(services: Services, begun: LiveEvent, text: str) -> None:
    services.live.publish(replace(begun, kind=RETRY, text=text))


async def _with_card(services: Services, step: StepInput, line: Line | None, summary: StepAnswer) -> StepAnswer:
    if line is None or summary.finish != "tools":
        return summary
    return replace(summary, card_ref=await asyncio.to_thread(card_for, services, step, line))


def _news(value: str, known: str) -> str:
    """Only what has changed travels."""
    return value if value != known else ""


async def _ask(services: Services, options: Options, prompt: Prompt, on_text: Callable[[str], None]) -> ModelAnswer:
    """One request, bounded as a whole: a provider that sends a byte a minute never times out by itself."""
    try:
        return await asyncio.wait_for(services.call_model(prompt, on_text), options.model_timeout_s)
    except TimeoutError:
        message = f"no whole answer within {options.model_timeout_s} s"
        raise ModelFault("time_out", message, transient=True) from None


async def _measured(
    services: Services, options: Options, prompt: Prompt, on_text: Callable[[str], None]
) -> ModelAnswer:
    model = services.model_for(prompt.model).name
    with measure.model_call(model, services.settings.model.max_output_tokens) as call:
        call.answer = await _ask(services, options, prompt, call.hearing(on_text))
        return call.answer


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
