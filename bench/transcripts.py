"""The transcript alone, at 1 MB, 50 MB and 1 GB: append, open for a prompt, repair of a torn last line, and the
first look of a worker that has not seen the file. The floor is what a file of 1 MB takes; of an append, a
plain write and sync of the same bytes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from agent_session.transcript.lines import event_line
from agent_session.transcript.reader import window
from agent_session.transcript.recorder import JsonlRecorder, Words
from bench.lines import write_transcript
from bench.numbers import Metric, median
from bench.world import World, fresh

MB = 1 << 20
CONTEXT_TOKENS = 100_000  #: the default window
INDEPENDENT = 1.5  #: times the smallest file's: beyond it, it grows with the file


class Current:
    """A proof that always holds: there is no other writer here."""

    def is_fresh(self) -> bool:
        return True

    def confirm(self) -> None:
        return


async def measure(world: World, quick: bool) -> list[Metric]:
    sizes = (MB, 50 * MB) if quick else (MB, 50 * MB, 1024 * MB)
    found: list[Metric] = []
    smallest: dict[str, float] = {}
    for size in sizes:
        key = fresh("file")
        path = write_transcript(world.volume, key, size)
        took = await _all(world, key, path, 20 if quick else 50)
        took["prompt"] = _median_ms(lambda key=key: window(world.volume, key, CONTEXT_TOKENS, ""), 10)
        plain = took.pop("plain")
        smallest = smallest or took
        name = f"transcript.{size // MB}_mb"
        found.append(Metric(f"{name}.append", took["append"], "ms", plain))
        for what in ("prompt", "first_append", "repair"):
            goal = INDEPENDENT if what == "prompt" and size > MB else None
            floor = smallest[what] if size > MB else None
            found.append(Metric(f"{name}.{what}", took[what], "ms", floor, goal=goal))
        path.unlink()
    return found


async def _all(world: World, key: str, path: Path, count: int) -> dict[str, float]:
    warm = JsonlRecorder(world.volume)
    await _turn(warm, key, "t-warm")
    appends, plains, firsts, repairs = list[float](), list[float](), list[float](), list[float]()
    for number in range(count):
        appends.append(await _turn(warm, key, f"t-{number}"))
        plains.append(_plain_write(world.folder / "plain"))
        if number % 4 == 0:
            firsts.append(await _turn(JsonlRecorder(world.volume), key, f"t-first-{number}"))
            with open(path, "ab") as file:
                file.write(b'{"v":1,"seq":')
            repairs.append(await _turn(JsonlRecorder(world.volume), key, f"t-torn-{number}"))
    return {name: median(values) * 1e3 for name, values in
            (("append", appends), ("plain", plains), ("first_append", firsts), ("repair", repairs))}  # fmt: skip


async def _turn(recorder: JsonlRecorder, key: str, turn: str) -> float:
    """One append: a person's words. The turn's end follows untimed."""
    words = [Words(f"w-{turn}", "hello " * 20, {"channel": "bench"})]
    began = time.perf_counter()
    await recorder.open_step(key, turn, 1, words, Current())
    took = time.perf_counter() - began
    await recorder.close(key, turn, (), event_line(turn, "ended", outcome="answered"), Current())
    return took


def _plain_write(path: Path) -> float:
    began = time.perf_counter()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"x" * 300)
    os.fsync(descriptor)
    os.close(descriptor)
    return time.perf_counter() - began


def _median_ms(work: Callable[[], object], count: int) -> float:
    took: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return median(took) * 1e3
