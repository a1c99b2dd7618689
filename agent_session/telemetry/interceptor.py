"""Turns as they pass through a worker's workflows, attempts as they run there: measured, and traced. Adds no event."""

import time
from functools import partial
from typing import Any, NoReturn, cast

from temporalio import activity, workflow
from temporalio.worker import (
    ActivityInboundInterceptor,
    ContinueAsNewInput,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    HandleSignalInput,
    StartActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.worker import Interceptor as WorkerInterceptor

from agent_session.domain.beats import Beats
from agent_session.domain.ids import key_of_workflow
from agent_session.settings import Settings
from agent_session.telemetry import spans, switches
from agent_session.telemetry.headers import CARRIED, RECEIVE, SESSIONS, TURN, Raw, mapping, packed, unpacked
from agent_session.telemetry.story import Story

LATE_S = 300.0


def worker_interceptors(settings: Settings) -> list[WorkerInterceptor]:
    """Of a worker of this process; none where nothing is measured or traced. Errors: BadSettings."""
    measured, traced = switches.core_metrics is not None, spans.set_up(settings)
    return [Passing(measured=measured, traced=traced)] if measured or traced else []


class Passing(WorkerInterceptor):
    """One a worker. `measured`: sessions record measures."""

    def __init__(self, *, measured: bool, traced: bool) -> None:
        super().__init__()
        self._measured, self._traced = measured, traced

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Attempts(next) if self._traced else next

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        traced = self._traced

        class Sessions(_Sessions):
            def __init__(self, next: WorkflowInboundInterceptor) -> None:
                super().__init__(next, Story(traced=traced))

        return Sessions


class _Attempts(ActivityInboundInterceptor):
    """Each attempt at a step of a turn, as a child of the turn."""

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        told = unpacked(input.headers, TURN)
        if not told:
            return await super().execute_activity(input)
        info = activity.info()
        turn = spans.TurnContext(
            turn=str(told.get("turn", "")),
            parent=str(told.get("parent", "")),
            links=tuple(map(str, told.get("links") or ())),
            began_ms=int(told.get("ms", 0)),
        )
        attributes = {
            "gen_ai.conversation.id": spans.conversation_of(key_of_workflow(info.workflow_id or "")),
            "agent_session.attempt": info.attempt,
        }
        late = time.time() - info.scheduled_time.timestamp() > LATE_S  # of a channel that was down: linked
        parent, links = ("", [turn.turn]) if late else (turn.turn, [])
        token = spans.CURRENT.set(turn)
        try:
            with spans.span(f"attempt {info.activity_type}", attributes, kind="CONSUMER", parent=parent, links=links):
                return await super().execute_activity(input)
        finally:
            spans.CURRENT.reset(token)


class _Sessions(WorkflowInboundInterceptor):
    """A session's workflow; others pass through."""

    def __init__(self, next: WorkflowInboundInterceptor, story: Story) -> None:
        super().__init__(next)
        self._story = story

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Steps(outbound, self._story))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        if _is_session():
            self._story.begins(input.headers, input.args)
        return await super().execute_workflow(input)

    async def handle_signal(self, input: HandleSignalInput) -> None:
        if input.signal != RECEIVE or not _is_session():
            await super().handle_signal(input)
            return
        self._story.received(input.headers, input.args)
        before = _beats().skipped
        await super().handle_signal(input)
        if (after := _beats()).skipped > before:
            self._story.skipped(after.skip)


def _is_session() -> bool:
    return workflow.info().workflow_type in SESSIONS


def _beats() -> Beats:
    return cast(Beats, workflow.instance().beats)


class _Steps(WorkflowOutboundInterceptor):
    """What a session sets going."""

    def __init__(self, next: WorkflowOutboundInterceptor, story: Story) -> None:
        super().__init__(next)
        self._story = story

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        request: Raw = mapping(input.args[0]) if input.args else {}
        if input.activity == "llm_chat":
            self._story.takes_up(request)
        elif input.activity == "answer_aside":
            self._story.answered_aside(request)
        turn = str(request.get("turn") or request.get("reply") or "")
        if turn and (told := self._story.header_for(turn)):
            input.headers = {**input.headers, TURN: packed(told)}
        handle = super().start_activity(input)
        if input.activity in ("llm_chat", "record_turn"):
            handle.add_done_callback(partial(self._done, turn, input.activity))
        return handle

    def _done(self, turn: str, kind: str, handle: Any) -> None:
        if handle.cancelled() or handle.exception() is not None:
            return
        answer = mapping(handle.result())
        if kind == "llm_chat":
            self._story.answered(turn, answer)
        finish = "ended" if kind == "record_turn" else answer.get("finish", "stop")
        outcome = "answered" if finish == "stop" else str(answer.get("outcome", "")) if finish == "ended" else ""
        self._story.ended(turn, outcome)

    def continue_as_new(self, input: ContinueAsNewInput) -> NoReturn:
        if _is_session() and (told := self._story.carried()) is not None:
            input.headers = {**input.headers, CARRIED: told}
        super().continue_as_new(input)
