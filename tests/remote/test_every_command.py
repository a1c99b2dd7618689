"""Each command through a gateway prints what it prints where the service runs."""

import asyncio
import json
import re
from pathlib import Path

from tests.gateway.support import Door
from tests.remote.support import Shell, both, elsewhere
from tests.support import Service, fresh_key, live


async def test_what_is_said_is_answered_once_and_the_same(here: Shell, there: Shell, asking: Service) -> None:
    mine, theirs = fresh_key(), fresh_key()
    said = [(here, mine), (there, theirs)]
    first = [await shell.run("send", key, "remember blue", "--id", "one") for shell, key in said]
    again = [await shell.run("send", key, "remember blue", "--id", "one", "--json") for shell, key in said]
    assert [(one.code, one.out) for one in first] == [(0, "I will remember: blue\n")] * 2, first
    assert [one.json | {"turn": ""} for one in again] == [
        {
            "outcome": "answered",
            "text": "I will remember: blue",
            "turn": "",
            "n": 1,
            "error_id": "",
            "message_id": "one",
        }
    ] * 2
    assert [asking.said(key) for key in (mine, theirs)] == [["remember blue"]] * 2
    assert asking.lines(theirs)[0]["principal"] == "http:owner"


async def test_a_message_that_nobody_waits_for_is_accepted(here: Shell, there: Shell, asking: Service) -> None:
    key = fresh_key()
    local = await here.run("send", key, "remember a", "--id", "a", "--no-wait", "--json")
    remote = await there.run("send", key, "remember b", "--id", "b", "--no-wait", "--json")
    plain = await there.run("send", key, "remember b", "--id", "b", "--no-wait")
    assert local.json | {"scoped": ""} == {"session": key, "id": "a", "scoped": ""}
    assert remote.json == {"session": key, "id": "b", "scoped": ""}
    assert plain.out == "b\n"
    assert (await there.run("send", key, "remember b", "--id", "b")).code == 0
    assert sorted(asking.said(key)) == ["remember a", "remember b"]


async def test_a_transcript_of_many_pages_is_shown_whole(there: Shell, asking: Service) -> None:
    key = fresh_key()
    for number in range(70):
        await asking.client.send(key, f"remember {number}", id=str(number), mode="followup")
    for number in range(70):
        await asking.client.await_reply(key, str(number), timeout_s=60)
    shown = [json.loads(line)["seq"] for line in (await there.run("history", key, "--json")).out.splitlines()]
    assert shown == list(range(1, len(asking.lines(key)) + 1))
    assert len(shown) > 200  # more than one page


async def test_a_session_that_is_not_there_is_said_by_the_same_exit_code(here: Shell, there: Shell) -> None:
    key = fresh_key("none")
    for command in ("status", "cancel", "close", "history"):
        local, remote = await both(here, there, command, key)
        assert (local.code, remote.code) == (3, 3), (command, remote.err)
        assert remote.err.startswith("error: ")


def timeless(shown: str) -> str:
    """Without how long it has been waiting: the two were not asked in the same second."""
    return re.sub(r"\b\d\d:\d\d\b", "00:00", shown)


async def test_a_call_that_asks_is_listed_allowed_and_denied(here: Shell, there: Shell, asking: Service) -> None:
    key = fresh_key()
    asked = await there.run("send", key, "write f hello", "--id", "w")
    assert asked.code == 5
    assert "waits for a person: write_file" in asked.err
    for arguments in (("approvals", "list", key), ("approvals", "list", "--json"), ("status", key)):
        local, remote = await both(here, there, *arguments)
        assert (remote.code, timeless(remote.out)) == (0, timeless(local.out)), (arguments, remote.err)
    nothing = await there.run("approvals", "allow", key, "t-0-0-0")
    assert (nothing.code, "name one call" in nothing.err) == (1, True)
    assert (await there.run("approvals", "allow", key)).code == 0
    reply = await there.run("send", key, "write f hello", "--id", "w")
    assert (reply.code, "Wrote 5 bytes" in reply.out) == (0, True), reply
    assert (await there.run("send", key, "write g hello", "--id", "v")).code == 5
    assert (await there.run("approvals", "deny", key, "--reason", "not now")).code == 0
    assert (await there.run("send", key, "write g hello", "--id", "v")).code == 0
    assert [line["outcome"] for line in asking.lines(key) if line["role"] == "tool"] == ["ok", "denied"]
    assert "not now" in str(asking.lines(key))


async def test_a_turn_is_cancelled_and_a_session_closed(there: Shell, asking: Service) -> None:
    key = fresh_key()
    accepted = await there.run("send", key, "run sleep 60", "--id", "s", "--no-wait")
    await asking.until(key, lambda status: any(tool.state == "running" for tool in status.tools))
    waiting = asyncio.create_task(there.run("send", key, "run sleep 60", "--id", "s"))
    cancelled = await there.run("cancel", key)
    ended = await waiting
    assert accepted.code == 0
    assert (cancelled.code, cancelled.err.startswith("cancelling t-")) == (0, True)
    assert (ended.code, ended.err) == (1, "(cancelled)\n")
    idle = await there.run("cancel", key)
    assert (idle.code, idle.err) == (1, f"no turn runs in session {key!r}\n")
    closed = await there.run("close", key)
    assert (closed.code, closed.err) == (0, f"session {key!r} closes\n")
    await asking.until(key, lambda status: status.state == "closed")


async def test_lines_of_a_pipe_are_answered_one_after_the_other(there: Shell, asking: Service, tmp_path: Path) -> None:
    key = fresh_key()
    (tmp_path / "a.txt").write_text("of the file")
    done = await there.run("chat", key, "--attach", str(tmp_path / "a.txt"), input="remember one\nremember two\n")
    assert done.code == 0, done.err
    assert [line for line in done.out.splitlines() if line.startswith("I will")] == [
        "I will remember: one",
        "I will remember: two",
    ]
    words = [line for line in asking.lines(key) if line["role"] == "user"]
    assert [[one["name"] for one in line.get("attachments") or []] for line in words] == [["a.txt"], []]


async def test_a_long_message_and_a_long_answer_pass_whole(there: Shell, asking: Service) -> None:
    key, text = fresh_key(), "remember " + "long " * 20_000
    done = await there.run("send", key, "-", input=text)
    assert (done.code, done.out) == (0, asking.lines(key)[1]["content"] + "\n"), done.err
    assert asking.lines(key)[0]["size"] == len(text)


async def test_a_session_is_watched_live(there: Shell, opened: Door, asking: Service) -> None:
    key = fresh_key()
    async with live(asking):
        watching = await there.start("watch", key, "--json")
        assert watching.stdout is not None
        metrics = opened.gateway.metrics.registry
        while not metrics.get_sample_value("agent_session_streams_open"):  # a process has no event to await
            await asyncio.sleep(0.02)
        await asking.ask(key, "run echo seen")
        kinds = list[str]()
        async with asyncio.timeout(20):
            while "turn_ended" not in kinds:
                kinds.append(json.loads(await watching.stdout.readline())["kind"])
        watching.kill()
        await watching.wait()
    assert kinds[0] == "turn_started"
    assert {"delta", "tool_started", "tool_output", "tool_finished"} < set(kinds)


async def test_what_is_wrong_with_a_connection_is_said_by_exit_code(opened: Door, tmp_path: Path) -> None:
    wrong = await elsewhere(tmp_path, opened.url, "wrong-token-0123456789").run("sessions")
    assert (wrong.code, str(tmp_path / "token") in wrong.err, "wrong-token" in wrong.err) == (2, True, False), wrong.err
    nobody = await elsewhere(tmp_path, "http://127.0.0.1:9", opened.token).run("sessions")
    assert (nobody.code, "cannot be reached" in nobody.err) == (4, True), nobody.err
    clear = await elsewhere(tmp_path, "http://192.0.2.1", opened.token).run("sessions")
    assert (clear.code, "in clear" in clear.err) == (2, True), clear.err
    alone = await Shell(tmp_path / "nothing-here", "--token-file", str(tmp_path / "token")).run("sessions")
    assert (alone.code, "add --url" in alone.err) == (2, True), alone.err
    unnamed = await Shell(tmp_path / "nothing-here", "--url", "https://a.example").run("sessions")
    assert (unnamed.code, "give --token-file" in unnamed.err) == (2, True), unnamed.err


async def test_the_environment_names_a_gateway_for_every_command(opened: Door, tmp_path: Path) -> None:
    given = {"AGENT_SESSION_GATEWAY__URL": opened.url, "AGENT_SESSION_GATEWAY__TOKEN": opened.token}
    shell = Shell(tmp_path / "nothing-here", **given)
    assert (await shell.run("send", fresh_key(), "remember blue")).out == "I will remember: blue\n"
    ran = await shell.run("run", "hello")
    assert (ran.code, "use 'send'" in ran.err) == (2, True), ran.err
    assert not (tmp_path / "nothing-here").exists()


async def test_options_may_stand_behind_the_command_and_others_are_refused(opened: Door, tmp_path: Path) -> None:
    remote = elsewhere(tmp_path, opened.url, opened.token)
    shell = Shell(tmp_path / "nothing-here")
    options = [*remote._options]  # pyright: ignore[reportPrivateUsage]
    behind = await shell.run("sessions", "--json", *options)
    assert (behind.code, behind.out) == (0, (await remote.run("sessions", "--json")).out)
    for arguments, words in (
        (("up",), "does not go through a gateway"),
        (("run", "hello"), "does not go through a gateway"),
        (("status", "--address", "127.0.0.1:7233"), "choose one"),
        (("send", "main", "hi", "--reply-to", "file:out"), "--reply-to"),
        (("chat", "main", "--workspace", str(tmp_path)), "--workspace"),
    ):
        refused = await remote.run(*arguments)
        assert (refused.code, words in refused.err) == (2, True), (arguments, refused.err)
