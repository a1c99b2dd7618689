"""The embedded server starts although somebody else may take a port under its hands."""

import socket
from pathlib import Path

from agent_session.ops.embedded import EmbeddedTemporal, is_serving


async def test_a_port_that_was_taken_meanwhile_is_replaced(tmp_path: Path) -> None:
    server = EmbeddedTemporal(None, tmp_path / "log")
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", server.port))
        thief.listen()
        taken = server.port
        await server.start()
        assert server.port != taken
        assert await is_serving(server.address)
    await server.stop(0)


async def test_it_comes_back_on_the_same_port(tmp_path: Path) -> None:
    server = EmbeddedTemporal(tmp_path / "t.db", tmp_path / "log")
    await server.start()
    address = server.address
    await server.stop(0)
    await server.start()
    assert server.address == address
    await server.stop(0)
