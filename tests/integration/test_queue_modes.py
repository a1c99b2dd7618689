"""What happens to messages that arrive while a turn runs."""

from tests.support import Gate, Service, check_transcript, fresh_key, until_true


async def start_slow_turn(service: Service, key: str, command: str = "") -> Gate:
    """A turn whose tool runs until the gate is opened; or the command."""
    gate = service.gate()
    await service.client.send(key, command or f"run {gate.command}", id="slow")
    await service.until(key, lambda status: status.tools)
    return gate


async def test_collect_makes_one_next_turn_of_what_arrived(service: Service) -> None:
    key = fresh_key()
    gate = await start_slow_turn(service, key)
    for number in range(3):
        await service.client.send(key, f"remember {number}", id=f"c{number}")
    gate.open()
    replies = [await service.client.await_reply(key, f"c{number}") for number in range(3)]
    assert len({reply.turn for reply in replies}) == 1
    assert replies[0].text.splitlines() == [f"I will remember: {number}" for number in range(3)]
    check_transcript(service.lines(key))


async def test_followup_makes_a_turn_each_in_order(service: Service) -> None:
    key = fresh_key()
    gate = await start_slow_turn(service, key)
    for number in range(3):
        await service.client.send(key, f"remember {number}", id=f"f{number}", mode="followup")
    gate.open()
    replies = [await service.client.await_reply(key, f"f{number}") for number in range(3)]
    assert [reply.n for reply in replies] == [2, 3, 4]
    assert [reply.text for reply in replies] == [f"I will remember: {number}" for number in range(3)]


async def test_steer_joins_the_running_turn_at_the_next_step(service: Service) -> None:
    key = fresh_key()
    gate = await start_slow_turn(service, key)
    await service.client.send(key, "remember the steering", id="steer", mode="steer")
    gate.open()
    slow, steered = [await service.client.await_reply(key, id) for id in ("slow", "steer")]
    assert slow.turn == steered.turn
    assert "the steering" in slow.text
    check_transcript(service.lines(key))


async def test_steer_from_another_place_is_a_turn_of_its_own(service: Service) -> None:
    key = fresh_key()
    gate = await start_slow_turn(service, key)
    await service.client.send(key, "remember elsewhere", id="steer", mode="steer", reply_address="file:elsewhere")
    gate.open()
    slow, steered = [await service.client.await_reply(key, id) for id in ("slow", "steer")]
    assert slow.turn != steered.turn
    assert "elsewhere" not in slow.text


async def test_two_places_are_never_merged_into_one_turn(service: Service) -> None:
    key = fresh_key()
    gate = await start_slow_turn(service, key)
    await service.client.send(key, "remember a", id="a", reply_address="file:a")
    await service.client.send(key, "remember b", id="b", reply_address="file:b")
    gate.open()
    a, b = [await service.client.await_reply(key, id) for id in ("a", "b")]
    assert a.turn != b.turn


async def until_written(service: Service, key: str, name: str) -> None:
    path = service.volume.path_of(key) / "workspace" / name

    async def written() -> bool:
        return path.exists() and path.stat().st_size > 0

    await until_true(written)


async def test_interrupt_stops_the_turn_keeps_what_it_did_and_starts_anew(service: Service) -> None:
    key = fresh_key()
    await start_slow_turn(service, key, "run echo begun > f; sleep 60")
    await until_written(service, key, "f")
    await service.client.send(key, "remember urgent", id="now", mode="interrupt")
    now = await service.client.await_reply(key, "now", timeout_s=20)
    slow = await service.client.await_reply(key, "slow", timeout_s=20)
    assert (slow.outcome, now.outcome) == ("interrupted", "answered")
    assert "urgent" in now.text
    results = [line["outcome"] for line in service.lines(key) if line["role"] == "tool"]
    assert results == ["cancelled"]
    assert (await service.ask(key, "read f")).text == "begun"
    check_transcript(service.lines(key))


async def test_interrupt_goes_before_what_waits(service: Service) -> None:
    key = fresh_key()
    await start_slow_turn(service, key, "run sleep 60")
    await service.client.send(key, "remember waiting", id="waits", mode="followup")
    await service.client.send(key, "remember urgent", id="now", mode="interrupt")
    now, waits = [await service.client.await_reply(key, id, timeout_s=20) for id in ("now", "waits")]
    assert now.n < waits.n


async def test_system_messages_coalesce_and_never_delay_a_person(service: Service) -> None:
    key = fresh_key()
    gate = await start_slow_turn(service, key)
    for number in range(5):
        await service.client.send(key, f"remember note {number}", id=f"note{number}", kind="system")
    await service.client.send(key, "remember me", id="person")
    gate.open()
    person = await service.client.await_reply(key, "person")
    last = await service.client.await_reply(key, "note4")
    assert person.n < last.n
    assert last.outcome == "answered"
    for number in range(4):
        assert (await service.client.await_reply(key, f"note{number}")).outcome == "interrupted"


async def test_a_person_interrupts_a_running_heartbeat(service: Service) -> None:
    key = fresh_key()
    await service.client.send(key, "run sleep 60", id="beat", kind="heartbeat")
    await service.until(key, lambda status: status.tools)
    person = await service.client.ask(key, "remember me", timeout_s=20)
    assert person.ok
    assert (await service.client.await_reply(key, "beat")).outcome == "interrupted"


async def test_cancel_ends_the_turn_and_spares_the_next(service: Service) -> None:
    key = fresh_key()
    await start_slow_turn(service, key, "run sleep 60")
    turn = await service.client.cancel(key)
    assert (await service.client.await_reply(key, "slow", timeout_s=20)).outcome == "cancelled"
    gate = service.gate()
    await service.client.send(key, f"run {gate.command} && echo fine", id="next")
    await service.until(key, lambda status: status.tools)
    await service.client.cancel(key, turn)  # a late Ctrl-C, for the turn that is over
    gate.open()
    assert (await service.client.await_reply(key, "next")).text == "fine"
    check_transcript(service.lines(key))


async def test_steps_of_a_heartbeat_go_behind_people_in_the_task_queue(service: Service) -> None:
    ranks: dict[str, set[int]] = {}
    for kind in ("heartbeat", "person"):
        key = fresh_key()
        await service.ask(key, "run true", kind=kind)
        scheduled = [event.activity_task_scheduled_event_attributes for event in await service.events(key)]
        ranks[kind] = {one.priority.priority_key for one in scheduled if one.activity_id}
    assert ranks == {"heartbeat": {5}, "person": {0}}
