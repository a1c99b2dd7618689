"""`agent-session config`: what is in force and from where, and an edit that never leaves a broken file."""

import json
import os
import pty
import re
import select
import stat
import subprocess
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_session.settings import BadSettings, Settings, load_settings
from agent_session.settings_tree import check_file, effective, is_secret, lines_of, masked, template
from agent_session.transcript.volume import Volume
from tests.e2e.support import COMMAND, clean_environment

Run = Callable[..., "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    Volume(tmp_path / "data").create()
    return tmp_path / "data"


@pytest.fixture
def run(data: Path) -> Run:
    def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, "config", *arguments],
            env=clean_environment(data, **environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


def editor(tmp_path: Path, *texts: str) -> str:
    """An editor that leaves these texts behind, one a call."""
    for number, text in enumerate(texts, 1):
        (tmp_path / f"text-{number}").write_text(text)
    script = tmp_path / "an editor"
    script.write_text(
        f'#!/bin/sh\nn=$(($(cat "{tmp_path}/calls" 2>/dev/null || echo 0) + 1))\n'
        f'echo $n > "{tmp_path}/calls"\nls -l "$1" > "{tmp_path}/listed"\ncat "{tmp_path}/text-$n" > "$1"\n'
    )
    script.chmod(0o700)
    return f"'{script}'"


# show


def test_every_value_is_shown_with_its_origin(run: Run, data: Path) -> None:
    (data / "config.toml").write_text('# mine\n\n[model]\nmax_steps = 7\n[operations]\n"build_prompt_attempts" = 2\n')
    shown = run(
        "show", "--json", AGENT_SESSION_MODEL__NAME="offline", AGENT_SESSION_TOOLS__FILES='{"max_read_bytes": 2048}'
    )
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert found["model.max_steps"] == {"value": 7, "origin": "config.toml line 4"}
    assert found["operations.build_prompt_attempts"] == {"value": 2, "origin": "config.toml line 6"}
    assert found["tools.shell.network"] == {"value": False, "origin": "default"}
    assert found["model.name"] == {"value": "offline", "origin": "environment AGENT_SESSION_MODEL__NAME"}
    assert found["tools.files.max_read_bytes"] == {"value": 2048, "origin": "environment AGENT_SESSION_TOOLS__FILES"}
    assert found["tools.files.max_write_bytes"]["origin"] == "default"
    assert found["data_dir"] == {"value": str(data), "origin": "environment AGENT_SESSION_DATA_DIR"}


def test_a_flag_is_named_as_origin(run: Run, data: Path) -> None:
    found = json.loads(run("show", "data_dir", "--json", "--data-dir", str(data)).stdout)
    assert found == {"data_dir": {"value": str(data), "origin": "flag --data-dir"}}


def test_for_a_person_it_is_aligned_toml_within_80_columns(run: Run, data: Path) -> None:
    (data / "config.toml").write_text("[model]\nmax_steps = 7\n")
    shown = run(
        "show", AGENT_SESSION_TOOLS__ASK="shell,write_file", AGENT_SESSION_OPERATIONS__BUILD_PROMPT_TIMEOUT_S="9"
    )
    tree = tomllib.loads(shown.stdout)
    assert tree["model"]["max_steps"] == 7
    assert tree["tools"]["ask"] == ["shell", "write_file"]
    lines = [line for line in shown.stdout.splitlines() if str(data) not in line]
    assert max(map(len, lines)) <= 80, max(lines, key=len)
    short = [left for line in lines if len(left := line.partition("  #")[0].rstrip()) < 44 and "  # default" in line]
    assert len(short) > 30
    assert {line.index("# default") for line in lines if line.startswith(tuple(f"{left} " for left in short))} == {44}
    assert "\x1b" not in shown.stdout


def test_secrets_are_stars_and_keys_only_set_or_not(run: Run, data: Path) -> None:
    (data / "config.toml").write_text(
        '[temporal]\napi_key = "canary-1"\n[model]\nbase_url = "http://me:canary-2@host/v1"\n'
    )
    more = {"OPENAI_API_KEY": "canary-3", "GROQ_API_KEY": "canary-4", "TEMPORAL_API_KEY": "canary-5"}
    for form in ("show", "show --json", "show temporal"):
        shown = run(*form.split(), **more)
        assert "canary" not in shown.stdout + shown.stderr
        assert "********" in shown.stdout
    text = run("show", **more).stdout
    assert "# ANTHROPIC_API_KEY is not set" in text
    assert "# OPENAI_API_KEY is set" in text
    assert "# GROQ_API_KEY is set" in text
    assert "TEMPORAL_API_KEY" in text
    assert "# model in force: openai:" in text
    assert json.loads(run("show", "--json").stdout)["mac_key_file"]["value"] is None


@pytest.mark.parametrize(
    ("name", "secret"),
    [("api_key", True), ("bot_token", True), ("password", True), ("signing_secret", True),
     ("Authorization", True), ("GITHUB_TOKEN", True), ("mac_key_file", False), ("name", False), ("monkey", False)],
)  # fmt: skip
def test_what_a_secret_is_called(name: str, secret: bool) -> None:
    assert is_secret(name) is secret
    assert masked(name, 4096) == 4096, "a number is none, whatever its name"


@pytest.mark.parametrize(
    ("prefix", "keys"),
    [
        ("model.max_steps", {"model.max_steps"}),
        ("tools.shell", None),
        ("model.max", {"model.max_steps", "model.max_output_tokens"}),
    ],
)
def test_a_key_a_group_or_a_beginning_narrows_it(run: Run, prefix: str, keys: set[str] | None) -> None:
    found = set(json.loads(run("show", prefix, "--json").stdout))
    assert found == keys if keys else all(key.startswith("tools.shell.") for key in found)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("modell", "model"), ("tools.shel.sandbox", "tools.shell.sandbox"), ("sandbx", "tools.shell.sandbox")],
)
def test_a_key_that_is_none_gets_the_nearest_names(run: Run, wrong: str, near: str) -> None:
    shown = run("show", wrong)
    assert shown.returncode == 2
    assert near in shown.stderr
    assert shown.stdout == ""


def test_settings_that_cannot_be_used_are_said_as_everywhere(run: Run, data: Path) -> None:
    (data / "config.toml").write_text("[model]\ntimeout_s = 3\n[tools.shell]\ntimeout_s = 'long'\n")
    shown = run("show")
    assert shown.returncode == 2
    assert shown.stderr.startswith("error: tools.shell.timeout_s = 'long'")
    assert "config.toml line 4" in shown.stderr, "the line of this key, not of another of that name"


def test_lines_are_those_of_the_toml_parser() -> None:
    text = 'a = """\nx = 1\n[y]\n"""\n# c = 1\n\n[b.c]\r\n"d" = [\n 1,\n 2]\ne.f = {g = 1}\n[[h]]\ni = 1\n'
    found = lines_of(text)
    assert {key: found[key] for key in [("a",), ("b", "c", "d"), ("b", "c", "e", "f", "g"), ("h", "i")]} == {
        ("a",): 1, ("b", "c", "d"): 8, ("b", "c", "e", "f", "g"): 11, ("h", "i"): 13,
    }  # fmt: skip
    assert ("x",) not in found


def test_no_setting_is_left_out(data: Path) -> None:
    settings, entries = effective(data)
    keys = {one.key for one in entries}
    for name, value in settings:
        assert any(key == name or key.startswith(f"{name}.") for key in keys), (name, value)


# path


def test_the_path_is_printed_whether_or_not_the_file_exists(run: Run, data: Path) -> None:
    missing = run("path")
    assert (missing.returncode, missing.stdout) == (0, f"{data}/config.toml\n")
    assert "does not exist" in missing.stderr
    (data / "config.toml").write_text("broken [")
    there = run("path")
    assert (there.returncode, there.stdout, there.stderr) == (0, f"{data}/config.toml\n", "")


# edit


def test_the_first_edit_begins_with_a_template_that_sets_nothing(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text(template())
    check_file(tmp_path / "plain", tmp_path)
    plain = load_settings({"data_dir": tmp_path}, config=tmp_path / "plain")
    assert plain.model_dump() == load_settings({"data_dir": tmp_path}).model_dump()


def test_any_line_of_the_template_can_be_set(tmp_path: Path) -> None:
    (tmp_path / "all").write_text(re.sub(r"^# (\w+ = [^…\n]+)$", r"\1", template(), flags=re.MULTILINE))
    check_file(tmp_path / "all", tmp_path)
    everything = load_settings({"data_dir": tmp_path}, config=tmp_path / "all")
    assert everything.model_dump() == load_settings({"data_dir": tmp_path}).model_dump()
    assert {name for name in Settings.model_fields if name != "data_dir"} - set(
        tomllib.loads((tmp_path / "all").read_text())
    ) == {"mac_key_file"}


def test_what_is_valid_is_saved_with_the_former_beside_it(run: Run, data: Path, tmp_path: Path) -> None:
    (data / "config.toml").write_text("[model]\nmax_steps = 1\n")
    done = run("edit", EDITOR=editor(tmp_path, "[model]\nmax_steps = 2\n"))
    assert done.returncode == 0, done.stderr
    assert "saved" in done.stderr
    assert (data / "config.toml").read_text() == "[model]\nmax_steps = 2\n"
    assert (data / "config.toml.bak").read_text() == "[model]\nmax_steps = 1\n"
    assert stat.S_IMODE((data / "config.toml").stat().st_mode) == 0o600
    assert (tmp_path / "listed").read_text().startswith("-rw------- "), "the copy is private"
    assert left_beside(data) == []


def left_beside(data: Path) -> list[Path]:
    return list(data.glob(".config.toml.edit-*"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[model]\nmax_steps = \n", ["not valid TOML", "line 2"]),
        ("[model]\nmax_steps = 'many'\n", ["model.max_steps", "'many'", "config.toml line 2"]),
        ("[model]\ncolour = 'blue'\n", ["model.colour", "no setting", "line 2"]),
        ("data_dir = '/x'\n", ["data_dir cannot be set"]),
        ("[tools.shell]\nsandbox = 'glass'\n", ["tools.shell.sandbox"]),
    ],
)
def test_what_is_not_valid_changes_nothing_and_is_kept(
    run: Run, data: Path, tmp_path: Path, text: str, words: list[str]
) -> None:
    (data / "config.toml").write_text("[model]\nmax_steps = 1\n")
    done = run("edit", VISUAL=editor(tmp_path, text), EDITOR="false")
    assert done.returncode == 2
    assert all(word in done.stderr for word in words), done.stderr
    assert (data / "config.toml").read_text() == "[model]\nmax_steps = 1\n"
    assert not (data / "config.toml.bak").exists()
    (kept,) = left_beside(data)
    assert kept.read_text() == text
    assert str(kept) in done.stderr


def test_a_bad_value_that_the_environment_hides_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edited").write_text("[model]\nmax_steps = 'many'\n")
    monkeypatch.setenv("AGENT_SESSION_MODEL__MAX_STEPS", "3")
    with pytest.raises(BadSettings, match=r"max_steps = 'many'(.|\n)*line 2"):
        check_file(tmp_path / "edited", tmp_path)


def test_a_file_that_cannot_be_used_now_can_be_mended(run: Run, data: Path, tmp_path: Path) -> None:
    (data / "config.toml").write_text("broken [")
    assert run("edit", EDITOR=editor(tmp_path, "[model]\nmax_steps = 2\n")).returncode == 0
    assert run("show", "model.max_steps").returncode == 0


def test_an_edit_that_changes_nothing_says_so_and_makes_nothing(run: Run, data: Path) -> None:
    done = run("edit", EDITOR="true")
    assert (done.returncode, (data / "config.toml").exists(), left_beside(data)) == (0, False, [])
    assert "nothing was changed" in done.stderr
    (data / "config.toml").write_text("[model]\n")
    done = run("edit", EDITOR="true")
    assert "unchanged" in done.stderr
    assert not (data / "config.toml.bak").exists()


def test_a_change_by_somebody_else_meanwhile_is_not_overwritten(run: Run, data: Path, tmp_path: Path) -> None:
    script = tmp_path / "slow"
    script.write_text(f'#!/bin/sh\necho "[model]" > "{data}/config.toml"\necho "[log]" > "$1"\n')
    script.chmod(0o700)
    done = run("edit", EDITOR=str(script))
    assert done.returncode == 1
    assert "somebody else" in done.stderr
    assert (data / "config.toml").read_text() == "[model]\n"
    assert left_beside(data)[0].read_text() == "[log]\n"


def test_a_link_stays_a_link_and_its_target_is_edited(run: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "dotfile").write_text("[model]\n")
    (data / "config.toml").symlink_to(tmp_path / "dotfile")
    assert run("edit", EDITOR=editor(tmp_path, "[log]\nlevel = 'debug'\n")).returncode == 0
    assert (data / "config.toml").is_symlink()
    assert "debug" in (tmp_path / "dotfile").read_text()


@pytest.mark.parametrize(
    ("environment", "code", "words"),
    [
        ({"EDITOR": "no-such-editor"}, 2, "no command 'no-such-editor', which EDITOR names"),
        ({"EDITOR": "", "VISUAL": "", "PATH": "/nowhere"}, 2, "set EDITOR to one"),
        ({"EDITOR": "false"}, 1, "ended with code 1, so nothing was saved"),
    ],
)
def test_an_editor_that_is_none_or_fails_is_said(
    run: Run, data: Path, environment: dict[str, str], code: int, words: str
) -> None:
    done = run("edit", **environment)
    assert done.returncode == code
    assert words in done.stderr
    assert left_beside(data) == []


def test_a_data_directory_is_never_made_by_an_edit(run: Run, tmp_path: Path) -> None:
    missing = run("edit", "--data-dir", str(tmp_path / "new"), EDITOR="true")
    assert missing.returncode == 1
    assert "agent-session init" in missing.stderr
    assert not (tmp_path / "new").exists()
    (tmp_path / "mount point").mkdir()
    empty = run("edit", "--data-dir", str(tmp_path / "mount point"), EDITOR="true")
    assert empty.returncode == 1
    assert "unmounted volume" in empty.stderr
    assert list((tmp_path / "mount point").iterdir()) == []


@pytest.mark.parametrize(("answer", "code", "saved"), [("\n", 0, True), ("n\n", 2, False)])
def test_on_a_terminal_one_may_edit_again(data: Path, tmp_path: Path, answer: str, code: int, saved: bool) -> None:
    main, side = pty.openpty()
    edit = editor(tmp_path, "[model]\nmax_steps = 0\n", "[model]\nmax_steps = 5\n")
    process = subprocess.Popen(
        [*COMMAND, "config", "edit"], env=clean_environment(data, EDITOR=edit), stdin=side, stdout=side, stderr=side
    )
    os.close(side)
    seen, deadline = "", time.monotonic() + 30
    while "edit again? [Y/n] " not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([main], [], [], 0.2)[0]:
            seen += os.read(main, 4096).decode()
    assert "model.max_steps = 0" in seen
    os.write(main, answer.encode())
    assert process.wait(15) == code
    os.close(main)
    assert (data / "config.toml").exists() is saved


# the document


def test_every_setting_is_named_in_the_document(tmp_path: Path) -> None:
    """In a table's first cell; `.x` there is short for a key of the same group as the one before it."""
    named: set[str] = set()
    for row in (ROOT / "docs" / "settings.md").read_text().splitlines():
        before = ""
        for name in re.findall(r"`([^`]+)`", row.split("|")[1]) if row.startswith("|") else ():
            before = f"{before.rpartition('.')[0]}{name}" if name.startswith(".") else name
            named.add(before)
    _, entries = effective(tmp_path)
    assert sorted({one.key for one in entries} - named) == []
