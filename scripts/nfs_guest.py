"""Inside a guest of `nfs_lab.py`: runs what the host asks for over the second serial port, a JSON object a line.

Process 1 of the guest, after `init`. Standard library only.
"""

import json
import subprocess
import threading
import tty
from typing import Any

PORT = "/dev/ttyS1"


def main() -> None:
    port = open(PORT, "r+b", buffering=0)  # noqa: SIM115  # for as long as the guest lives
    tty.setraw(port)
    writing = threading.Lock()

    def say(what: dict[str, Any]) -> None:
        with writing:
            data = json.dumps(what).encode() + b"\n"
            while data:
                data = data[port.write(data) or 0 :]

    def run(asked: dict[str, Any]) -> None:
        try:
            done = subprocess.run(asked["run"], shell=True, capture_output=True, text=True, timeout=asked["within_s"])
            say({"id": asked["id"], "code": done.returncode, "out": done.stdout, "err": done.stderr})
        except subprocess.TimeoutExpired as error:
            out = (error.stdout or b"").decode(errors="replace")
            say({"id": asked["id"], "code": -1, "out": out, "err": "took too long"})

    say({"ready": True})
    rest = b""
    while True:
        rest += port.read(1) or b""
        if rest.endswith(b"\n"):
            threading.Thread(target=run, args=(json.loads(rest),), daemon=True).start()
            rest = b""


if __name__ == "__main__":
    main()
