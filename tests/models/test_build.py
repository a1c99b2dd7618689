"""Any provider by its name, and errors that say what to install or to set."""

import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import providers

from agent_session.models import ModelFault, load_model
from agent_session.models.build import EXTRAS, OLD_NAMES
from agent_session.settings import load_settings

NO_CHAT = {  # makers of vectors, voices and judgements, retired ones, and sign-ins that no setting can hold
    *("elevenlabs", "sentence-transformers", "voyageai", "system-one", "typesafe", "github"),
    *("openai-decisions", "google-decisions", "openai-chatgpt", "openai-codex"),
}
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
ALL = sorted([*EXTRAS, *OLD_NAMES])


def load(name: str, **model: Any) -> Any:
    return load_model(load_settings({"model": {"name": name, **model}}))


def fault(name: str, **model: Any) -> str:
    with pytest.raises(ModelFault) as raised:
        load(name, **model)
    assert (raised.value.kind, raised.value.transient) == ("model_setup", False)
    return str(raised.value)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.endswith(("_API_KEY", "_TOKEN", "_ENDPOINT", "_BASE_URL")) or name.startswith("AWS_"):
            monkeypatch.delenv(name)


def test_every_chat_provider_of_the_installed_library_is_known() -> None:
    source = inspect.getsource(providers.infer_provider_class)
    there = {name for case in re.findall(r"case (.+):", source) for name in re.findall(r"'([^']+)'", case)}
    assert there - NO_CHAT == set(EXTRAS)


def test_every_extra_that_an_error_names_is_one_of_ours() -> None:
    ours = PROJECT["optional-dependencies"]
    assert {extra for extra in EXTRAS.values() if extra} <= set(ours)
    for extra in {extra for extra in EXTRAS.values() if extra}:
        assert any(f"pydantic-ai-slim[{extra}" in wanted for wanted in ours[extra]), extra


@pytest.mark.parametrize("prefix", ALL)
def test_a_name_alone_says_what_to_install_or_to_set(prefix: str) -> None:
    """Nothing is set here. What is not installed is named with our extra; else the variable is."""
    said = fault(f"{prefix}:some-model")
    assert said.startswith(f"model.name '{prefix}:some-model'")
    extra = EXTRAS[OLD_NAMES.get(prefix, prefix)]
    if "not installed" in said:
        assert f'pip install "agent-session[{extra}]"' in said
        assert "pydantic-ai-slim" not in said
    else:
        assert re.search(r"set the environment variable [A-Z_]+|needs model.base_url|credentials", said), said


@pytest.mark.parametrize(
    ("prefix", "variable"),
    [
        ("anthropic", "ANTHROPIC_API_KEY"),
        ("openai", "OPENAI_API_KEY"),
        ("openai-chat", "OPENAI_API_KEY"),
        ("openrouter", "OPENROUTER_API_KEY"),
        ("deepseek", "DEEPSEEK_API_KEY"),
        ("ollama", "OLLAMA_BASE_URL"),
        ("azure", "AZURE_OPENAI_ENDPOINT"),
    ],
)
def test_a_missing_key_is_named(prefix: str, variable: str) -> None:
    assert fault(f"{prefix}:some-model").endswith(f"cannot be used: set the environment variable {variable}")


@pytest.mark.parametrize(
    "name", ["nosuch:model", "gpt-5", "openai:", "test", "gateway/openai:gpt-5", ":", "elevenlabs:x"]
)
def test_a_name_that_is_none_is_answered_with_those_that_are(name: str) -> None:
    said = fault(name)
    assert name in said
    assert "provider:model" in said
    assert all(known in said for known in ("anthropic", "openai-chat", "google", "bedrock", "offline"))


def test_an_address_reaches_every_provider_that_can_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "http://127.0.0.1:9/v1"
    assert load("openai-chat:m", base_url=address)._model.base_url == address + "/"
    assert load("litellm:m", base_url=address)._model.base_url == address + "/"
    assert load("ollama:m", base_url=address)._model.base_url == address + "/"
    monkeypatch.setenv("DEEPSEEK_API_KEY", "x")
    assert "fixed address" in fault("deepseek:m", base_url=address)


def test_no_client_retries_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    for name in ("openai:m", "openai-chat:m", "anthropic:m"):
        assert load(name)._model.client.max_retries == 0


async def test_another_providers_key_never_goes_to_the_configured_base_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person may choose a model for a session; the base URL belongs to the configured provider alone."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-key")
    monkeypatch.setenv("OPENAI_API_KEY", "canary-key")
    model = {"name": "openai-chat:mine", "base_url": "http://127.0.0.1:9/v1"}
    settings = load_settings({"data_dir": tmp_path, "model": model})
    same: Any = load_model(settings, "openai-chat:other")
    other: Any = load_model(settings, "anthropic:claude-sonnet-4-5")
    assert same._model.base_url.startswith("http://127.0.0.1:9/")
    assert "anthropic.com" in other._model.base_url
