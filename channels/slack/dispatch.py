"""One place where everything arrives that Slack tells, over a socket or by HTTP."""

from channels.slack.buttons import Buttons
from channels.slack.commands import take_command
from channels.slack.events import GONE, Json, mapping, mappings
from channels.slack.inbound import Inbound, log

EVENTS, COMMANDS, INTERACTIVE = "events_api", "slash_commands", "interactive"


class Dispatch:
    """Of one process."""

    def __init__(self, inbound: Inbound) -> None:
        self._inbound, self._buttons = inbound, Buttons(inbound)

    async def take(self, kind: str, payload: Json, attempt: int = 0) -> Json | None:
        """Returns what goes with the acknowledgement. Errors: any; then it was not accepted."""
        if not is_of_team(payload, self._inbound.me.team):
            log.warning("something of another workspace was left alone", kind=kind)
            return None
        if kind == EVENTS:
            event = mapping(payload.get("event"))
            if event.get("type") in GONE:
                log.error("the app was taken out of the workspace, or its token was revoked", event=event.get("type"))
            await self._inbound.take(event, attempt)
        elif kind == COMMANDS:
            return await take_command(self._inbound, payload)
        elif kind == INTERACTIVE:
            await self._buttons.take_press(payload)
        return None


def is_of_team(payload: Json, team: str) -> bool:
    """Whether it happened in our workspace, or reaches us through it; also when Slack does not say."""
    named = [one.get("team_id") for one in mappings(payload.get("authorizations"))]
    named += [payload.get("team_id"), payload.get("context_team_id"), mapping(payload.get("team")).get("id")]
    return team in named or not any(named)
