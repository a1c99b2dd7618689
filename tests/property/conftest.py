"""Fewer examples where thousands of mutants are tried (`make mutation`), each in a moment."""

import os

from hypothesis import settings

settings.register_profile("mutation", max_examples=20, stateful_step_count=20, deadline=None, derandomize=True)
if "MUTANT_UNDER_TEST" in os.environ:
    settings.load_profile("mutation")
