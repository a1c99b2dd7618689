"""`/agent status`, `/agent stop` …: the session's own slash commands, by Slack's.

Slack takes no slash command in a thread, so in a channel the command is for the session of the channel, if it has
one. The session answers where it was asked, also while a turn runs; what is said here at once is seen
by that person only.
"""

from typing import Any

from agent_session.client import NoSuchSession
from agent_session.domain.commands import COMMANDS, HELP
from channels.slack.events import Json
from channels.slack.inbound import SEND_S, Inbound
from channels.slack.markup import plain
from channels.slack.places import SlackPlace

ALIASES = {"approve": "allow"}
HINT = "Threads have sessions of their own: in a thread, mention me with the command, as in `@agent /status`."


async def take_command(inbound: Inbound, payload: Json) -> Json | None:
    """Returns what is shown to the person alone, if anything. Errors: any; then it was not accepted."""
    user, channel = str(payload.get("user_id") or ""), str(payload.get("channel_id") or "")
    person = await inbound.people.person(user)
    if person is None or not inbound.where.is_heard(channel):
        return None  # as everywhere: silence
    word, _, rest = plain(str(payload.get("text") or ""), {}).strip().lstrip("/").partition(" ")
    word = ALIASES.get(word, word) or HELP
    if word == HELP or word not in COMMANDS:
        problem = [] if word == HELP else [f"There is no {word[:40]!r}."]
        return _words("\n".join([*problem, *(f"`/agent {name}`  {what}" for name, what in COMMANDS.items()), HINT]))
    direct = channel.startswith("D")
    place = SlackPlace(inbound.me.team, await inbound.people.direct(user) if direct else channel)
    key = await inbound.where.session_of(place.channel, user, "", owner=person.owner)
    how: dict[str, Any] = {"reply_address": place.address, "start": direct, "timeout_s": SEND_S}
    sent = f"{inbound.me.team}/command/{payload.get('trigger_id')}"
    try:
        await inbound.client_of(person).send(
            key, f"/{word} {rest}".strip(), id=sent, sender=await inbound.people.name(user), **how
        )
    except NoSuchSession:
        return _words(f"This channel has no session of its own. {HINT}")
    except ValueError as error:
        return _words(f"I could not take that: {error}")
    return _words("The answer comes in our own conversation.") if place.channel != channel else None


def _words(text: str) -> Json:
    return {"response_type": "ephemeral", "text": text}
