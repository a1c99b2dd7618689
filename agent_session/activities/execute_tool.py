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
from agent_session.activities.permission import Permission, pattern_allowed, permission
from agent_session.activities.sending import Sending
from agent_session.activities.watchers import tell_approvals
from agent_session.domain.cards import request_text
from agent_session.domain.ids import call_id
from agent_session.domain.outbox import Delivery
from agent_session.domain.patterns import AllowedPattern
from agent_session.domain.turns import ASK, ToolInput, ToolSummary
from agent_session.domain.wire import from_wire, to_wire
from agent_session.live.events import TOOL_FINISHED, TOOL_OUTPUT, TOOL_STARTED, LiveEvent
from agent_session.operations import Services, workspace_of
from agent_session.telemetry import measure
from agent_session.tools import Tool, ToolContext, ToolError
from agent_session.transcript import lines as L
from agent_session.transcript import spool
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
    permitted = await asyncio.to_thread(permission, services, request, line)
    if permitted.outcome == "asks" and not await services.record.was_started(request.key, request.turn, call):
        return await asyncio.to_thread(_ask, services, request, line, permitted)
    if permitted.outcome == "asks":  # it has begun somewhere: its fate is told below, and nobody is asked for it
        permitted = Permission()
    allows = {} if permitted.outcome else await _record_decision(services, request, call, line, run)
    tool = services.toolbox.find(str(line["name"]))
    if not permitted.outcome and tool is not None and tool.effects == "side_effects":
        found = await services.record.started(request.key, request.turn, call, run.attempt, run)
        if found is not None:
            allowed = from_wire(AllowedPattern, allows["allows"]) if allows else None
            return replace(_summary(found, began), allowed=allowed)
    sent: list[Delivery] = []
    outcome = Outcome(permitted.outcome, permitted.why)
    if not permitted.outcome and tool is not None:
        with measure.tool_call(tool.name, call) as running:
            outcome = await _call(services, request, tool, line, call, run, sent)
            running.outcome = outcome.word
    sends = {"sends": [to_wire(one) for one in sent]} if sent and outcome.word == "ok" else {}
    recorded = await _write(services, request, line, outcome, run, began, allows | sends)
    if not recorded.written_before:
        measure.tool_ended(tool.name if tool is not None else "", outcome.word, time.monotonic() - began)
    ended = replace(_live(request, TOOL_FINISHED, line), outcome=outcome.word, ms=_ms_since(began))
    services.live.publish(replace(ended, text=outcome.content[:OUTPUT_CHARS]))
    return _summary(recorded, began)


def _ask(services: Services, request: ToolInput, line: Line, permitted: Permission) -> ToolSummary:
    """Ask, or ask again, for what would run on this worker."""
    call = {"call": str(line["id"]), "tool": str(line["name"]), "args": str(line["args"]), "digest": permitted.digest}
    why = {"why": permitted.why, "pattern": str(line.get("pattern", ""))}
    tell_approvals(services.live, _live(request, TOOL_STARTED, line), [{**line, "verdict": ASK, "why": permitted.why}])
    measure.asked(str(line["name"]))
    card = request_text([{**call, **why}], request.key).encode("utf-8", "replace")
    ref = spool.put(services.volume, request.key, card) if request.pushed else ""
    return ToolSummary(seq=request.after_seq, outcome="asks", digest=permitted.digest, card_ref=ref)


async def _record_decision(services: Services, request: ToolInput, call: str, line: Line, run: Run) -> Line:
    """The decision becomes an event of the transcript. Returns what it allows beyond this call, for the
    result's line: a retry finds it there."""
    given = request.decision
    if given is None:
        return {}
    principal = (await services.record.speaker(request.key, request.turn)).principal
    allowed = await asyncio.to_thread(pattern_allowed, services, request, line, principal)
    pattern = {"allows": to_wire(allowed)} if allowed is not None else {}
    event = L.event_line(
        request.turn, L.APPROVAL, call=call, decision=given.decision, principal=given.principal, **pattern
    )
    await services.record.event(request.key, request.turn, event, run)
    measure.decided(str(line["name"]), given)
    return pattern


async def _call(
    services: Services, request: ToolInput, tool: Tool, line: Line, call: str, run: Run, sent: list[Delivery]
) -> Outcome:
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
        send=Sending(services, request.key, request.turn, call, sent),
        on_output=lambda text: services.live.publish(replace(begun, kind=TOOL_OUTPUT, text=text[-OUTPUT_CHARS:])),
        schedules=services.schedules(request.key, call) if services.schedules else None,
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
    services: Services, request: ToolInput, line: Line, outcome: Outcome, run: Run, began: float, more: Line
) -> Recorded:
    """The effect has happened: retry the append alone while the volume is away."""
    result = L.result_line(
        request.turn,
        str(line["id"]),
        outcome.word,
        outcome.content,
        name=line["name"],
        duration_s=round(time.monotonic() - began, 3),
        **more,
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
        allowed=from_wire(AllowedPattern, line["allows"]) if line.get("allows") else None,
        deliveries=tuple(from_wire(Delivery, one) for one in line.get("sends") or ()),
    )


def _ms_since(began: float) -> int:
    return int((time.monotonic() - began) * 1000)
