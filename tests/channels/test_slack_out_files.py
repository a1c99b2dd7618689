"""Files into Slack: each once as people see it, after the words they go with, whatever dies or refuses."""

import asyncio
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_session.domain.messages import Attachment
from agent_session.domain.outbound import Outbound
from agent_session.transcript import spool
from channels.slack.outbox import Held
from channels.slack.posting_calls import NotDone, Unsure
from channels.slack.posting_files import TRIES, NotUploaded
from tests.channels.slack_in_support import OWNER, made
from tests.channels.slack_out_support import LOST, SESSION, Workplace, reply
from tests.fakes.slack import BOT_TOKEN, TEAM, FakeSlack

COMPLETE, UPLOAD_URL = "files.completeUploadExternal", "files.getUploadURLExternal"


def stored(place: Workplace, *names: str) -> tuple[Attachment, ...]:
    def one(name: str) -> Attachment:
        data = f"what {name} holds".encode()
        return Attachment(spool.put(place.volume, SESSION, data), len(data), "text/plain", name)

    return tuple(map(one, names))


def names(slack: FakeSlack, thread: str = "") -> list[list[str]]:
    """The files of each of the app's messages there, in order."""
    shown = [one.get("files") or [] for one in slack.messages("C1", thread) if one.get("bot_id")]
    return [[file["name"] for file in files] for files in shown]


async def until_done(place: Workplace, out: Outbound, tries: int = 30) -> None:
    for _ in range(tries):
        try:
            return await place.poster().post(out)
        except (NotDone, Unsure, NotUploaded):
            continue
    raise AssertionError("never delivered")


@pytest.mark.parametrize("in_thread", [True, False])
async def test_files_come_in_one_message_after_the_words_however_often_they_are_handed_over(
    slack: FakeSlack, place: Workplace, in_thread: bool
) -> None:
    thread = slack.mentions("U1", "hello") if in_thread else ""
    where = f"{TEAM}/C1/{thread}" if in_thread else f"{TEAM}/C1"
    for _ in range(3):
        await place.poster().post(reply("here", where, files=stored(place, "a.txt", "b.txt")))
    assert names(slack, thread) == [[], ["a.txt", "b.txt"]]
    assert [file.data for file in slack.workspace.files.values()] == [b"what a.txt holds", b"what b.txt holds"]


@pytest.mark.parametrize("fault", [{"drop": True}, {"error": "internal_error"}, {"status": 502}])
async def test_a_crash_between_posting_files_and_its_record_posts_once(
    slack: FakeSlack, place: Workplace, fault: dict[str, Any]
) -> None:
    slack.fault(COMPLETE, after=True, **fault)
    out = reply("here", files=stored(place, "a.txt"))
    with pytest.raises(Unsure):
        await place.poster().post(out)
    await place.poster().post(out)
    assert names(slack) == [[], ["a.txt"]]
    assert len(slack.calls(COMPLETE)) == 1


async def test_files_for_a_thread_that_was_deleted_are_posted_once(slack: FakeSlack, place: Workplace) -> None:
    thread = slack.mentions("U1", "hello")
    slack.deletes(thread)
    slack.fault(COMPLETE, after=True, drop=True)
    out = reply("here", f"{TEAM}/C1/{thread}", files=stored(place, "a.txt"))
    with pytest.raises(Unsure):
        await place.poster().post(out)
    await place.poster().post(out)
    assert names(slack) == [[], ["a.txt"]]
    assert len(slack.calls(COMPLETE)) == 1


async def test_a_process_that_is_killed_before_slack_answers_leaves_nothing_twice(
    slack: FakeSlack, place: Workplace
) -> None:
    (file,) = stored(place, "a.txt")
    slack.fault(COMPLETE, after=True, until=asyncio.Event())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.channels.slack_out_life", str(place.volume.root), slack.api_url, BOT_TOKEN,
        file.wire, cwd=Path(__file__).parents[2], stdin=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(b"here")
    process.stdin.close()
    await slack.until(lambda: len(names(slack)) == 2)
    process.kill()
    await process.wait()
    await place.poster().post(reply("here", files=(file,)))
    assert names(slack) == [[], ["a.txt"]]


async def test_what_was_uploaded_is_not_uploaded_again(slack: FakeSlack, place: Workplace) -> None:
    slack.fault(COMPLETE, **LOST)
    await until_done(place, reply("here", files=stored(place, "a.txt", "b.txt")))
    assert names(slack) == [[], ["a.txt", "b.txt"]]
    assert len(slack.calls(UPLOAD_URL)) == 2


async def test_what_slack_forgot_meanwhile_is_uploaded_anew(slack: FakeSlack, place: Workplace) -> None:
    slack.fault(COMPLETE, error="file_not_found")
    await until_done(place, reply("here", files=stored(place, "a.txt")))
    assert names(slack) == [[], ["a.txt"]]
    assert len(slack.calls(UPLOAD_URL)) == 2


@pytest.mark.parametrize(
    ("method", "code", "words"),
    [
        (UPLOAD_URL, "missing_scope", "files:write"),
        (UPLOAD_URL, "file_uploads_disabled", "takes no files"),
        (COMPLETE, "file_type_not_allowed", "this kind of file"),
        (COMPLETE, "not_in_channel", "not_in_channel"),
    ],
)
async def test_what_slack_will_not_take_is_said_and_holds_up_nobody(
    slack: FakeSlack, place: Workplace, method: str, code: str, words: str
) -> None:
    slack.fault(method, error=code, times=9)
    out = reply("here", files=stored(place, "a.txt"))
    await place.poster().post(out)
    await place.poster().post(out)
    first, told = slack.texts("C1")
    assert first == "here"
    assert told.startswith("a.txt could not be posted here: ")
    assert words in told


async def test_an_upload_that_never_gets_there_is_given_up_and_the_others_come(
    slack: FakeSlack, place: Workplace
) -> None:
    slack.fault("upload", status=500, times=TRIES)
    await until_done(place, reply("here", files=stored(place, "a.txt", "b.txt")))
    assert names(slack) == [[], ["b.txt"], []]
    assert f"in {TRIES} tries" in slack.texts("C1")[-1]


async def test_a_refusal_that_nobody_knows_is_given_up_after_some_tries(slack: FakeSlack, place: Workplace) -> None:
    slack.fault(COMPLETE, error="something_new", times=99)
    await until_done(place, reply("here", files=stored(place, "a.txt")))
    assert "something_new" in slack.texts("C1")[-1]
    assert len(slack.calls(COMPLETE)) == TRIES


async def test_a_file_that_a_restore_lost_is_said(slack: FakeSlack, place: Workplace) -> None:
    lost = Attachment("0" * 64, 3, "text/plain", "gone.txt")
    await place.poster().post(reply("here", files=(lost, *stored(place, "a.txt"))))
    assert names(slack) == [[], ["a.txt"], []]
    assert "gone.txt could not be posted here: it was lost" in slack.texts("C1")[-1]


async def test_a_file_goes_to_slacks_own_servers_only(
    slack: FakeSlack, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere: dict[str, Any] = {"upload_url": "http://127.0.0.1:9/take", "file_id": "F1"}
    monkeypatch.setattr("tests.fakes.slack_methods.Methods.files_getUploadURLExternal", lambda *_: elsewhere)
    await place.poster().post(reply("here", files=stored(place, "a.txt")))
    assert "not one of Slack's" in slack.texts("C1")[-1]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_fails_words_and_files_stand_there_once(slack: FakeSlack, place: Workplace, seed: int) -> None:
    chance = random.Random(seed)
    faults: list[dict[str, Any]] = [
        LOST, {"drop": True, "after": True}, {"status": 503}, {"status": 502, "after": True}, {"delay_s": 0.2},
        {"status": 429, "retry_after": 1},
    ]  # fmt: skip
    for method in ("chat.postMessage", UPLOAD_URL, COMPLETE, COMPLETE, COMPLETE, "conversations.history"):
        slack.fault(method, **chance.choice(faults))
    out = reply("here", files=stored(place, "a.txt", "b.txt"))

    async def replica() -> None:
        while True:
            attempt = asyncio.create_task(place.poster(settle_s=0.3).post(out))
            done, _ = await asyncio.wait({attempt}, timeout=chance.choice([0.05, 0.3, 3.0, 20.0]))
            attempt.cancel()
            try:
                return await attempt
            except asyncio.CancelledError:
                assert not done
            except (NotDone, Unsure, NotUploaded, Held):
                pass

    async with asyncio.timeout(100):
        await asyncio.gather(replica(), replica())
    assert slack.texts("C1")[0] == "here"
    posted = sorted(name for files in names(slack) for name in files)
    told = "".join(slack.texts("C1")[1:])
    assert len(posted) == len(set(posted))
    assert sorted(posted + [name for name in ("a.txt", "b.txt") if name in told]) == ["a.txt", "b.txt"]


async def test_the_agent_sends_a_file_to_where_it_was_asked_without_asking(
    slack: FakeSlack, make_service: Callable[..., Any]
) -> None:
    world = await made(slack, make_service)
    async with world.service.worker(), world.replica():
        await world.connected()
        thread = slack.mentions(OWNER, 'call write_file {"path": "report.md", "text": "all is well"}')
        await slack.until(lambda: slack.texts("C1", thread))
        slack.mentions(OWNER, 'call send_message {"text": "the report", "files": ["report.md"]}', thread=thread)
        await slack.until(lambda: ["report.md"] in names(slack, thread))
        await slack.until(lambda: "Handed to the channel" in slack.texts("C1", thread)[-1])
    (file,) = slack.workspace.files.values()
    assert file.data == b"all is well"
    assert "the report" in slack.texts("C1", thread)
