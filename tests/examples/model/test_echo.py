"""Echo keeps the contract of a model, and its faults are ones that the engine knows."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent_session.models.base import ModelFault
from agent_session.settings import load_settings
from tests.contracts.model import ask, check_fault, check_model, check_refusal, prompt
from tests.examples.model import echo


async def test_echo_says_back_what_it_heard(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": tmp_path})
    model = echo.create("echo", settings)
    await check_model(model)
    assert (await ask(model, prompt("good morning")))[1].text == "good morning"
    check_refusal(echo, "echo:loud", settings)


async def test_a_turn_without_words_is_a_fault_for_good(tmp_path: Path) -> None:
    model = echo.create("echo", load_settings({"data_dir": tmp_path}))
    with pytest.raises(ModelFault) as refused:
        await model.answer(replace(prompt(""), lines=[]), print)
    check_fault(refused.value)
    assert not refused.value.transient
