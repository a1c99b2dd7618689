"""The activity `answer_aside`: answer a message at once, beside the turns, without a model call.

Slash commands, and whatever people say while a tool call waits for one of them. Checks who speaks (I10);
has no effect but its answer: what is to be done goes back to the workflow, so a retry does nothing twice.
"""

import asyncio
from dataclasses import replace

import structlog

from agent_session.domain.asides import (
    CHOOSE_MODEL,
    DECIDE,
    NEW_TALK,
    PASS_ON,
    STOP_TURN,
    AsideAnswer,
    AsideInput,
)
from agent_session.domain.authority import ALLOW, APPROVE_GRANT, DENY, message_is_signed, sign_decision
from agent_session.domain.cards import code_of, is_spoken, request_text
from agent_session.domain.commands import COMMANDS, HELP, MODEL, NEW, QUEUE, STATUS, STOP, command_of
from agent_session.domain.messages import HEARTBEAT, NOTICE
from agent_session.domain.patterns import PATTERN_CHARS
from agent_session.domain.schedules import SCHEDULE_CHANNEL
from agent_session.domain.status_words import status_lines
from agent_session.domain.turns import REASON_BYTES, Decision
from agent_session.domain.wire import clipped
from agent_session.models.base import ModelFault
from agent_session.operations import Services
from agent_session.sandbox.confinement import confinement_of
from agent_session.transcript import spool
from agent_session.transcript.waiting_calls import waiting_calls

TEXT_BYTES = 8 * 1024
log = structlog.get_logger("agent_session.asides")
KEPT = "Your words are kept: they join this turn when it goes on."
DEFAULT_WORDS = ("default", "-")  #: take a choice back
NOBODYS = (HEARTBEAT, SCHEDULE_CHANNEL)  #: channels whose words no person says


async def answer_aside(services: Services, request: AsideInput) -> AsideAnswer:
    """Errors: VolumeUnavailable."""
    key_bytes = await asyncio.to_thread(services.volume.signing_key, services.settings.mac_key_file)
    if not message_is_signed(key_bytes, request.key, request.message):
        return AsideAnswer(refused=True)
    if request.message.kind == NOTICE:
        return await asyncio.to_thread(_notice, services, request)
    word, rest = command_of(request.message) or ("", "")
    if word and request.message.channel in NOBODYS:
        return await asyncio.to_thread(_spooled, services, request, _not_a_person(request, word))
    if word == MODEL and rest:
        return await asyncio.to_thread(_spooled, services, request, _choose_model(services, rest))
    if not word and request.foreign:
        return await asyncio.to_thread(_spooled, services, request, await _foreign_words(services, request))
    return await asyncio.to_thread(_answer, services, request)


def _notice(services: Services, request: AsideInput) -> AsideAnswer:
    """Words of the service itself. The kind of a message is not signed, so its channel says who speaks."""
    message = request.message
    if message.channel != HEARTBEAT or message.grants:
        return AsideAnswer(refused=True)
    if message.text_ref:
        return AsideAnswer(text_ref=message.text_ref)
    return _spooled(services, request, AsideAnswer(text=message.text))


def _not_a_person(request: AsideInput, word: str) -> AsideAnswer:
    """Such a message is of a kind that has no commands, but its kind is not signed, and a workflow of an older
    version may read it as a person's."""
    who = {"session": request.key, "principal": request.message.principal, "channel": request.message.channel}
    log.warning("a command that no person gave was refused", command=word, **who)
    return AsideAnswer(text=f"/{word} was refused: only a person may give commands.")


def _answer(services: Services, request: AsideInput) -> AsideAnswer:
    command = command_of(request.message)
    answer = _waiting_words(services, request) if command is None else _command(services, request, *command)
    return _spooled(services, request, answer)


def _spooled(services: Services, request: AsideInput, answer: AsideAnswer) -> AsideAnswer:
    """A place that is pushed to gets its words by reference; those that show a call never pass through
    Temporal (I2)."""
    if answer.text_ref:  # the words themselves, so far
        words, shown = answer.text_ref, ""
    else:
        words, shown = answer.text, answer.text.encode("utf-8", "replace")[:TEXT_BYTES].decode("utf-8", "ignore")
        if not request.message.reply_address:
            return replace(answer, text=shown)
    ref = spool.put(services.volume, request.key, words.encode("utf-8", "replace"))
    return replace(answer, text=shown, text_ref=ref)


async def _foreign_words(services: Services, request: AsideInput) -> AsideAnswer:
    """The turn that waits is of another person, or of the same one in another place: each thread is one. A call is
    shown in its own place alone."""
    principal = request.message.principal
    asked = await services.record.speaker(request.key, request.status.turn)
    whose = "for an earlier message of yours" if principal and principal == asked.principal else "of somebody else"
    words = f"A tool call {whose} waits for a decision. Your words are kept: their turn comes after it."
    return AsideAnswer(text=words, effect=PASS_ON)


def _waiting_words(services: Services, request: AsideInput) -> AsideAnswer:
    calls = waiting_calls(services.volume, request.key, request.status)
    words = request_text(calls, request.key) if calls else "A tool call waits for a person's decision."
    return AsideAnswer(text_ref=f"{words}\n{KEPT}", effect=PASS_ON)


def _command(services: Services, request: AsideInput, word: str, rest: str) -> AsideAnswer:
    status = request.status
    if word == STATUS:
        model = status.model or request.choice or services.model.name  # before the first answer nobody knows better
        shell = status.shell or confinement_of(services.settings.tools.shell).words
        return AsideAnswer(text="\n".join(status_lines(replace(status, model=model, shell=shell), request.now_s)))
    if word == HELP:
        return AsideAnswer(text="\n".join(f"/{name}  {what}" for name, what in COMMANDS.items()))
    if word == QUEUE:
        rows = [f"{number}. {words}" for number, words in enumerate(request.waiting, 1)]
        more = status.queue - len(rows)
        rows += [f"… and {more} more"] if more > 0 else []
        return AsideAnswer(text="\n".join(rows) or "Nothing waits.")
    if word == STOP:
        if not status.turn:
            return AsideAnswer(text="No turn runs.")
        return AsideAnswer(text=f"Stopping turn {status.n or status.turn}.", effect=STOP_TURN, value=status.turn)
    if word == NEW:
        return AsideAnswer(text="From the next turn on I see nothing from before.", effect=NEW_TALK)
    if word == MODEL:
        chosen = request.choice or services.model.name
        return AsideAnswer(text=f"The model is {chosen}. Choose with /model NAME, go back with /model default.")
    return _decide(services, request, word, rest)


def _choose_model(services: Services, name: str) -> AsideAnswer:
    """On the event loop: some providers' libraries want one when they are set up."""
    if name in DEFAULT_WORDS:
        return AsideAnswer(text=f"From the next turn on: {services.model.name}.", effect=CHOOSE_MODEL)
    try:
        found = services.model_for(name)
    except ModelFault as fault:
        return AsideAnswer(text=f"That model cannot be used: {fault}")
    return AsideAnswer(text=f"From the next turn on: {found.name}.", effect=CHOOSE_MODEL, value=name)


def _decide(services: Services, request: AsideInput, word: str, rest: str) -> AsideAnswer:
    """`/allow CODE [always [PATTERN]]`, `/deny CODE [REASON]`. The code names one request: words said for one
    that was decided, or said again by somebody else, decide on nothing."""
    if APPROVE_GRANT not in request.message.grants:
        who = {"session": request.key, "principal": request.message.principal, "channel": request.message.channel}
        log.warning("a decision of somebody who may not decide was refused", command=word, **who)
        return AsideAnswer(text="You may not decide on tool calls here.")
    waiting = waiting_calls(services.volume, request.key, request.status)
    if not waiting:
        return AsideAnswer(text="No call waits for a decision.")
    first, _, rest = rest.partition(" ")
    found = [call for call in waiting if first in (code_of(call), call["call"])]
    if not found:
        return AsideAnswer(text_ref=f"Which one? Name it by its code.\n{request_text(waiting, request.key)}")
    call, rest = found[0], rest.strip()
    decision = Decision(
        decision=ALLOW if word == "allow" else DENY,
        principal=request.message.principal,
        grants=request.message.grants,
        reason=clipped(rest, REASON_BYTES) if word == "deny" else "",
    )
    said = "Denied."
    if word == "allow":
        problem, pattern = _what_is_allowed(services, call, rest)
        if problem:
            return AsideAnswer(text=problem)
        decision = replace(decision, pattern=pattern)
        said = f"Allowed, and {pattern!r} for the rest of this session." if pattern else "Allowed once."
    secret = services.volume.signing_key(services.settings.mac_key_file)
    signed = replace(decision, mac=sign_decision(secret, request.key, call["call"], call["digest"], decision))
    return AsideAnswer(text=said, effect=DECIDE, call=call["call"], decision=signed)


def _what_is_allowed(services: Services, call: dict[str, str], rest: str) -> tuple[str, str]:
    """Why not, or the pattern to allow beyond the call itself, empty for none."""
    if not is_spoken(call):
        return "That call is too long to be shown here whole: decide with agent-session approvals.", ""
    always, _, pattern = rest.partition(" ")
    if not rest:
        return "", ""
    pattern = pattern.strip() or call["pattern"]
    if always != "always":
        return "Say /allow CODE, /allow CODE always, or /allow CODE always PATTERN.", ""
    if len(pattern) > PATTERN_CHARS or not services.toolbox.matches(call["tool"], call["args"], pattern):
        return f"The pattern {pattern[:PATTERN_CHARS]!r} does not cover this call; nothing was decided.", ""
    return "", pattern
