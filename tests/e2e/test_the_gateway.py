"""The gateway of `up`: it comes back, its address and token are found, and nothing is lost with it."""

import os
import signal
import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from agent_session.gateway.address import GatewayAddress, read_gateway
from agent_session.gateway.tokens import TOKEN_FILE
from tests.e2e.support import Up, running, wait_until


def gateway_of(data_dir: Path, *, other_than: int = 0) -> GatewayAddress:
    def look() -> GatewayAddress | None:
        found = read_gateway(data_dir)
        return found if found is not None and found.pid != other_than else None

    return wait_until(look)


def say(data_dir: Path, url: str, session: str, text: str, id: str) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{url}/v1/sessions/{session}/messages?wait=30",
        orjson.dumps({"text": text}),
        {
            "Authorization": f"Bearer {(data_dir / TOKEN_FILE).read_text().strip()}",
            "Content-Type": "application/json",
            "Idempotency-Key": id,
        },
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return orjson.loads(answer.read())


def asked_until_answered(data_dir: Path, url: str, text: str, id: str) -> dict[str, Any]:
    """As a client does whose gateway dies: again, under the same key, wherever it listens now."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return say(data_dir, url, "main", text, id)
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
            found = read_gateway(data_dir)
            url = found.url if found is not None else url
    raise TimeoutError(f"no answer to {id}")


def test_a_gateway_killed_in_the_middle_of_a_wait_comes_back_and_the_reply_is_there(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data) as up, ThreadPoolExecutor(1) as pool:
        first = gateway_of(data)
        waiting = pool.submit(asked_until_answered, data, first.url, "run sleep 2 && echo done", "m-1")
        wait_until(lambda: any(line.get("event") == "started" for line in up.lines("main")))
        os.kill(first.pid, signal.SIGKILL)
        second = gateway_of(data, other_than=first.pid)
        answer = waiting.result(60)
        assert answer["text"] == "done"
        assert say(data, second.url, "main", "run sleep 2 && echo done", "m-1") == answer
        assert [line["role"] for line in up.lines("main")].count("user") == 1


def test_the_link_to_the_page_signs_in_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data) as up:
        gateway_of(data)
        link = up.run("page", "team/x").stdout.strip()
        url, _, fragment = link.partition("/#")
        code = dict(part.split("=", 1) for part in fragment.split("&"))["code"]
        given = exchange(url, code)
        assert fragment.endswith("&session=team%2Fx")
        assert given["token"]
        assert exchange(url, code) is None


def exchange(url: str, code: str) -> Any:
    body = orjson.dumps({"code": code})
    request = urllib.request.Request(f"{url}/v1/codes/exchange", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return orjson.loads(answer.read())
    except urllib.error.HTTPError:
        return None


def test_an_open_address_without_a_token_starts_nothing(tmp_path: Path) -> None:
    up = Up(tmp_path / "data", AGENT_SESSION_GATEWAY__HOST="0.0.0.0")
    assert up.process.wait(30) == 2
    errors = up.errors.read_text()
    assert "open to other machines but no token is set" in errors
    assert "Traceback" not in errors


def test_a_port_that_was_asked_for_is_not_changed(tmp_path: Path) -> None:
    with socket.socket() as taken, running(tmp_path / "data", "--no-gateway") as up:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = up.run("gateway", "--port", str(port), timeout_s=30)
        assert (refused.returncode, f"port {port}: " in refused.stderr) == (2, True), refused.stderr


def test_a_configured_port_that_is_taken_is_said_by_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with running(tmp_path / "data", AGENT_SESSION_GATEWAY__PORT=port) as up:
            wait_until(lambda: "the gateway ended and is started again" in up.errors.read_text())
            assert up.errors.read_text().count("the gateway ended") == 1
            assert up.run("send", "main", "hello").returncode == 0


def test_a_request_is_found_in_the_logs_by_its_id(tmp_path: Path) -> None:
    with running(tmp_path / "data") as up:
        found = gateway_of(tmp_path / "data")
        with urllib.request.urlopen(f"{found.url}/healthz", timeout=10) as answer:
            id = answer.headers["X-Request-ID"]
        shown = wait_until(lambda: up.run("logs", "--id", id).stdout)
    assert "path=/healthz" in shown
