# Two commands do all the set-up: `make run` talks to the agent, `make test` runs the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: help setup run test e2e browser losses chaos chaos-short mutation lint types fmt check bench bench-check lock clean

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## Make the environment in .venv

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $$($(PYTHON) --version) is too old: agent-session needs Python 3.11 or newer" \
	    "(make PYTHON=python3.12 …)" >&2; exit 1; }
	@echo "making the environment in $(VENV) …" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]' >&2
	@touch $@

run: setup ## Talk to the agent (starts all that it needs)
	@$(BIN)/agent-session chat

test: setup ## Unit, property, replay and integration tests, against a real Temporal server
	@$(BIN)/python -m pytest -q -n 3 --dist worksteal

e2e: setup ## End-to-end tests: real processes, killed and paused
	@$(BIN)/python -m pytest -q tests/e2e tests/doctor tests/chaos/test_checker.py --timeout 400

browser: setup ## The page, in headless Chromium
	@$(BIN)/python -m pytest -q tests/browser --timeout 200

losses: setup ## The losses at a restart that peers have, one scenario each (about 3 minutes)
	@$(BIN)/python -m pytest -q tests/chaos/test_losses_at_restart.py --timeout 400

chaos: setup ## 5,000 messages, 50 sessions, 100 kills and every other fault, judged (30 minutes; CHAOS="--seed 1")
	@$(BIN)/python -m tests.chaos --messages 5000 --sessions 50 --kills 100 --seconds 1200 $(CHAOS)

chaos-short: setup ## The same, small (about 80 seconds)
	@$(BIN)/python -m tests.chaos --messages 150 --sessions 8 --kills 8 --seconds 45 $(CHAOS)

mutation: setup ## Mutants of domain/ and transcript/ that the tests let live (about 20 minutes)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[mutation]' >&2
	@PATH="$(BIN):$$PATH" $(BIN)/mutmut run --max-children 2 && $(BIN)/mutmut results

lint: setup ## Lint and import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@PATH="$(BIN):$$PATH" $(BIN)/lint-imports --no-cache

types: setup ## Types, strict
	@$(BIN)/pyright

fmt: setup ## Format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

check: lint types test ## All that a change must pass before it is proposed

bench: setup ## Benchmarks beside the floor of the same run; about 20 minutes (docs/performance.md)
	@$(BIN)/python -m bench $(BENCH)

bench-check: setup ## Quick benchmarks; fails where a ratio is 20 % worse than in bench/baseline.json, repeatedly
	@$(BIN)/python -m bench --quick --check $(BENCH)

lock: setup ## Write requirements.lock anew from what is installed
	@$(BIN)/python scripts/lock.py > requirements.lock.new && mv requirements.lock.new requirements.lock

include $(wildcard make/*.mk)

clean: ## Remove the environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist
