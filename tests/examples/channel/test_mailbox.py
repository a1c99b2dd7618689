"""The mailbox keeps the contract of a channel, and takes each letter once."""

import asyncio
from pathlib import Path

from tests.contracts.channel import check_channel
from tests.examples.channel.mailbox import create
from tests.support import Service


def test_the_mailbox_is_down_while_the_volume_is_away(tmp_path: Path) -> None:
    from agent_session.settings import load_settings

    assert "not mounted" in asyncio.run(create(load_settings({"data_dir": tmp_path})).probe())


async def test_each_reply_becomes_one_file(service: Service) -> None:
    folder = service.settings.data_dir / "channels" / "mailbox" / "ada"
    await check_channel(
        create(service.settings),
        place="ada",
        bad_places=["", "in/x", "..", "a-b", "x" * 65],
        posted=lambda: [path.read_text() for path in folder.glob("*.txt")],
    )


async def test_a_letter_is_a_message_also_when_it_is_found_twice(service: Service) -> None:
    inbox = service.settings.data_dir / "channels" / "mailbox" / "in"
    inbox.mkdir(parents=True)
    running = asyncio.create_task(create(service.settings).run(service.client))
    try:
        for _ in range(2):  # the second time as after a crash between sending and burning
            (inbox / "new").write_text("remember ada")
            (inbox / "new").rename(inbox / "ada-1.letter")
            async with asyncio.timeout(30):
                while (inbox / "ada-1.letter").exists():
                    await asyncio.sleep(0.05)
        reply = await service.client.await_reply("mail", "ada-1.letter", timeout_s=30)
    finally:
        running.cancel()
    assert reply.text == "I will remember: ada"
    assert service.said("mail") == ["remember ada"]
