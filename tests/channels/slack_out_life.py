"""A process of its own that delivers one reply: `python -m tests.channels.slack_out_life DATA_DIR API_URL TOKEN
[FILE …]`, files as their attachments' `wire`. Words come on standard input; it says `done` when the reply is
delivered, however often it must try."""

import asyncio
import sys
from pathlib import Path

from agent_session.domain.messages import attachment_from
from agent_session.settings_channels import SlackSettings
from agent_session.transcript.volume import Volume
from channels.slack.posting import Poster
from channels.slack.posting_calls import NotDone, Unsure
from channels.slack.web import web_client
from tests.channels.slack_out_support import SETTLE_S, reply


async def deliver(data_dir: str, api_url: str, token: str, *files: str) -> None:
    settings = SlackSettings.model_validate({"bot_token": token, "api_url": api_url})
    poster = Poster(web_client(settings), Volume(Path(data_dir)), settings, settle_s=SETTLE_S)
    out = reply(sys.stdin.read(), files=tuple(map(attachment_from, files)))
    while True:
        try:
            await poster.post(out)
            print("done", flush=True)
            return
        except (NotDone, Unsure):
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(deliver(*sys.argv[1:]))
