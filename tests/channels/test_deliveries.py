"""Deliveries: each reply once, in order per place, durable, and holding up nobody."""

import asyncio
import errno
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import PollActivityTaskQueueRequest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from agent_session.activities.deliver import DeliverActivity
from agent_session.domain.authority import sign_place
from agent_session.domain.outbound import Outbound
from agent_session.domain.outbox import Delivery
from agent_session.domain.replies import FAILED
from agent_session.domain.wire import to_wire
from agent_session.settings import load_settings
from agent_session.transcript.volume import VolumeUnavailable
from channels import NoSuchChannel, channel_names, load_channel
from channels.file import FileChannel
from tests.support import Service, fresh_key


def delivered(service: Service, place: str) -> list[str]:
    path = service.settings.data_dir / "channels" / "file" / f"{place}.jsonl"
    return [json.loads(line)["text"] for line in path.read_text().splitlines()] if path.exists() else []


async def until_delivered(service: Service, place: str, count: int) -> list[str]:
    async with asyncio.timeout(30):
        while len(found := delivered(service, place)) < count:
            await asyncio.sleep(0.05)
    return found


async def test_replies_arrive_once_and_in_order(service: Service) -> None:
    key = fresh_key()
    for number in range(6):
        await service.client.send(key, f"remember {number}", id=str(number), mode="followup", reply_address="file:a")
    found = await until_delivered(service, "a", 6)
    assert found == [f"I will remember: {number}" for number in range(6)]
    await service.until(key, lambda status: status.deliveries == 0)


async def test_a_channel_that_is_down_holds_up_nobody_and_gets_its_replies_later(make_service: Any) -> None:
    service: Service = await make_service()
    async with service.worker():
        key = fresh_key()
        for number in range(3):
            await service.ask(key, f"remember {number}", reply_address="file:late")
        await service.client.roll_over(key)
        await service.until(key, lambda status: status.roll_overs == 1)
        assert (await service.client.status(key)).deliveries == 3
    async with service.worker("file"):
        assert await until_delivered(service, "late", 3) == [f"I will remember: {number}" for number in range(3)]
        await service.until(key, lambda status: status.deliveries == 0)


async def test_roll_overs_in_the_middle_of_deliveries_post_nothing_twice(make_service: Any) -> None:
    service: Service = await make_service(session={"turns_per_run": 1})
    async with service.worker("file"):
        key = fresh_key()
        how = {"mode": "followup", "reply_address": "file:r"}
        for number in range(12):
            await service.client.send(key, f"remember {number}", id=str(number), **how)
        found = await until_delivered(service, "r", 12)
        await service.until(key, lambda status: status.deliveries == 0 and status.state == "idle")
        assert delivered(service, "r") == found == [f"I will remember: {number}" for number in range(12)]


async def test_a_delivery_whose_worker_dies_as_the_session_rolls_over_is_delivered_by_the_next_run(
    make_service: Any,
) -> None:
    """A cancel is requested then, and what is cancelled is not tried again: found by a chaos run."""
    service: Service = await make_service()
    async with service.worker():
        key, place = fresh_key(), fresh_key("place")
        await service.ask(key, "remember me", reply_address=f"file:{place}")
        taken = await service.temporal.workflow_service.poll_activity_task_queue(
            PollActivityTaskQueueRequest(
                namespace=service.temporal.namespace,
                task_queue=TaskQueue(name=f"{service.settings.task_queue}.channel.file"),
                identity="a worker that dies",
            )
        )
        await service.client.roll_over(key)
        await service.until(key, lambda status: status.roll_overs == 1)
        assert taken.activity_type.name == "deliver"
    async with service.worker("file"):
        assert await until_delivered(service, place, 1) == ["I will remember: me"]
        await service.until(key, lambda status: status.deliveries == 0)


async def test_a_failed_turns_apology_is_delivered(make_service: Any) -> None:
    service: Service = await make_service()
    async with service.worker("file") as services:

        async def broken(*_: Any, **__: Any) -> Any:
            raise ValueError("broken")

        services.build_prompt = broken  # type: ignore[assignment]
        await service.client.send(fresh_key(), "hello", reply_address="file:sorry")
        (text,) = await until_delivered(service, "sorry", 1)
        assert text.startswith("Sorry")


async def test_a_place_that_can_never_be_posted_to_is_dropped_and_said(service: Service) -> None:
    key = fresh_key()
    assert (await service.ask(key, "hello", reply_address="file:../escape")).ok
    status = await service.until(key, lambda status: status.deliveries == 0)
    assert status.last_error


async def test_the_file_channel_posts_a_reply_id_once_also_after_a_torn_line(service: Service) -> None:
    channel = load_channel("file", service.settings)
    assert await channel.probe() == ""
    await channel.deliver(Outbound(session="s", place="x", reply="t-1", text="one"))
    path = service.settings.data_dir / "channels" / "file" / "x.jsonl"
    path.write_bytes(path.read_bytes() + b'{"reply":"t-2","te')
    for reply in ("t-1", "t-2", "t-2", "t-1"):
        await channel.deliver(Outbound(session="s", place="x", reply=reply, text=reply))
    assert delivered(service, "x") == ["one", "t-2"]


def test_channels_are_found_without_a_list(tmp_path: Path) -> None:
    assert {"cli", "file"} <= set(channel_names())
    with pytest.raises(NoSuchChannel, match="pigeon"):
        load_channel("pigeon", load_settings({"data_dir": tmp_path}))
    assert FileChannel(tmp_path).capabilities.delivers


@pytest.mark.parametrize(
    ("error", "pause_s"),
    [
        (OSError(errno.ENOSPC, "full"), 5.0),
        (VolumeUnavailable("away"), 5.0),
        (ConnectionRefusedError(errno.ECONNREFUSED, "down"), None),
        (RuntimeError("odd"), None),
    ],
)
async def test_a_delivery_that_meets_the_volume_away_is_tried_every_five_seconds(
    make_service: Any, error: Exception, pause_s: float | None
) -> None:
    """However long it was away; a channel that is down is left alone for longer and longer."""
    service: Service = await make_service()
    channel = load_channel("file", service.settings)

    async def fail(out: Outbound) -> None:
        raise error

    channel.deliver = fail
    mac = sign_place(service.volume.signing_key(), "a", "file:a")
    delivery = Delivery(address="file:a", reply="r", mac=mac, outcome=FAILED, failure="internal")
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, attempt=9, workflow_id="session/a")
    with pytest.raises(ApplicationError) as raised:
        await environment.run(DeliverActivity(channel, service.volume, service.settings).deliver, to_wire(delivery))
    assert raised.value.next_retry_delay == (timedelta(seconds=pause_s) if pause_s else None)
