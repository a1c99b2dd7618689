"""Messages on their way to a session, from any client of ours: counted, and traced.

Each says in a header when it was sent (about 60 bytes of event history), so that the time that it waits counts whatever
was down meanwhile. Light to import: every command that talks to Temporal has it.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

from temporalio.client import Interceptor, OutboundInterceptor, SignalWorkflowInput, StartWorkflowInput, WorkflowHandle

from agent_session.domain.ids import key_of_workflow
from agent_session.telemetry import spans, switches
from agent_session.telemetry.headers import MESSAGE, RECEIVE, SESSIONS, Raw, packed


class Sending(Interceptor):
    """One a client."""

    def __init__(self, *, traced: bool) -> None:
        super().__init__()
        self._traced = traced

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Outbound(next, self._traced)


class _Outbound(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, traced: bool) -> None:
        super().__init__(next)
        self._traced = traced

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        if input.start_signal == RECEIVE:
            message = _first(input.start_signal_args)
        elif input.workflow in SESSIONS:
            inbox = cast(Raw, _first(input.args).get("inbox") or {})
            message = _first(inbox.get("head") or ())
        else:
            return await super().start_workflow(input)
        with self._span(message, input.id) as parent:
            input.headers = {**input.headers, MESSAGE: _sent(parent)}
            started = await super().start_workflow(input)
        _count(message)
        return started

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:
        if input.signal != RECEIVE:
            await super().signal_workflow(input)
            return
        message = _first(input.args)
        with self._span(message, input.id) as parent:
            input.headers = {**input.headers, MESSAGE: _sent(parent)}
            await super().signal_workflow(input)
        _count(message)

    def _span(self, message: Raw, workflow_id: str) -> AbstractContextManager[Any]:
        if not self._traced:
            return nullcontext()
        channel = str(message.get("channel", ""))
        attributes = {
            "messaging.operation.type": "send",
            "messaging.system": "temporal",
            "gen_ai.conversation.id": spans.conversation_of(key_of_workflow(workflow_id)),
            "agent_session.channel": channel,
            "agent_session.kind": str(message.get("kind", "person")),
        }
        return spans.span(f"message {channel}", attributes, kind="PRODUCER")


def _sent(parent: Any) -> Any:
    told: dict[str, Any] = {"ms": int(time.time() * 1000)}
    return packed(told | {"span": spans.parent_of(parent)} if parent is not None else told)


def _first(args: Sequence[Any]) -> Raw:
    return cast(Raw, args[0]) if args and isinstance(args[0], dict) else {}


def _count(message: Raw) -> None:
    if switches.core_metrics is None:
        return
    from agent_session.telemetry import metrics

    channel = metrics.bounded("channel", str(message.get("channel", "")))
    metrics.messages.labels(channel, str(message.get("kind", "person"))).inc()
