# The container image, compose.yaml, and what shows that both work.
.PHONY: image bounce containers compose-up compose-smoke compose-down

image: setup ## Build the container image (BASE, EXTRAS, PACKAGES, ENGINE; docs/operations/containers.md)
	@$(BIN)/python -m deploy.image

bounce: setup ## Kill a worker's container in mid-tool; its turn ends on another (prints a record)
	@$(BIN)/python -m tests.containers.bounce $(BOUNCE)

containers: setup ## The image, its health check, the killed container and compose.yaml, with a container engine
	@$(BIN)/python -m pytest -q -s tests/containers --timeout 900

compose-up: setup ## Start compose.yaml, with generated passwords (PROFILES="slack observability")
	@$(BIN)/python -m deploy.stack up

compose-smoke: setup ## Ask something through the gateway of compose.yaml
	@$(BIN)/python -m deploy.stack smoke

compose-down: setup ## Stop compose.yaml; its data stays
	@$(BIN)/python -m deploy.stack down
