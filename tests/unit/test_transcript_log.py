"""The one place that writes transcripts: only with a proof, under the lock, all or nothing (I4, I5)."""

import asyncio
import errno
import fcntl
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent_session.transcript import lines as L
from agent_session.transcript import log as log_module
from agent_session.transcript.log import TranscriptLog, View, VolumeFault
from agent_session.transcript.volume import Volume

KEY, TURN = "main", "t-0123456789abcdef"


class Stale(Exception):
    """Another attempt is the current one."""


class Lease:
    """A proof that is fresh, or is confirmed, or is lost; counts how often it was asked to confirm."""

    def __init__(self, *, fresh: bool = True, lost: bool = False) -> None:
        self._fresh, self._lost, self.confirmed = fresh, lost, 0

    def is_fresh(self) -> bool:
        return self._fresh

    def confirm(self) -> None:
        self.confirmed += 1
        if self._lost:
            raise Stale


@pytest.fixture
def log(volume: Volume) -> TranscriptLog:
    return TranscriptLog(volume, KEY, ThreadPoolExecutor(1))


def say(text: str) -> Callable[[View], str]:
    def plan(view: View) -> str:
        view.append(L.user_line(TURN, text, text), 1)
        return text

    return plan


def path_of(volume: Volume) -> Path:
    return volume.path_of(KEY) / "history.jsonl"


async def test_a_fresh_proof_is_enough_and_a_stale_one_is_confirmed_first(log: TranscriptLog, volume: Volume) -> None:
    fresh, stale = Lease(), Lease(fresh=False)
    assert await log.append(say("a"), fresh) == "a"
    assert await log.append(say("b"), stale) == "b"
    assert (fresh.confirmed, stale.confirmed) == (0, 1)
    assert path_of(volume).read_bytes().count(b"\n") == 2


async def test_without_a_proof_that_holds_nothing_is_written_and_others_of_the_batch_are(
    log: TranscriptLog, volume: Volume
) -> None:
    lost, kept = await asyncio.gather(
        log.append(say("lost"), Lease(fresh=False, lost=True)), log.append(say("kept"), Lease()), return_exceptions=True
    )
    assert isinstance(lost, Stale)
    assert kept == "kept"
    assert b"lost" not in path_of(volume).read_bytes()


async def test_a_write_in_pieces_is_written_whole(
    log: TranscriptLog, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(log_module.os, "write", lambda descriptor, data: write(descriptor, bytes(data[:7])))
    await log.append(say("x" * 100), Lease())
    monkeypatch.undo()
    (line,) = path_of(volume).read_bytes().splitlines()
    assert (L.decode(line) or {})["content"] == "x" * 100


async def test_a_write_that_fails_halfway_leaves_the_file_as_it_was(
    log: TranscriptLog, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.append(say("a"), Lease())
    before = path_of(volume).read_bytes()
    write = os.write

    def half(descriptor: int, data: bytes) -> int:
        if len(data) < 40:
            raise OSError(errno.ENOSPC, "full")
        return write(descriptor, bytes(data[: len(data) // 2]))

    monkeypatch.setattr(log_module.os, "write", half)
    with pytest.raises(VolumeFault) as fault:
        await log.append(say("b"), Lease())
    monkeypatch.undo()
    assert fault.value.errno == errno.ENOSPC
    assert path_of(volume).read_bytes() == before
    assert await log.append(say("c"), Lease()) == "c"
    assert [line["content"] for line in map(L.decode, path_of(volume).read_bytes().splitlines()) if line] == ["a", "c"]


async def test_a_writer_waits_for_another_one_and_not_for_ever(
    log: TranscriptLog, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.append(say("a"), Lease())
    with open(path_of(volume), "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = asyncio.create_task(log.append(say("b"), Lease()))
        done, _ = await asyncio.wait({waiting}, timeout=0.2)
        assert not done
        fcntl.flock(other, fcntl.LOCK_UN)
        assert await waiting == "b"
        fcntl.flock(other, fcntl.LOCK_EX)
        monkeypatch.setattr(log_module, "LOCK_DEADLINE_S", 0.1)
        with pytest.raises(VolumeFault) as fault:
            await log.append(say("c"), Lease())
        assert fault.value.errno == errno.EAGAIN


async def test_the_name_of_a_new_file_is_synced_too_and_only_then(
    log: TranscriptLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(log_module.os, "fsync", note)
    await log.append(say("a"), Lease())
    assert synced[-2:] == [True, False]
    synced.clear()
    await log.append(say("b"), Lease())
    assert synced == [False]


def test_a_line_is_known_by_what_it_records() -> None:
    event = {"role": "event", "event": "approval", "turn": "t", "call": "c"}
    assert L.key_of(L.user_line("t", "s", "words")) == L.user_key("t", "s")
    assert L.key_of({"turn": "t", "role": L.ASSISTANT, "step": 3}) == L.answer_key("t", 3)
    assert L.key_of({"turn": "t", "role": L.ASSISTANT}) == L.answer_key("t", 0)
    assert L.key_of(L.result_line("t", "c", "ok", "out")) == L.result_key("c")
    assert L.key_of(L.event_line("t", L.STARTED, call="c")) == L.started_key("c")
    assert L.key_of(L.event_line("t", L.ENDED, outcome="answered")) == L.ended_key("t")
    assert L.key_of(event) == "x/approval/t/c"
    assert L.key_of({"event": "sent", "turn": "t", "to": "file:a"}) == "x/sent/t/file:a"
    assert L.key_of({"event": "odd", "turn": "t"}) == "x/odd/t/"
