"""The command `page`: a link that signs a browser in, once, within a minute."""

from typing import Annotated
from urllib.parse import quote

import typer

from agent_session.cli.common import DataDir, run, say, settings_from
from agent_session.settings import BadSettings, Settings


def page(
    session: Annotated[str, typer.Argument(help="The session to open.")] = "main",
    data_dir: DataDir = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser, too.")] = False,
) -> None:
    """Print a link to the gateway's page. Its code is good for one browser, within 60 s.

    Exit: 0 printed, 2 no gateway or no token, 4 unreachable.
    """
    url = run(_link(settings_from(data_dir), session))
    print(url)
    if open_it:
        import webbrowser

        if not webbrowser.open(url):
            say("no browser could be opened here: follow the link by hand")


async def _link(settings: Settings, session: str) -> str:
    from agent_session.domain.ids import session_key
    from agent_session.gateway.address import read_gateway
    from agent_session.remote.http import GatewayHttp
    from agent_session.remote.target import target_of

    key = session_key(session)
    if not settings.gateway.url:
        local = read_gateway(settings.data_dir)
        if local is None:
            raise BadSettings(
                f"no gateway runs on {settings.data_dir}: start 'agent-session up', or give --url and --token-file"
            )
        settings = settings.model_copy(update={"gateway": settings.gateway.model_copy(update={"url": local.url})})
    target = target_of(settings)
    async with GatewayHttp(target) as gateway:
        _, answer = await gateway.call("POST", "/v1/codes", json={})
    return f"{target.url}/#code={quote(str(answer['code']), safe='')}&session={quote(key, safe='')}"
