"""Parts of the kind overlay, on this machine: its slow page, and a "cluster" whose pods are processes."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

from scripts.kind_demo import WHO, Cluster
from tests.manifests.rendering import ROOT


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def slow_page() -> web.Application:
    """As its pod serves it; a fresh one each time."""
    spec = importlib.util.spec_from_file_location("slow", ROOT / "k8s" / "components" / "slow-page" / "slow.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app


class Processes(Cluster):
    """Pods are processes, each says a node of its own."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = {**os.environ, **environment}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str, log: Path) -> None:
        command = [sys.executable, "-m", "agent_session", *arguments]
        given = {**self._environment, "AGENT_SESSION_WORKER__IDENTITY": name}
        self._running[name] = subprocess.Popen(command, env=given, stderr=log.open("wb"), start_new_session=True)

    def steps(self, session: str) -> list[dict[str, Any]]:
        return json.loads(
            subprocess.check_output([sys.executable, "-c", WHO, session], env=self._environment, text=True)
        )

    def node_of(self, pod: str) -> str:
        return f"node-of-{pod}"

    def kill(self, pod: str) -> None:
        os.killpg(self._running[pod].pid, signal.SIGKILL)

    def stop(self) -> None:
        for one in self._running.values():
            if one.poll() is None:
                os.killpg(one.pid, signal.SIGKILL)
            one.wait()
