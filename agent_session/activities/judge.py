"""Policy's verdict on the calls of one answer: run, ask a person, or refuse with a result at once.

The digest binds an approval to what exactly would run: tool, arguments, folder, sandbox. The activity
`execute_tool` computes it again and refuses anything else.
"""

import hashlib
import json
from dataclasses import dataclass

from agent_session.domain.ids import call_id
from agent_session.domain.limits import ARGUMENT_BYTES, CALLS_PER_STEP
from agent_session.domain.turns import ASK, REFUSE, RUN, StepInput
from agent_session.models.base import RequestedCall
from agent_session.operations import Services, workspace_of
from agent_session.tools import ToolError
from agent_session.transcript.lines import Line


@dataclass(frozen=True)
class Judged:
    """A call as its line has it; `why` is the result of one that is not run."""

    call: Line
    outcome: str = ""
    why: str = ""


def judge(
    services: Services, step: StepInput, calls: list[RequestedCall], grants: tuple[str, ...], *, last_step: bool
) -> list[Judged]:
    """One verdict a call, in order. A tool whose grant the turn's principal lacks asks a person (I10)."""
    workspace = str(workspace_of(services.volume, step.key)) if calls else ""
    judged: list[Judged] = []
    for index, requested in enumerate(calls):
        outcome, why = _refusal(services, index, requested, last_step)
        verdict = REFUSE if why else ASK if services.toolbox.asks(requested.name, grants) else RUN
        tool = services.toolbox.find(requested.name)
        args = requested.args if len(requested.args) <= ARGUMENT_BYTES else "{}"
        call: Line = {
            "id": call_id(step.turn, step.step, index),
            "name": requested.name[:128],
            "args": args,
            "verdict": verdict,
            "digest": digest_of(services, requested.name, args, workspace),
            "effects": tool.effects if tool else "none",
        }
        if requested.provider_id:
            call["provider_id"] = requested.provider_id[:256]
        judged.append(Judged(call, outcome, why))
    return judged


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


def digest_of(services: Services, tool: str, args: str, workspace: str) -> str:
    """32 hex digits over what exactly would run."""
    what = json.dumps([tool, args, workspace, services.settings.tools.shell.sandbox])
    return hashlib.sha256(what.encode("utf-8", "replace")).hexdigest()[:32]
