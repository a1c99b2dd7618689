"""The other side of a volume check, and how it is talked to: by pipes to a process of this host, or by files on the
volume itself to a doctor on another host.
"""

import os
import select
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import orjson

from agent_session.ops.doctor.volume_acts import another_process, kill

ANSWER_S = 30.0
POLL_S = 0.02


class PartnerFault(OSError):
    """The other side failed, or says nothing."""


class Partner(Protocol):
    def ask(self, act: str, **how: Any) -> None:
        """Tell it what to do; it begins at once."""
        ...

    def answer(self, within_s: float = ANSWER_S) -> dict[str, Any]:
        """What came of what it was asked. Errors: PartnerFault."""
        ...

    def call(self, act: str, **how: Any) -> dict[str, Any]:
        """Ask, and wait. Errors: PartnerFault."""
        ...


class Asking:
    """Numbers what is asked, so that the answer to a check that broke off is not taken for the next one's."""

    number = 0

    def say(self, what: dict[str, Any]) -> None:
        raise NotImplementedError

    def hear(self, within_s: float) -> dict[str, Any]:
        raise NotImplementedError

    def ask(self, act: str, **how: Any) -> None:
        self.number += 1
        self.say({"number": self.number, "act": act, **how})

    def answer(self, within_s: float = ANSWER_S) -> dict[str, Any]:
        deadline = time.monotonic() + within_s
        while (said := self.hear(deadline - time.monotonic())).pop("number", 0) != self.number:
            pass
        if "error" in said:
            raise PartnerFault(str(said["error"]))
        return said

    def call(self, act: str, **how: Any) -> dict[str, Any]:
        self.ask(act, **how)
        return self.answer()


class Child(Asking):
    """A process of this host."""

    def __init__(self, folder: Path) -> None:
        self._process = another_process(folder)
        self._read = b""

    def say(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(orjson.dumps(what) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PartnerFault("the second process ended") from None

    def hear(self, within_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        deadline, pipe = time.monotonic() + within_s, self._process.stdout.fileno()
        while b"\n" not in self._read:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(pipe, 65536) if ready else b""
            if not data:
                raise PartnerFault(f"the second process {'ended' if ready else 'does not answer'}")
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return orjson.loads(line)

    def close(self) -> None:
        kill(self._process)


class Letters(Asking):
    """Another host: we append to one file and read another, each opened anew for every look, as only then NFS asks the
    server. Both exist before the other side looks: that a file is missing is remembered for half a minute."""

    def __init__(self, outgoing: Path, incoming: Path) -> None:
        self._outgoing, self._incoming, self._at = outgoing, incoming, 0

    def say(self, what: dict[str, Any]) -> None:
        descriptor = os.open(self._outgoing, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(descriptor, orjson.dumps(what) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def hear(self, within_s: float) -> dict[str, Any]:
        """The next thing that the other side said. Errors: PartnerFault."""
        deadline = time.monotonic() + within_s
        while True:
            with suppress(FileNotFoundError), open(self._incoming, "rb") as file:
                file.seek(self._at)
                line = file.readline()
                if line.endswith(b"\n"):
                    self._at += len(line)
                    return orjson.loads(line)
            if time.monotonic() > deadline:
                raise PartnerFault("the other host does not answer")
            time.sleep(POLL_S)
