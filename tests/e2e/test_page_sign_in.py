"""The page's sign-in over several gateway processes on one volume: none need be the one that was asked before."""

import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import orjson

from agent_session.gateway.tokens import TOKEN_FILE
from tests.e2e.support import Up, running, wait_until
from tests.e2e.test_the_gateway import gateway_of


def ask(url: str, path: str, token: str = "", body: Any = None) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url + path, None if body is None else orjson.dumps(body), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, orjson.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, orjson.loads(error.read())


@contextmanager
def another_gateway(up: Up) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    process = up.start("gateway", "--port", "0")
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        while "gateway ready on " not in said:
            assert said, "the gateway ended"
            said = process.stderr.readline()
        yield said.rpartition(" ")[2].strip(), process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


def test_codes_and_page_tokens_work_at_every_process_and_outlive_each(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with ExitStack() as stack:
        up = stack.enter_context(running(data))
        found = gateway_of(data)
        other, process = stack.enter_context(another_gateway(up))
        first = found.url
        assert first != other
        owner = (data / TOKEN_FILE).read_text().strip()
        code = ask(first, "/v1/codes", owner, {})[1]["code"]
        status, page = ask(other, "/v1/codes/exchange", body={"code": code})
        assert (status, page["name"]) == (200, "owner")
        assert ask(first, "/v1/codes/exchange", body={"code": code})[0] == 401
        assert [ask(url, "/v1/sessions", page["token"])[0] for url in (first, other)] == [200, 200]
        assert one_of_two_wins(first, other, owner) == 15
        used, unused = (ask(other, "/v1/codes", owner, {})[1]["code"] for _ in range(2))
        assert ask(other, "/v1/codes/exchange", body={"code": used})[0] == 200
        os.kill(process.pid, signal.SIGKILL)
        os.kill(found.pid, signal.SIGKILL)
        process.wait(30)
        after = wait_until(lambda: gateway_of(data, other_than=found.pid)).url
        assert ask(after, "/v1/sessions", page["token"])[0] == 200
        assert ask(after, "/v1/codes/exchange", body={"code": used})[0] == 401
        assert ask(after, "/v1/codes/exchange", body={"code": unused})[0] == 200
        (data / TOKEN_FILE).write_text("another-token-0123456789\n")
        assert ask(after, "/v1/sessions", page["token"])[0] == 401


def one_of_two_wins(first: str, other: str, owner: str) -> int:
    """In how many of 15 rounds one process of two that got a code at once, and one alone, took it."""
    barrier, rounds = Barrier(2), 0

    def exchange(url: str, code: str) -> int:
        barrier.wait(30)
        return ask(url, "/v1/codes/exchange", body={"code": code})[0]

    with ThreadPoolExecutor(2) as pool:
        for number in range(15):
            code = ask((first, other)[number % 2], "/v1/codes", owner, {})[1]["code"]
            both = [pool.submit(exchange, url, code) for url in (first, other)]
            rounds += sorted(one.result(60) for one in both) == [200, 401]
    return rounds
