"""The activity `execute_tool`: one tool call, its effect keyed by the call's id (I4).

The arguments come from the transcript, where `llm_chat` wrote them in a turn that signed words opened.
A tool with side effects is recorded as started, synced, before it acts, and proves right before the
effect that its attempt is still the current one.
"""

import asyncio
import time
from dataclasses import dataclass, replace

import structlog

from agent_session.activities.attempt import Run, StaleAttempt
from agent_session.activities.judge import digest_of
from agent_session.domain.authority import ALLOW, APPROVE_GRANT, SHELL_GRANT, decision_is_signed
from agent_session.domain.ids import call_id
from agent_session.domain.turns import ASK, RUN, ToolInput, ToolSummary
from agent_session.live.events import TOOL_FINISHED, TOOL_OUTPUT, TOOL_STARTED, LiveEvent
from agent_session.operations import Services, workspace_of
from agent_session.tools import Tool, ToolContext, ToolError
from agent_session.transcript import lines as L
from agent_session.transcript.lines import Line
from agent_session.transcript.log import VolumeFault
from agent_session.transcript.recorder import INTERRUPTED_TEXT, Recorded
from agent_session.transcript.volume import VolumeUnavailable

OUTPUT_CHARS = 4_000  #: of arguments and output, for watchers

log = structlog.get_logger("agent_session.execute_tool")


@dataclass(frozen=True)
class Outcome:
    word: str
    content: str


async def run_call(services: Services, request: ToolInput, run: Run) -> ToolSummary:
    """Errors: VolumeUnavailable, VolumeFault, TurnEnded, UnknownTurn, StaleAttempt."""
    began = time.monotonic()
    call = call_id(request.turn, request.step, request.index)
    await services.record.catch_up(request.key, request.turn, request.after_seq)
    line, result = await services.record.find_call(request.key, request.turn, request.step, request.index)
    if result is not None:
        return _summary(Recorded(result, request.after_seq), began)
    why = await asyncio.to_thread(refusal, services, request, line)
    if why is None and line.get("verdict") == ASK:
        await _record_decision(services, request, call, run)
    tool = services.toolbox.find(str(line["name"]))
    if why is None and tool is not None and tool.effects == "side_effects":
        found = await services.record.started(request.key, request.turn, call, run.attempt, run)
        if found is not None:
            return _summary(found, began)
    outcome = why if why is not None or tool is None else await _call(services, request, tool, line, call, run)
    if outcome is not None:
        ended = replace(_live(request, TOOL_FINISHED, line), outcome=outcome.word, ms=_ms_since(began))
        services.live.publish(replace(ended, text=outcome.content[:OUTPUT_CHARS]))
    return _summary(await _write(services, request, call, line, outcome or Outcome("refused", ""), run, began), began)


def refusal(services: Services, request: ToolInput, line: Line) -> Outcome | None:
    """Why the call must not run here and now; None when it may. Anything that differs from what was
    judged, or weaker confinement than what a person allowed, is refused."""
    name = str(line["name"])
    why = services.toolbox.why_not(name)
    if why:
        return Outcome("refused", f"Not run: {why}.")
    digest = digest_of(services, name, str(line["args"]), str(workspace_of(services.volume, request.key)))
    if line.get("verdict") == RUN:
        if services.toolbox.asks(name, (SHELL_GRANT,)):
            return Outcome("refused", "Not run: on this worker the tool asks a person first. Call it again.")
        return None
    given = request.decision
    key = services.volume.signing_key(services.settings.mac_key_file)
    call = str(line["id"])
    if given is None or not decision_is_signed(
        key, request.key, call, str(line["digest"]), given.decision, given.principal, given.grants, given.mac
    ):
        return Outcome("denied", "Not run: nobody who may allow it has done so.")
    if given.decision == ALLOW and APPROVE_GRANT not in given.grants:
        return Outcome("denied", f"Not run: {given.principal} may not allow it.")
    if given.decision != ALLOW:
        return Outcome("denied", f"A person did not allow this call. {given.reason}".strip())
    if digest != line["digest"]:
        return Outcome("refused", "Not run: what would run here differs from what was allowed. Call it again.")
    return None


async def _record_decision(services: Services, request: ToolInput, call: str, run: Run) -> None:
    assert request.decision is not None
    line = L.event_line(
        request.turn, L.APPROVAL, call=call, decision=request.decision.decision, principal=request.decision.principal
    )
    await services.record.event(request.key, request.turn, line, run)


async def _call(services: Services, request: ToolInput, tool: Tool, line: Line, call: str, run: Run) -> Outcome:
    """Run it; whatever happens becomes words, except the loss of the right to act."""
    begun = replace(_live(request, TOOL_STARTED, line), text=str(line["args"])[:OUTPUT_CHARS])
    ctx = ToolContext(
        session=request.key,
        call=call,
        workspace=await asyncio.to_thread(workspace_of, services.volume, request.key),
        artifacts=services.volume.path_of(request.key) / "artifacts",
        settings=services.settings.tools,
        model_name=services.model.name,
        before_effect=run.prove,
        on_output=lambda text: services.live.publish(replace(begun, kind=TOOL_OUTPUT, text=text[-OUTPUT_CHARS:])),
    )
    services.live.publish(begun)
    try:
        arguments = tool.parse(str(line["args"]))
        return Outcome("ok", await asyncio.wait_for(services.run_tool(tool, arguments, ctx), tool.timeout_s))
    except ToolError as error:
        return Outcome("error", str(error))
    except StaleAttempt:
        raise
    except TimeoutError:
        return Outcome("error", f"Stopped after {tool.timeout_s} s.")
    except asyncio.CancelledError:
        if run.why_cancelled == "lost":
            raise
        word = "cancelled" if run.why_cancelled == "cancelled" else "interrupted"
        return Outcome(word, INTERRUPTED_TEXT)
    except (VolumeUnavailable, VolumeFault):
        raise
    except Exception as error:
        log.exception("a tool failed in an unforeseen way", tool=tool.name)
        return Outcome("error", f"The tool {tool.name} failed: {type(error).__name__}: {error}"[:2000])


def _live(request: ToolInput, kind: str, line: Line) -> LiveEvent:
    tool, call = str(line["name"]), str(line["id"])
    return LiveEvent(session=request.key, kind=kind, turn=request.turn, step=request.step, tool=tool, call=call)


async def _write(
    services: Services, request: ToolInput, call: str, line: Line, outcome: Outcome, run: Run, began: float
) -> Recorded:
    """The effect has happened: retry the append alone while the volume is away."""
    result = L.result_line(
        request.turn,
        call,
        outcome.word,
        outcome.content,
        name=line["name"],
        duration_s=round(time.monotonic() - began, 3),
    )
    deadline, pause = time.monotonic() + services.settings.volume.patience_s, 0.2
    while True:
        try:
            return await services.record.result(request.key, request.turn, result, run)
        except (VolumeUnavailable, VolumeFault):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)


def _summary(recorded: Recorded, began: float) -> ToolSummary:
    line = recorded.line
    size = int(line.get("size") or len(str(line.get("content", "")).encode("utf-8", "replace")))
    return replace(
        ToolSummary(seq=recorded.seq, outcome=str(line.get("outcome", "ok")), size=size),
        duration_ms=_ms_since(began),
    )


def _ms_since(began: float) -> int:
    return int((time.monotonic() - began) * 1000)
