"""The bounce demo on kind (`make kind-demo`): a tool runs, its worker's pod is killed, the turn ends on another node.

Prints a record, and with --json FILE writes it. Needs a cluster of `make kind-up`. Standard library only.
"""

import contextlib
import json
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from kind import CLUSTER, CONTEXT, ROOT, Cannot, tools

TOKENS = ROOT / "k8s" / "overlays" / "kind" / "agent" / "secrets" / "tokens.toml"
SLOW_S, PATIENCE_S = 20, 240
#: Runs in the gateway's pod: which worker has the step of a session, as Temporal knows it.
WHO = """
import asyncio, json, os, sys
from agent_session.connection import connect
from agent_session.settings import load_settings
async def main():
    client = await connect(load_settings())
    found = await client.get_workflow_handle("session/" + sys.argv[1]).describe()
    print(json.dumps([{"activity": one.activity_type.name, "worker": one.last_worker_identity, "attempt": one.attempt,
                       "runs": one.state == 2} for one in found.raw_description.pending_activities]), flush=True)
asyncio.run(main())
os._exit(0)  # Temporal's SDK may crash while the interpreter ends
"""


class Cluster:
    """kubectl on our cluster."""

    def __init__(self, kubectl: str) -> None:
        self._kubectl = [kubectl, "--context", CONTEXT, "-n", "agent-session"]

    def ask(self, *arguments: str) -> str:
        done = subprocess.run([*self._kubectl, *arguments], capture_output=True, text=True)
        if done.returncode != 0:
            raise Cannot(f"kubectl {' '.join(arguments)[:200]}: {done.stderr.strip()[-400:]}")
        return done.stdout

    def steps(self, session: str) -> list[dict[str, Any]]:
        """Steps that are under way or wait for their next try."""
        said = self.ask("exec", "deployment/gateway", "--", "/opt/agent-session/bin/python", "-c", WHO, session)
        return json.loads(said)

    def node_of(self, pod: str) -> str:
        return self.ask("get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")

    def kill(self, pod: str) -> None:
        """Not asked to end: gone, as with a node that loses power."""
        self.ask("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")

    @contextlib.contextmanager
    def gateway(self) -> Iterator[str]:
        """Its URL from here, while inside."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [*self._kubectl, "port-forward", "service/gateway", f"{port}:18790"]
        forward = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: answers(url), "the gateway answers through kubectl port-forward", 30)
            yield url
        finally:
            forward.terminate()
            forward.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=2) as found:
            return found.status == 200
    except OSError:
        return False


def until(found: Callable[[], Any], what: str, patience_s: float = 60) -> Any:
    """The first that is true. Errors: Cannot, when it takes too long."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.2)
    raise Cannot(f"not seen within {patience_s:g} s: {what}")


def call(url: str, token: str, body: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}", **headers})
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=90) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise Cannot(f"{url}: {error.code} {error.read()[:300].decode(errors='replace')}") from None


def bounce(cluster: Cluster, url: str, token: str, page: str = "http://slow", slow_s: int = SLOW_S) -> dict[str, Any]:
    """The record. Errors: Cannot, when anything is otherwise than promised."""
    session = f"demo-{secrets.token_hex(4)}"
    where = f"{url}/v1/sessions/{session}/messages"
    words = f'call web_fetch {{"url": "{page}/{slow_s}"}}'
    began = time.monotonic()
    receipt = call(where, token, {"text": words}, **{"Idempotency-Key": f"bounce-{session}"})
    print(f"{since(began)}  asked session {session} for a page that takes {slow_s} s")

    def tool() -> dict[str, Any] | None:
        return next((one for one in cluster.steps(session) if one["activity"] == "execute_tool" and one["runs"]), None)

    first = until(tool, "a worker runs the tool")
    node = cluster.node_of(first["worker"])
    print(f"{since(began)}  the tool runs on {first['worker']} ({node})")
    cluster.kill(first["worker"])
    killed = time.monotonic()
    print(f"{since(began)}  that pod is killed")

    def elsewhere() -> dict[str, Any] | None:
        found = tool()
        return found if found and found["worker"] != first["worker"] else None

    second = until(elsewhere, "another worker runs the tool", 60)
    lost_s = time.monotonic() - killed
    other = cluster.node_of(second["worker"])
    print(f"{since(began)}  the tool runs on {second['worker']} ({other}), try {second['attempt']}")
    deadline = time.monotonic() + PATIENCE_S
    while (reply := call(f"{where}/{receipt['id']}?wait=60", token))["status"] == "accepted":
        if time.monotonic() > deadline:
            raise Cannot(f"no reply within {PATIENCE_S} s")
    print(f"{since(began)}  the turn is {reply['status']}: {' '.join(reply['text'].split())[:100]}")
    lines = call(f"{where}?limit=100", token)["lines"]
    record = {
        "session": session,
        "killed": {"worker": first["worker"], "node": node},
        "finished": {"worker": second["worker"], "node": other, "attempt": second["attempt"]},
        "seconds_until_elsewhere": round(lost_s, 1),
        "seconds_in_all": round(time.monotonic() - began, 1),
        "status": reply["status"],
        "calls": sum(len(line.get("tool_calls") or []) for line in lines if line.get("role") == "assistant"),
        "results": sum(1 for line in lines if line.get("role") == "tool"),
    }
    if (record["status"], record["calls"], record["results"]) != ("answered", 1, 1):
        raise Cannot(f"the turn should be answered, with one call and one result: {json.dumps(record)}")
    return record


def since(began: float) -> str:
    return f"{time.monotonic() - began:6.1f} s"


def main(arguments: list[str]) -> int:
    if arguments and (len(arguments) != 2 or arguments[0] != "--json"):
        print("usage: kind_demo.py [--json FILE]", file=sys.stderr)
        return 2
    try:
        kind, _, kubectl = tools()
        if CLUSTER not in subprocess.check_output([kind, "get", "clusters"], text=True).split():
            raise Cannot(f"there is no kind cluster {CLUSTER}: make kind-up")
        found = re.search(r'token = "([^"]+)"', TOKENS.read_text()) if TOKENS.exists() else None
        if found is None:
            raise Cannot(f"{TOKENS} has no token: make kind-up")
        cluster = Cluster(kubectl)
        with cluster.gateway() as url:
            record = bounce(cluster, url, found[1])
    except (Cannot, OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(record, indent=2))
    if arguments:
        Path(arguments[1]).write_text(json.dumps(record) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
