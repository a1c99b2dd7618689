"""Policy's verdict on the calls of one answer: run, ask a person, or refuse with a result at once.

The digest binds an approval to what exactly would run: tool, arguments, folder, sandbox, network. The
activity `execute_tool` computes it again; where it differs, a person is asked again.
"""

import hashlib
import json
from dataclasses import dataclass

from agent_session.domain.authority import pattern_is_signed
from agent_session.domain.ids import call_id
from agent_session.domain.limits import ARGUMENT_BYTES, CALLS_PER_STEP
from agent_session.domain.patterns import AllowedPattern
from agent_session.domain.turns import ASK, REFUSE, RUN, StepInput
from agent_session.models.base import RequestedCall
from agent_session.operations import Services, workspace_of
from agent_session.sandbox.confinement import confinement_of
from agent_session.tools import ToolError
from agent_session.transcript.lines import Line


@dataclass(frozen=True)
class Judged:
    """A call as its line has it; `why` is the result of one that is not run."""

    call: Line
    outcome: str = ""
    why: str = ""


@dataclass(frozen=True)
class Speaker:
    """Whose words opened the turn."""

    principal: str = ""
    grants: tuple[str, ...] = ()
    place: str = ""  #: where the words came from: to write there is nothing new


def judge(
    services: Services, step: StepInput, calls: list[RequestedCall], speaker: Speaker, *, last_step: bool
) -> list[Judged]:
    """One verdict a call, in order. A tool whose grant the speaker lacks asks a person (I10)."""
    return [_judged(services, step, index, one, speaker, last_step) for index, one in enumerate(calls)]


def _judged(
    services: Services, step: StepInput, index: int, requested: RequestedCall, speaker: Speaker, last_step: bool
) -> Judged:
    outcome, why = _refusal(services, index, requested, last_step)
    tool = services.toolbox.find(requested.name)
    args = requested.args if len(requested.args) <= ARGUMENT_BYTES else "{}"
    call: Line = {
        "id": call_id(step.turn, step.step, index),
        "name": requested.name[:128],
        "args": args,
        "verdict": REFUSE if why else RUN,
        "digest": digest_of(services, step.key, requested.name, args),
        "effects": tool.effects if tool else "none",
    }
    if requested.provider_id:
        call["provider_id"] = requested.provider_id[:256]
    asks = "" if why else services.toolbox.why_ask(requested.name, args, speaker.grants)
    if asks:
        known = services.toolbox.is_own_place(requested.name, args, speaker.place)
        allowed = speaker.place if known else _allowed_by(services, step, requested.name, args, speaker)
        call |= {"allowed_by": allowed} if allowed else {"verdict": ASK, "why": asks}
        pattern = "" if allowed else services.toolbox.pattern_for(requested.name, args)
        call |= {"pattern": pattern} if pattern else {}
    return Judged(call, outcome, why)


def _allowed_by(services: Services, step: StepInput, tool: str, args: str, speaker: Speaker) -> str:
    """The pattern that lets this call run without asking, or nothing."""
    here = where_it_runs(services, step.key)
    for one in step.allowed:
        same = (one.tool, one.principal, one.confinement) == (tool, speaker.principal, here)
        if same and services.toolbox.matches(tool, args, one.pattern) and _is_signed(services, step.key, one):
            return one.pattern
    return ""


def _is_signed(services: Services, key: str, allowed: AllowedPattern) -> bool:
    return pattern_is_signed(services.volume.signing_key(services.settings.mac_key_file), key, allowed)


def _refusal(services: Services, index: int, requested: RequestedCall, last_step: bool) -> tuple[str, str]:
    if last_step:
        return "refused", "Not run: this turn has taken all the steps it may."
    if index >= CALLS_PER_STEP:
        return "refused", f"Not run: too many calls in one step; at most {CALLS_PER_STEP} are run."
    why = services.toolbox.why_not(requested.name)
    if why:
        return "refused", f"Not run: {why}."
    tool = services.toolbox.find(requested.name)
    assert tool is not None
    try:
        tool.parse(requested.args)
    except ToolError as error:
        return "error", str(error)
    return "", ""


def digest_of(services: Services, key: str, tool: str, args: str) -> str:
    """32 hex digits over what exactly would run on this worker."""
    what = json.dumps([tool, args, where_it_runs(services, key)])
    return hashlib.sha256(what.encode("utf-8", "replace")).hexdigest()[:32]


def where_it_runs(services: Services, key: str) -> str:
    """Sandbox, network and folder: what an approval is bound to beside the call itself."""
    return f"{confinement_of(services.settings.tools.shell).label}, in {workspace_of(services.volume, key)}"
