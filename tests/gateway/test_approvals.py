"""Calls that wait for a person, over HTTP: what they would do, and decisions bound to exactly that."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.gateway.support import TOKENS, Door, door
from tests.support import Service, fresh_key

ASKING = {"ask": ["shell"]}


@pytest.fixture
async def asking(make_service: Callable[..., Any]) -> AsyncIterator[Door]:
    """A gateway whose shell asks first."""
    service: Service = await make_service(tools=ASKING)
    async with service.worker(), door(service) as opened:
        yield opened


async def waiting_in(opened: Door, key: str, command: str = "echo done") -> dict[str, Any]:
    """The one call that waits in a session that was asked to run a command."""
    await opened.say(key, f"run {command}", wait=0, headers={"Idempotency-Key": "m1"})
    await opened.service.until(key, lambda status: status.state == "waiting approval")
    (call,) = (await opened.get(f"/v1/sessions/{key}/approvals")).json["approvals"]
    return call


async def decide(opened: Door, key: str, call: dict[str, Any], decision: str, **more: Any) -> Any:
    sent = {"decision": decision, "digest": call["digest"], **more}
    return await opened.post(f"/v1/sessions/{key}/approvals/{call['call']}", json=sent)


async def test_a_call_that_waits_is_shown_and_runs_once_it_is_allowed(asking: Door) -> None:
    key = fresh_key()
    call = await waiting_in(asking, key)
    assert set(call) == {"call", "tool", "args", "digest", "why", "pattern"}
    assert (call["tool"], "echo done" in call["args"]) == ("shell", True)
    decided = await decide(asking, key, call, "allow")
    reply = await asking.say(key, "run echo done", headers={"Idempotency-Key": "m1"})
    assert (decided.status, decided.json) == (200, {"call": call["call"], "decision": "allow"})
    assert "done" in reply.json["text"]
    assert (await asking.get(f"/v1/sessions/{key}/approvals")).json == {"approvals": []}


async def test_a_call_that_is_denied_does_not_run_and_the_model_reads_why(asking: Door) -> None:
    key = fresh_key()
    call = await waiting_in(asking, key, "touch ran")
    await decide(asking, key, call, "deny", reason="not today")
    await asking.say(key, "run touch ran", headers={"Idempotency-Key": "m1"})
    result = next(line for line in asking.service.lines(key) if line["role"] == "tool")
    assert result["outcome"] == "denied"
    assert "not today" in result["content"]


async def test_a_pattern_allows_calls_like_it_for_the_session(asking: Door) -> None:
    key = fresh_key()
    call = await waiting_in(asking, key)
    await decide(asking, key, call, "allow", pattern=call["pattern"])
    await asking.say(key, "run echo done", headers={"Idempotency-Key": "m1"})
    again = await asking.say(key, "run echo done")
    assert (call["pattern"] != "", again.json["status"]) == (True, "answered")
    assert (await asking.get(f"/v1/sessions/{key}")).json["allowed"]


async def test_what_has_changed_is_not_decided(asking: Door) -> None:
    key = fresh_key()
    call = await waiting_in(asking, key)
    changed = await decide(asking, key, {**call, "digest": "0" * 32}, "allow")
    other = await decide(asking, key, {**call, "call": "t-0123456789abcdef-1-0"}, "allow")
    pattern = await decide(asking, key, call, "deny", pattern="echo *")
    assert [(one.status, one.code) for one in (changed, other, pattern)] == [
        (409, "changed"), (409, "not_waiting"), (400, "invalid_field"),
    ]  # fmt: skip
    assert (await asking.service.client.status(key)).state == "waiting approval"
    await decide(asking, key, call, "deny")


async def test_only_a_token_that_may_approve_decides(make_service: Callable[..., Any], tmp_path: Path) -> None:
    service: Service = await make_service(tools=ASKING)
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(TOKENS)
    tokens.chmod(0o600)
    async with service.worker(), door(service, token_file=tokens) as opened:
        key, phone = f"team/{fresh_key()}", "phone-token-0123456789"
        await opened.say(key, "run echo done", wait=0, token=phone)
        path = f"/v1/sessions/{quote(key, safe='')}/approvals"
        await service.until(key, lambda status: status.state == "waiting approval")
        seen = await opened.get(path, token=phone)
        (call,) = seen.json["approvals"]
        sent = {"decision": "allow", "digest": call["digest"]}
        refused = await opened.post(f"{path}/{call['call']}", json=sent, token=phone)
        allowed = await opened.post(f"{path}/{call['call']}", json=sent, token="judge-token-0123456789")
        await service.until(key, lambda status: status.state == "idle")
    assert (refused.status, refused.code, allowed.status) == (403, "scope_missing", 200)


async def test_nobody_is_told_that_nothing_waits_when_no_worker_can_say_so(make_service: Callable[..., Any]) -> None:
    async with door(await make_service()) as opened:
        await opened.say("s", "hello", wait=0)
        asked = await opened.get("/v1/sessions/s/approvals")
    assert (asked.status, asked.code, asked.headers["Retry-After"]) == (503, "no_worker", "2")
