"""Transcripts of a given size, line by line as the recorder writes them. Nothing sparse: each line is whole."""

import os
from pathlib import Path

from agent_session.paths import folder
from agent_session.transcript.lines import encode, event_line, user_line
from agent_session.transcript.log import FILE
from agent_session.transcript.volume import Volume

ANSWER = "The quick brown fox jumps over the lazy dog, and each word of it was paid for. " * 20
FLUSH_BYTES = 8 << 20


def write_transcript(volume: Volume, key: str, size: int) -> Path:
    """Plain turns, words and answer and end, until the file has `size` bytes; synced."""
    with volume.session_folder(key, create=True):
        path = volume.path_of(key) / FILE
    seq, n, waiting, written = 0, 0, bytearray(), 0
    with open(path, "ab") as file:
        while written + len(waiting) < size:
            n += 1
            turn = f"t-{n:016x}"
            words = user_line(turn, f"w{n:016x}", f"message {n} " + ANSWER[:300], channel="bench", principal="local:me")
            usage = {"input_tokens": 10, "output_tokens": 10}
            answer = {
                "turn": turn, "role": "assistant", "step": 1, "content": ANSWER, "tool_calls": [], "usage": usage,
                "model": "bench",
            }  # fmt: skip
            for line in (words, answer, event_line(turn, "ended", outcome="answered")):
                seq += 1
                waiting += encode(line, seq, n)
            if len(waiting) > FLUSH_BYTES:
                file.write(waiting)
                written, waiting = written + len(waiting), bytearray()
        file.write(waiting)
        file.flush()
        os.fsync(file.fileno())
    with folder(path.parent) as handle:
        os.fsync(handle)
    return path
