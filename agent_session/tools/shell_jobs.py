"""The background form of the shell: start a server or a long job, look at it in later turns, stop it.

A job does not outlive the worker that runs it, and says so honestly; see `agent_session/sandbox/jobs.py`.
"""

import asyncio
import time
from typing import Annotated

from agent_session.domain.authority import SHELL_GRANT
from agent_session.sandbox.command import CannotStart
from agent_session.sandbox.jobs import LOST, RUNNING, STOPPED, Job, Jobs, NoSuchJob
from agent_session.tools.base import ToolContext, ToolError, tool
from agent_session.tools.shell import asks, available, subject

JOBS = 8  #: that run at once in a session
SHOWN_BYTES = 16 * 1024
SETTLE_S = 1.0  #: a command that is wrong ends at once: then its first words say so
STOP_S = 10.0

_one_at_a_time = asyncio.Lock()  #: calls of one step run in parallel; counted together they may not pass the limit


@tool(
    effects="side_effects",
    timeout_s=60,
    grant=SHELL_GRANT,
    available=available,
    asks=asks,
    subject=subject,
    is_command=True,
)
async def shell_start(ctx: ToolContext, command: Annotated[str, "The command, for /bin/sh."]) -> str:
    """Start a shell command in the background (a server, a long job) and return its job id. It goes on when
    this turn has ended; it ends with shell_stop, or when the worker that runs it is stopped."""
    jobs = Jobs(ctx.artifacts.parent)
    if "\0" in command:
        raise ToolError("the command holds a NUL character")
    async with _one_at_a_time:
        if sum(job.state == RUNNING for job in await asyncio.to_thread(jobs.all)) >= JOBS:
            raise ToolError(f"{JOBS} jobs run already: stop one first (shell_poll without a job lists them)")
        await ctx.before_effect()
        try:
            await jobs.start(ctx.call, command, ctx.workspace, ctx.settings)
        except CannotStart as error:
            raise ToolError(str(error)) from None
    return await _report(jobs, await jobs.ended(ctx.call, SETTLE_S), 0)


@tool(effects="none", timeout_s=60, grant=SHELL_GRANT)
async def shell_poll(
    ctx: ToolContext,
    job: Annotated[str, "The job's id; empty lists all jobs of this session."] = "",
    first_byte: Annotated[int, "Where to begin in its output; negative counts from the end."] = -4096,
) -> str:
    """Look at a background job: whether it runs, how it ended, and a piece of its output."""
    jobs = Jobs(ctx.artifacts.parent)
    if not job:
        found = await asyncio.to_thread(jobs.all)
        return "\n".join(f"{one.id}  {_fate(one)}  {one.command[:200]}" for one in found) or "There are no jobs."
    return await _report(jobs, await _look(jobs, job), first_byte)


@tool(effects="idempotent", timeout_s=60, grant=SHELL_GRANT)
async def shell_stop(ctx: ToolContext, job: Annotated[str, "The job's id."]) -> str:
    """Stop a background job and all that it started."""
    jobs = Jobs(ctx.artifacts.parent)
    if (await _look(jobs, job)).state == RUNNING:
        await ctx.before_effect()
        await asyncio.to_thread(jobs.ask_to_stop, job)
    return await _report(jobs, await jobs.ended(job, STOP_S), -4096)


async def _look(jobs: Jobs, id: str) -> Job:
    try:
        return await asyncio.to_thread(jobs.look, id)
    except NoSuchJob as error:
        raise ToolError(str(error)) from None


async def _report(jobs: Jobs, job: Job, first_byte: int) -> str:
    data, after = await asyncio.to_thread(jobs.output, job.id, first_byte, SHOWN_BYTES)
    shown = data.decode("utf-8", "replace")
    return f"job {job.id}: {_fate(job)}\n{shown}\n(output up to byte {after})"


def _fate(job: Job) -> str:
    if job.state == RUNNING:
        return f"running for {int(time.time()) - job.started_s} s"
    if job.state == LOST:
        return "lost: the worker that ran it is gone, and it was killed with it; start it again if it is needed"
    return "stopped" if job.state == STOPPED else f"ended with exit code {job.code}"
