"""Workflows that a Temporal Schedule starts: each runs one activity, which hands a message to its session.

A workflow can neither query nor signal-with-start, so the activity does it. Must stay small: the sandbox loads this
module anew for each run. On workers with versions they are not pinned to a build, unlike sessions: they never roll
over, and one may wait for a day. So what they do may only change behind `workflow.patched`.
"""

from datetime import timedelta
from typing import Any, cast

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey, VersioningBehavior

with workflow.unsafe.imports_passed_through():
    from agent_session.workflows.core import BEHIND_PEOPLE

SCHEDULED = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
SAY_TIMEOUT, SAY_PATIENCE = timedelta(seconds=10), timedelta(days=1)
BEAT_TIMEOUT, BEAT_PATIENCE = timedelta(seconds=20), timedelta(seconds=60)


@workflow.defn(name="HeartbeatWorkflow")
class HeartbeatWorkflow:
    """One beat of one session. One that fails for a minute is left out: the next one comes anyway."""

    @workflow.run
    async def run(self, raw: Any) -> str:
        """Returns `sent`, or why it was skipped."""
        info = workflow.info()
        due = info.typed_search_attributes.get(SCHEDULED) or info.start_time
        given: dict[str, Any] = cast(dict[str, Any], raw) if isinstance(raw, dict) else {}
        return await workflow.execute_activity(
            "beat",
            {"key": given.get("key"), "now": given.get("now"), "due_ms": int(due.timestamp() * 1000)},
            result_type=str,
            start_to_close_timeout=BEAT_TIMEOUT,
            schedule_to_close_timeout=BEAT_PATIENCE,
            retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=10)),
            priority=BEHIND_PEOPLE,
        )


@workflow.defn(name="ScheduledMessageWorkflow")
class ScheduledMessageWorkflow:
    """One time of a schedule has come: its message goes into the session. No words in here (I2). Waits for a day for a
    volume that is away, or a session that takes no more."""

    @workflow.run
    async def run(self, raw: Any) -> str:
        """Returns `said`, or `removed` when there is no such schedule any more."""
        info = workflow.info()
        due = info.typed_search_attributes.get(SCHEDULED) or info.start_time
        given: dict[str, Any] = cast(dict[str, Any], raw) if isinstance(raw, dict) else {}
        return await workflow.execute_activity(
            "say_scheduled",
            {**given, "due_s": int(due.timestamp())},
            result_type=str,
            start_to_close_timeout=SAY_TIMEOUT,
            schedule_to_close_timeout=SAY_PATIENCE,
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=0.2), maximum_interval=timedelta(seconds=30)),
        )


@workflow.defn(name="HeartbeatWorkflow", versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class UnpinnedHeartbeatWorkflow(HeartbeatWorkflow):
    """For workers with versions; a server refuses the word from a worker without, which then hangs."""

    @workflow.run
    async def run(self, raw: Any) -> str:
        return await super().run(raw)


@workflow.defn(name="ScheduledMessageWorkflow", versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class UnpinnedScheduledMessageWorkflow(ScheduledMessageWorkflow):
    """Likewise."""

    @workflow.run
    async def run(self, raw: Any) -> str:
        return await super().run(raw)
