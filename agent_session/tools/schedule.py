"""The agent's schedules: words that its own session is told at times to come. Making or removing one asks a person
first; what it says later carries no rights.
"""

from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from agent_session.domain.schedules import BadSchedule, Shown, Wanted
from agent_session.settings import ToolsSettings
from agent_session.tools.base import OwnSchedules, ToolContext, ToolError, tool

ADD, LIST, REMOVE = "add", "list", "remove"
WORDS_SHOWN = 200


def asks(arguments: dict[str, Any], settings: ToolsSettings) -> str:
    """Looking asks nobody."""
    if arguments.get("action") == ADD:
        return "it makes a schedule: this session will be told these words at that time, without anybody asking"
    return "it removes a schedule" if arguments.get("action") == REMOVE else ""


@tool(effects="idempotent", timeout_s=60, parallel=False, asks=asks)
async def schedule(
    ctx: ToolContext,
    action: Annotated[Literal["add", "list", "remove"], "What to do with this session's schedules."],
    text: Annotated[str, "add: what you are to be told when the time comes, so that you know what to do."] = "",
    at: Annotated[str, "add, once: a day and time like 2026-12-01T09:00."] = "",
    after: Annotated[str, "add, once: so long from now, like 20m, 1h30m or 2d."] = "",
    every: Annotated[str, "add, again and again: so long between, like 30m; at least 10s."] = "",
    cron: Annotated[str, "add, again and again: minute, hour, day, month, day of the week, like 0 9 * * 1-5."] = "",
    time_zone: Annotated[str, "add: what at and cron mean, like Europe/Rome; else the service's own."] = "",
    target: Annotated[
        str, "add: where your answer goes: last (where a person last wrote from), none, file:x."
    ] = "last",
    name: Annotated[str, "add: a short name, if you like; remove: the name of the one to remove."] = "",
) -> str:
    """Reminders and regular work: have this session told something at times to come. A person is asked first. `list`
    also says what time it is."""
    if ctx.schedules is None:
        raise ToolError("this worker keeps no schedules")
    try:
        if action == LIST:
            rows = [_line(one) for one in await ctx.schedules.listed()] or ["This session has no schedules."]
            return "\n".join([f"It is {ctx.schedules.now()}.", *rows])
        if action == REMOVE:
            return await _removed(ctx.schedules, name)
        wanted = Wanted(
            text=text, at=at, within=after, every=every, cron=cron, time_zone=time_zone, target=target, name=name
        )
        return f"Made: {_line(await ctx.schedules.add(wanted))}"
    except BadSchedule as error:
        raise ToolError(str(error)) from None


async def _removed(schedules: OwnSchedules, name: str) -> str:
    """Idempotent, for a call that is made again after its worker was lost."""
    names = [one.name for one in await schedules.listed()]
    if not name:
        raise ToolError(f"name the schedule to remove; there are: {', '.join(names) or 'none'}")
    if name not in names:
        return f"There is no schedule {name} (any more); there are: {', '.join(names) or 'none'}."
    await schedules.remove(name)
    return f"Removed: {name}."


def _line(found: Shown) -> str:
    coming = [datetime.fromtimestamp(time, ZoneInfo(found.time_zone)) for time in found.next_s[:1]]
    parts = [found.name, found.state, f"{found.when} ({found.time_zone})" if found.when else ""]
    parts += [f"next {time:%Y-%m-%d %H:%M:%S}" for time in coming]
    return " · ".join(part for part in [*parts, f"to {found.target}", found.text[:WORDS_SHOWN]] if part)
