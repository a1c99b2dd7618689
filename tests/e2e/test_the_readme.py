"""What the README shows, run as it stands there."""

import json
import re
import subprocess
import sys
from pathlib import Path

from agent_session.gateway.address import read_gateway
from tests.e2e.support import running, wait_until

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_programs_five_lines_work(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    with running(tmp_path / "data") as up:
        done = subprocess.run(
            [sys.executable, "-c", program], env=up.environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.stdout == "You said: remember blue\n", done.stderr


def test_every_command_that_it_names_exists(tmp_path: Path) -> None:
    from agent_session.cli.app import COMMANDS

    named = set(re.findall(r"agent-session ([a-z]+)", README)) - {"agent"}
    assert named - {"chat"} <= set(COMMANDS)


def test_every_document_that_it_links_exists() -> None:
    root = Path(__file__).parents[2]
    for link in re.findall(r"\]\(([A-Za-z][^)#:]*)\)", README):
        assert (root / link).exists(), link


def test_the_curl_line_works(tmp_path: Path) -> None:
    (lines,) = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    with running(tmp_path / "data") as up:
        found = wait_until(lambda: read_gateway(tmp_path / "data"))
        up.run("send", "main", "remember green")
        script = lines.replace("~/.local/share/agent-session", str(tmp_path / "data"))
        script = script.replace("http://127.0.0.1:18790", found.url)
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(done.stdout)["text"] == "You said: remember green", done
