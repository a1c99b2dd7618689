"""Asserts in the contracts explain themselves like those in tests."""

import pytest

pytest.register_assert_rewrite("tests.contracts.tool", "tests.contracts.channel", "tests.contracts.model")
