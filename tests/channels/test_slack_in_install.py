"""An install of the app in Slack: what the manifest asks for, what was granted, and what the self-test says of it."""

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from slack_sdk.web.async_client import AsyncWebClient
from structlog.testing import capture_logs

import channels.slack
from channels.slack import probe
from channels.slack.channel import SlackChannel
from channels.slack.events import GONE, TOLD
from channels.slack.web import SCOPES
from tests.channels.slack_in_support import OWNER, Slack, made
from tests.fakes.slack import FakeSlack
from tests.fakes.slack_web import APP_TOKEN_METHODS, HISTORY, INFO, MANIFEST
from tests.fakes.slack_web import SCOPES as NEEDED
from tests.gateway.support import door

FAMILIES = ("apps", "assistant", "auth", "chat", "conversations", "files", "users", "views", "reactions", "agents")
PATIENT_S = 15.0  #: what comes at once on a quiet machine
#: what each event needs, by Slack's reference; those of a token's end need nothing
EVENT_SCOPES = {
    "app_mention": "app_mentions:read", "message.channels": "channels:history", "message.groups": "groups:history",
    "message.im": "im:history", "message.mpim": "mpim:history", "agent_session_stopped": "assistant:write",
    "app_uninstalled": "", "tokens_revoked": "",
}  # fmt: skip


@pytest.fixture
async def slack(fake: FakeSlack, make_service: Callable[..., Any]) -> Slack:
    return await made(fake, make_service)


@pytest.fixture
async def running(slack: Slack) -> AsyncIterator[Slack]:
    async with slack.up():
        yield slack


def called() -> set[str]:
    """The methods of the Web API that the code calls, as Slack names them."""
    folder = Path(channels.slack.__file__).parent
    named = re.compile(rf"(?:\.|\")((?:{'|'.join(FAMILIES)})_[A-Za-z_]+)(?:\(|\")")
    found = {name for path in folder.glob("*.py") for name in named.findall(path.read_text())}
    return {name.replace("_", ".") for name in found if hasattr(AsyncWebClient, name)}


def test_every_method_that_is_called_has_its_scope_and_every_scope_its_use() -> None:
    methods = called() - set(APP_TOKEN_METHODS)
    assert {"chat.postMessage", "conversations.history", "users.info", "auth.test"} <= methods
    assert methods <= set(NEEDED), "look up which scope it needs"
    needed = {scope for method in methods if "{}" not in (scope := NEEDED[method])} - {""}
    if HISTORY in {NEEDED[method] for method in methods}:
        needed |= {f"{kind}:history" for kind in ("channels", "groups", "im", "mpim")}
    if INFO in {NEEDED[method] for method in methods}:
        needed.add("mpim:read")  # it is asked whether a conversation is a group's, and about no other
    needed |= {EVENT_SCOPES[event] for event in MANIFEST["settings"]["event_subscriptions"]["bot_events"]} - {""}
    needed |= {"commands"} if MANIFEST["features"]["slash_commands"] else set()
    assert set(MANIFEST["oauth_config"]["scopes"]["bot"]) == needed == set(SCOPES)


def test_every_event_of_the_manifest_is_handled_and_every_handled_event_is_in_it() -> None:
    events = MANIFEST["settings"]["event_subscriptions"]["bot_events"]
    assert {event.partition(".")[0] for event in events} == {*TOLD, *GONE}
    assert {event for event in events if event.startswith("message.")} == {
        "message.channels", "message.groups", "message.im", "message.mpim"
    }  # fmt: skip


def test_the_manifest_makes_an_agent_as_slack_has_them_now() -> None:
    features = MANIFEST["features"]
    assert "assistant_view" not in features, "Slack makes no new app of that kind"
    assert features["agent_view"]["agent_description"]
    assert features["app_home"]["messages_tab_enabled"]
    assert not features["app_home"]["messages_tab_read_only_enabled"]
    assert MANIFEST["settings"]["socket_mode_enabled"]


async def test_an_install_short_of_scopes_is_said_by_the_probe_and_at_start(slack: Slack) -> None:
    slack.fake.web.scopes -= {"files:write", "mpim:history"}
    said = await SlackChannel(slack.service.settings).probe()
    assert "installed without files:write, mpim:history" in said
    assert "Reinstall the app" in said
    with capture_logs() as logs:
        async with slack.replica():
            await slack.connected()
    (line,) = [one for one in logs if one["log_level"] == "error"]
    assert "files:write, mpim:history" in line["reason"]


async def test_a_server_that_names_no_scopes_is_not_said_to_lack_any(slack: Slack) -> None:
    slack.fake.web.scopes.clear()
    said = await SlackChannel(slack.service.settings).probe()
    assert said == "Slack refused conversations.open: missing_scope"


async def test_without_the_scope_for_names_people_are_answered_all_the_same(running: Slack) -> None:
    running.fake.web.scopes.discard("users:read")
    running.fake.says(OWNER, "remember <@U2>")
    assert await running.answers(running.fake.dm(OWNER)) == ["I will remember: @U2"]
    (line,) = [line for line in running.service.lines(running.main) if line["role"] == "user"]
    assert line["sender"] == OWNER


async def test_beside_a_process_that_runs_the_probe_opens_no_connection_and_sees_its_message_come_in(
    running: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second connection would be told presses and commands, which Slack tells once."""
    monkeypatch.setattr(probe, "HEARD_S", PATIENT_S)
    assert await SlackChannel(running.service.settings).probe() == ""
    assert running.fake.events.opened == 1
    assert [call.outcome for call in running.fake.calls("chat.delete")] == ["ok"]
    assert await running.is_untouched(running.main)


async def test_without_a_process_the_probe_listens_itself_and_takes_nothing_away(slack: Slack) -> None:
    slack.fake.events.redeliver_after_s = 0.5
    slack.fake.says(OWNER, "remember blue")
    assert await SlackChannel(slack.service.settings).probe() == ""
    assert slack.fake.events.opened == 1
    (envelope,) = [one for one in slack.fake.events.envelopes if one.payload["event"].get("user") == OWNER]
    assert not envelope.acked.is_set(), "Slack tells it again"


async def test_an_app_that_is_told_nothing_is_not_called_well(running: Slack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "HEARD_S", 0.5)
    running.fake.echoes = False  # as without the subscriptions
    said = await SlackChannel(running.service.settings).probe()
    assert "Slack told nobody of it" in said
    assert "Reinstall the app" in said
    assert running.fake.messages(running.fake.dm(OWNER)) == []


async def test_by_http_the_probe_says_whether_the_gateway_was_told(
    fake: FakeSlack, make_service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    slack = await made(fake, make_service, slack={"app_token": ""})
    channel = SlackChannel(slack.service.settings)
    monkeypatch.setattr(probe, "HEARD_S", 0.5)
    said = await channel.probe()
    assert "it was not seen to come in" in said
    assert "/channels/slack/events" in said
    monkeypatch.setattr(probe, "HEARD_S", PATIENT_S)
    async with door(slack.service) as gateway:
        fake.events.url = f"{gateway.url}/channels/slack/events"
        assert await channel.probe() == ""
    assert fake.events.opened == 0
