"""The product against a real inference server: llama.cpp's, with a model of random weights made here.

Run as a program, this file is that server: `python test_a_real_inference_server.py MODEL.gguf` prints the
server's address and serves until its standard input ends.
"""

import importlib
import json
import os
import string
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import running, wait_until

CONTEXT, WIDTH = 16_384, 64
PLAIN = ["<unk>", "<s>", "</s>"]
CHAT = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant: "


def needs(name: str) -> Any:
    """The package, or a skip where it may be missing; CI sets AGENT_TESTS_REQUIRE_ALL."""
    return importlib.import_module(name) if os.environ.get("AGENT_TESTS_REQUIRE_ALL") else pytest.importorskip(name)


def make_model(path: Path) -> None:
    """A llama of one layer and a token a byte. Its weights are random, but for one direction in which every
    embedding points and which only lower-case letters answer to: it babbles, and always readably."""
    gguf, np = needs("gguf"), needs("numpy")
    random = np.random.default_rng(7)

    def noise(*shape: int) -> Any:
        return (random.standard_normal(shape) * 0.1).astype(np.float32)

    tokens = PLAIN + [f"<0x{byte:02X}>" for byte in range(256)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + [gguf.TokenType.BYTE] * 256
    embedding, output = noise(len(tokens), WIDTH), noise(len(tokens), WIDTH)
    embedding[:, 0], output[:, 0] = 1.0, -20.0
    for letter in string.ascii_lowercase:
        output[len(PLAIN) + ord(letter), 0] = 2.0
    ones = np.ones(WIDTH, np.float32)

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // 2)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([int(kind) for kind in kinds])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(CHAT)
    tensors = {"token_embd": embedding, "output": output, "output_norm": ones}
    tensors |= {"blk.0.attn_norm": ones, "blk.0.ffn_norm": ones}
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        tensors[f"blk.0.{name}"] = noise(WIDTH, WIDTH)
    for name, tensor in tensors.items():
        writer.add_tensor(f"{name}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def serve(path: Path) -> None:
    from xllamacpp import CommonParams, Server  # type: ignore[import-not-found]

    params = CommonParams()
    params.model.path = str(path)
    params.hostnames, params.port, params.n_ctx, params.n_parallel, params.warmup = ["127.0.0.1"], 0, CONTEXT, 1, False
    server = Server(params)
    print(f"serving {server.listening_address}", flush=True)
    sys.stdin.read()
    os._exit(0)  # the server's own threads have no end


@contextmanager
def inference_server(folder: Path) -> Iterator[str]:
    """The server in a process of its own, on a port that the system chose."""
    needs("xllamacpp")
    make_model(folder / "tiny.gguf")
    errors = folder / "server.err"
    with errors.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, str(folder / "tiny.gguf")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = next((line for line in process.stdout if line.startswith("serving ")), "")
        assert said, errors.read_text()
        yield said.split()[1]
    finally:
        process.stdin.close()
        process.wait(15)


def test_a_streamed_turn_of_a_real_model_is_seen_as_it_comes_recorded_and_answered(tmp_path: Path) -> None:
    with inference_server(tmp_path) as address:
        settings = {
            "AGENT_SESSION_MODEL__NAME": "openai-chat:tiny",
            "AGENT_SESSION_MODEL__BASE_URL": f"{address}/v1",
            "AGENT_SESSION_MODEL__MAX_OUTPUT_TOKENS": "16",
            "OPENAI_API_KEY": "x",
        }
        with running(tmp_path / "data", **settings) as up:
            first = up.run("send", "main", "hello")  # watching needs a session to watch
            assert first.returncode == 0, first.stderr + up.errors.read_text()
            seen = (tmp_path / "watched").open("w+")
            watching = subprocess.Popen(
                [sys.executable, "-m", "agent_session", "watch", "main", "--json"], env=up.environment, stdout=seen
            )

            def events() -> list[dict[str, Any]]:
                return [
                    json.loads(line)
                    for line in Path(seen.name).read_text().splitlines(keepends=True)
                    if line[-1:] == "\n"
                ]

            try:
                replies: dict[str, str] = {}

                def watched_a_whole_turn() -> str | None:
                    """A watcher sees what comes after it is there: ask until one turn was seen whole."""
                    started = {event["turn"] for event in events() if event["kind"] == "step"}
                    ended = {event["turn"] for event in events() if event["kind"] == "turn_ended"}
                    for turn in started & ended & set(replies):
                        return turn
                    reply = json.loads(up.run("send", "main", "again", "--json").stdout)
                    replies[reply["turn"]] = reply["text"]
                    return None

                turn = wait_until(watched_a_whole_turn)
            finally:
                watching.terminate()
                watching.wait(15)
                seen.close()
            streamed = [event["text"] for event in events() if event["kind"] == "delta" and event["turn"] == turn]
            (line,) = [line for line in up.lines("main") if line["turn"] == turn and line["role"] == "assistant"]
    assert len(streamed) > 1, "it came piece by piece"
    assert "".join(streamed) == replies[turn] == line["content"]
    assert line["content"].isalpha()
    assert line["model"] == "openai-chat:tiny"
    assert line["usage"]["output_tokens"] == 16
    assert line["usage"]["input_tokens"] > 100
    assert line["usage"]["cached_tokens"] > 100, "the server kept what the turns before had in common"


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
