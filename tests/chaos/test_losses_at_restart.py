"""The losses at a restart that OpenClaw's tracker names, one scenario each, with real processes that really die.

Every scenario switches the whole service off at the moment that the loss needs, starts it again, and looks at
what people get; then a later message must be taken. At the end `checker.py` looks at all of it together.
"""

import fcntl
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.scene import Scene, scene

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with scene(tmp_path_factory.mktemp("losses")) as made:
        yield made


async def a_later_message_is_taken(world: Scene, session: str) -> None:
    later = world.say(session, "say")
    assert (await world.reply(later))["outcome"] == "answered"


async def test_a_turn_in_flight_is_recovered(world: Scene) -> None:
    """#137355, #130485: the turn was gone, and the next message was refused."""
    session = world.session()
    running = world.say(session, "do after 20")
    await world.until_line(session, event="started")
    world.switch_off()
    next_one = world.say(session, "say")  # said while nothing runs
    await world.world.start_everything()
    assert f"interrupted {running}" in (await world.reply(running))["text"]
    assert f"said {next_one}" in (await world.reply(next_one))["text"]
    assert world.effects(running) == 0
    await a_later_message_is_taken(world, session)


async def test_a_turn_whose_model_call_is_in_flight_is_recovered(world: Scene) -> None:
    session = world.session()
    await world.world.model_fault("hang", 3)
    running = world.say(session, "say")
    await world.until_line(session, role="user")
    world.switch_off()
    await world.world.start_everything()
    assert (await world.reply(running))["text"] == f"said {running}"
    assert [line["role"] for line in world.lines(session)] == ["user", "assistant", "event"]
    await a_later_message_is_taken(world, session)


async def test_a_queued_reply_that_was_not_delivered_is_delivered_once(world: Scene) -> None:
    """#138564: a reply whose delivery had not finished at the restart was forgotten."""
    session, place = world.session(), "file:queued"
    world.switch_off()
    await world.world.start_everything(channels=False)
    said = [world.say(session, "say", place=place) for _ in range(2)]
    replies = [await world.reply(one) for one in said]
    assert world.posts(place) == []
    world.switch_off()
    await world.world.start_everything()
    await world.until(lambda: len(world.posts(place)) == 2)
    assert [post["reply"] for post in world.posts(place)] == [reply["turn"] for reply in replies]
    await a_later_message_is_taken(world, session)


async def test_an_answer_that_was_written_but_not_delivered_is_delivered_once(world: Scene) -> None:
    """#90282: recovery wrote the answer into the transcript and never delivered it. Here the worker dies with the
    answer's line in the file and its sync not done: Temporal does not know of the answer, nobody has it."""
    session, place = world.session(), "file:written"
    world.switch_off()
    await world.world.start_temporal()
    await world.world.start_workers(fsync_s=1.0)
    said = world.say(session, "say", place=place)
    await world.until_line(session, role="assistant")
    world.switch_off()
    assert world.posts(place) == []
    asked = world.asked(said)
    await world.world.start_everything()
    assert (await world.reply(said))["text"] == f"said {said}"
    await world.until(lambda: world.posts(place))
    assert [post["text"] for post in world.posts(place)] == [f"said {said}"]
    assert world.asked(said) == asked == 1  # a paid answer is not paid twice
    await a_later_message_is_taken(world, session)


async def test_a_reply_that_was_posted_but_not_recorded_is_not_posted_again(world: Scene) -> None:
    """The other side of it: the post stands there, the worker dies before it can say so."""
    session, place = world.session(), "file:posted"
    world.switch_off()
    await world.world.start_temporal()
    await world.world.start_workers(fsync_s=1.0)
    said = world.say(session, "say", place=place)
    await world.until(lambda: world.posts(place))
    world.switch_off()
    await world.world.start_everything()
    await a_later_message_is_taken(world, session)
    deliveries = [await world.reply(said), *world.posts(place)]
    assert len(deliveries) == 2


async def test_a_delivery_in_flight_is_delivered_once(world: Scene) -> None:
    """The attempt hangs in the channel (somebody holds the file's lock) when everything dies."""
    session, place = world.session(), "file:hanging"
    with the_place_is_held(world, "hanging"):
        said = world.say(session, "say", place=place)
        await world.reply(said)
        world.switch_off()
    await world.world.start_everything()
    await world.until(lambda: world.posts(place))
    await a_later_message_is_taken(world, session)
    assert len(world.posts(place)) == 1


@contextmanager
def the_place_is_held(world: Scene, name: str) -> Iterator[None]:
    folder: Path = world.world.data / "channels" / "file"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / f"{name}.jsonl", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("moment", ["as it begins", "once the tool was stopped"])
async def test_a_restart_in_the_middle_of_a_drain(world: Scene, moment: str) -> None:
    """#106893: every restart wedged the sessions. The worker is asked to end, and dies as it ends."""
    session = world.session()
    running, waiting = world.say(session, "do after 20"), world.say(session, "do before 0")
    await world.until_line(session, event="started")
    worker = world.world.workers[0]
    assert worker is not None
    worker.send(signal.SIGTERM)
    if moment != "as it begins":
        await world.until_line(session, role="tool")
    assert worker.alive
    world.switch_off()
    await world.world.start_everything()
    assert f"interrupted {running}" in (await world.reply(running))["text"]
    assert f"done {waiting}" in (await world.reply(waiting))["text"]
    assert (world.effects(running), world.effects(waiting)) == (0, 1)
    await a_later_message_is_taken(world, session)


async def test_two_restarts_during_one_turn(world: Scene) -> None:
    """#102581: a recovery that failed left the session dead for ever."""
    session = world.session()
    running = world.say(session, "do before 20")
    await world.until(lambda: world.effects(running))
    world.switch_off()
    await world.world.model_fault("hang", 120)
    await world.world.start_everything()
    await world.until_line(session, role="tool")  # recovered so far: the second step asks the model, which hangs
    world.switch_off()
    await world.world.model_fault("hang", 0)
    await world.world.start_everything()
    assert f"interrupted {running}" in (await world.reply(running))["text"]
    assert world.effects(running) == 1
    assert [line["role"] for line in world.lines(session)].count("user") == 1
    await a_later_message_is_taken(world, session)


async def test_a_recovered_session_is_not_owned_by_its_old_life(world: Scene) -> None:
    """#116694: later messages were refused, since the old life still owned the session. Here the old life even
    comes back: its worker was only stopped, holds the turn's work, and wakes when another has taken it over."""
    session = world.session()
    running = world.say(session, "do after 6")
    await world.until_line(session, event="started")
    zombie = world.world.workers[0]
    assert zombie is not None
    zombie.send(signal.SIGSTOP)
    world.world.workers[0] = None
    await world.world.start_workers()
    assert f"interrupted {running}" in (await world.reply(running))["text"]
    await a_later_message_is_taken(world, session)
    zombie.send(signal.SIGCONT)
    others = [world.say(session, "do before 0") for _ in range(3)]
    numbers = [(await world.reply(one))["n"] for one in others]
    assert numbers == sorted(numbers)
    assert [world.effects(one) for one in others] == [1, 1, 1]
    assert world.effects(running) <= 1  # its command slept on while the worker was stopped
    world.kills += zombie.kill()


async def test_a_write_torn_between_the_answer_and_the_turns_end(tmp_path: Path) -> None:
    """The answer and the end of its turn are one write. A kill between two pages, or a machine that goes down, can
    leave the first line whole and the second one torn."""
    async with scene(tmp_path / "scene") as world:
        session, place = world.session(), "file:torn"
        world.switch_off()
        await world.world.start_temporal()
        await world.world.start_workers(fsync_s=1.0)
        said = world.say(session, "say", place=place)
        await world.until_line(session, event="ended")
        world.switch_off()  # the sync is not done: the kernel may have kept any part of the write
        path = world.world.transcript(session)
        whole = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(whole[:-1]) + whole[-1][:20])
        await world.world.start_everything()
        assert (await world.reply(said))["text"] == f"said {said}"
        await a_later_message_is_taken(world, session)
        ends = [line["outcome"] for line in world.lines(session) if line.get("event") == "ended"]
        assert ends == ["answered", "answered"]
        await world.until(lambda: world.posts(place))
        assert [post["text"] for post in world.posts(place)] == [f"said {said}"]
