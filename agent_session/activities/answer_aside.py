"""The activity `answer_aside`: answer a message at once, beside the turns, without a model call.

Slash commands, and whatever people say while a tool call waits for one of them. Checks who speaks (I10);
has no effect but its answer: what is to be done goes back to the workflow, so a retry does nothing twice.
"""

import asyncio
from dataclasses import replace

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
from agent_session.domain.cards import request_text
from agent_session.domain.commands import COMMANDS, HELP, MODEL, NEW, QUEUE, STATUS, STOP, command_of
from agent_session.domain.status_words import status_lines
from agent_session.domain.turns import Decision
from agent_session.models.base import ModelFault
from agent_session.operations import Services
from agent_session.sandbox.confinement import confinement_of
from agent_session.transcript import spool
from agent_session.transcript.waiting_calls import waiting_calls

TEXT_BYTES = 8 * 1024
DEFAULT_WORDS = ("default", "-")  #: take a choice back


async def answer_aside(services: Services, request: AsideInput) -> AsideAnswer:
    """Errors: VolumeUnavailable."""
    key_bytes = await asyncio.to_thread(services.volume.signing_key, services.settings.mac_key_file)
    if not message_is_signed(key_bytes, request.key, request.message):
        return AsideAnswer(refused=True)
    word, rest = command_of(request.message) or ("", "")
    if word == MODEL and rest:
        return await asyncio.to_thread(_spooled, services, request, _choose_model(services, rest))
    return await asyncio.to_thread(_answer, services, request)


def _answer(services: Services, request: AsideInput) -> AsideAnswer:
    command = command_of(request.message)
    answer = _waiting_words(services, request) if command is None else _command(services, request, *command)
    return _spooled(services, request, answer)


def _spooled(services: Services, request: AsideInput, answer: AsideAnswer) -> AsideAnswer:
    """Cut to what may ride along; a place that is pushed to gets it by reference."""
    words = answer.text.encode("utf-8", "replace")[:TEXT_BYTES]
    answer = replace(answer, text=words.decode("utf-8", "ignore"))
    if request.message.reply_address:
        answer = replace(answer, text_ref=spool.put(services.volume, request.key, words))
    return answer


def _waiting_words(services: Services, request: AsideInput) -> AsideAnswer:
    calls = waiting_calls(services.volume, request.key, request.status)
    words = request_text(calls) if calls else "A tool call waits for a person's decision."
    kept = "Your words are kept: they join this turn when it goes on."
    return AsideAnswer(text=f"{words}\n{kept}", effect=PASS_ON)


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
    """`/allow [CALL] [always [PATTERN]]`, `/deny [CALL] [REASON]`."""
    if APPROVE_GRANT not in request.message.grants:
        return AsideAnswer(text="You may not decide on tool calls here.")
    waiting = waiting_calls(services.volume, request.key, request.status)
    if not waiting:
        return AsideAnswer(text="No call waits for a decision.")
    first, _, behind = rest.partition(" ")
    named = [call for call in waiting if call["call"] == first]
    if not named and len(waiting) > 1:
        return AsideAnswer(text=f"Which one? Name it.\n{request_text(waiting)}")
    call, rest = (named[0], behind.strip()) if named else (waiting[0], rest)
    decision = Decision(
        decision=ALLOW if word == "allow" else DENY,
        principal=request.message.principal,
        grants=request.message.grants,
        reason=rest[:500] if word == "deny" else "",
    )
    said = "Denied."
    if word == "allow":
        always, _, pattern = rest.partition(" ")
        if rest and always != "always":
            return AsideAnswer(text="Say /allow, /allow always, or /allow CALL always PATTERN.")
        pattern = pattern.strip() or call["pattern"] if rest else ""
        if rest and not services.toolbox.matches(call["tool"], call["args"], pattern):
            return AsideAnswer(text=f"The pattern {pattern!r} does not cover this call; nothing was decided.")
        decision = replace(decision, pattern=pattern)
        said = f"Allowed, and {pattern!r} for the rest of this session." if pattern else "Allowed once."
    secret = services.volume.signing_key(services.settings.mac_key_file)
    signed = replace(decision, mac=sign_decision(secret, request.key, call["call"], call["digest"], decision))
    return AsideAnswer(text=said, effect=DECIDE, call=call["call"], decision=signed)
