"""How a service is configured: Temporal's own configuration, tracing, logs, start-up checks."""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_session.client import SessionClient
from agent_session.connection import Unreachable, configured_address, connect
from agent_session.ops.embedded import EmbeddedTemporal
from agent_session.settings import BadSettings, load_settings
from agent_session.telemetry import set_up_logging
from agent_session.worker import require_search_attribute
from tests.support import Service, fresh_key


async def test_temporals_own_environment_is_honoured(
    temporal_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_address)
    settings = load_settings({"data_dir": tmp_path})
    assert configured_address(settings) == temporal_address
    assert (await connect(settings)).namespace == "default"


async def test_temporals_own_profile_file_is_honoured(
    temporal_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "temporal.toml"
    profile.write_text(f'[profile.default]\naddress = "{temporal_address}"\n')
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(profile))
    assert configured_address(load_settings({"data_dir": tmp_path})) == temporal_address


async def test_our_setting_goes_before_temporals_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "elsewhere:1")
    monkeypatch.setenv("AGENT_SESSION_TEMPORAL__ADDRESS", "here:2")
    assert configured_address(load_settings({"data_dir": tmp_path})) == "here:2"


async def test_an_unreachable_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
        await SessionClient.connect(load_settings({"data_dir": tmp_path, "temporal": {"address": "127.0.0.1:1"}}))
    with pytest.raises(Unreachable, match="agent-session up"):
        await SessionClient.connect(load_settings({"data_dir": tmp_path}))


def test_flags_go_before_environment_before_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text("[model]\nmax_steps = 1\ncontext_tokens = 2000\ntimeout_s = 3\n")
    monkeypatch.setenv("AGENT_SESSION_MODEL__MAX_STEPS", "10")
    monkeypatch.setenv("AGENT_SESSION_MODEL__CONTEXT_TOKENS", "20000")
    model = load_settings({"data_dir": tmp_path, "model": {"max_steps": 100}}).model
    assert (model.max_steps, model.context_tokens, model.timeout_s) == (100, 20_000, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[model]\nmax_steps = 'many'\n", ["model.max_steps", "'many'", "config.toml line 2"]),
        ("[model]\ncolour = 'blue'\n", ["model.colour", "no setting", "config.toml line 2"]),
        ("colour = 'blue'\n", ["colour", "no setting"]),
        ("[model\n", ["not valid TOML"]),
        ("[temporal]\napi_key = 7\n", ["temporal.api_key"]),
        ("[tools.shell]\nsandbox = 'glass'\n", ["tools.shell.sandbox", "'glass'"]),
        ("data_dir = '/x'\n", ["data_dir"]),
    ],
)
def test_a_bad_file_names_key_value_and_line(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(BadSettings) as refused:
        load_settings({"data_dir": tmp_path})
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_a_secret_with_a_bad_value_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_SESSION_TEMPORAL__API_KEY__X", "canary")
    with pytest.raises(BadSettings) as refused:
        load_settings({"data_dir": tmp_path})
    assert "canary" not in str(refused.value)


async def test_a_server_without_the_search_attribute_is_refused_with_the_command(tmp_path: Path) -> None:
    from agent_session.ops import embedded

    server = EmbeddedTemporal(None, tmp_path / "log")
    command = embedded.server_command
    try:
        embedded.server_command = lambda *a, **k: command(*a, **k)[:-2]  # type: ignore[assignment]
        await server.start()
        client = await connect(load_settings({"data_dir": tmp_path}), server.address)
        with pytest.raises(BadSettings, match="operator search-attribute create"):
            await require_search_attribute(client)
    finally:
        embedded.server_command = command  # type: ignore[assignment]
        await server.stop(0)


async def test_what_needs_a_person_is_listed_first(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service(tools={"ask": ["shell"]})
    async with service.worker():
        asks, fine = fresh_key("a"), fresh_key("b")
        await service.client.send(asks, "run echo x")
        await service.until(asks, lambda status: status.state == "waiting approval")
        await service.ask(fine, "hello")
        async with asyncio.timeout(15):
            while True:
                rows = [row for row in await service.client.sessions() if row.key in (asks, fine)]
                if len(rows) == 2 and rows[0].needs:
                    break
                await asyncio.sleep(0.1)
    assert [(row.key, row.needs) for row in rows] == [(asks, "approval"), (fine, "")]


async def test_every_log_line_of_a_step_has_its_correlation_id(service: Service, tmp_path: Path) -> None:
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        set_up_logging(service.settings, process="test", to_file=True)
        key = fresh_key()
        services = service.services
        assert services is not None

        async def broken(*_: Any, **__: Any) -> Any:
            raise RuntimeError("the real reason")

        services.build_prompt = broken  # type: ignore[assignment]
        reply = await service.ask(key, "hello")
        lines = [
            json.loads(line) for line in (service.settings.data_dir / "logs" / "test.jsonl").read_text().splitlines()
        ]
        failed = [line for line in lines if line.get("error_id") == reply.error_id]
        assert failed
        assert failed[0]["id"] == f"{key}/{reply.turn}/1"
        assert "the real reason" in failed[0]["error"]
    finally:
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)


async def test_attachments_and_long_texts_travel_by_reference(service: Service, tmp_path: Path) -> None:
    key = fresh_key()
    (tmp_path / "notes.txt").write_text("attached words")
    text = "long " * 3_000
    reply = await service.ask(key, text, attachments=[tmp_path / "notes.txt"])
    assert reply.ok
    (line,) = [line for line in service.lines(key) if line["role"] == "user"]
    assert line["content"].startswith(text)
    assert line["attachments"][0]["name"] == "notes.txt"
    assert (await service.ask(key, "read attachments/notes.txt")).text == "attached words"
    started = (await service.events(key))[0]
    assert started.ByteSize() < 4_096
