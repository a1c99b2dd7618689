.PHONY: manifests k8s-secrets kind-up kind-demo kind-down

manifests: setup ## Render every overlay of k8s/, check schemas and policies (fetches a kubectl where there is none)
	@$(BIN)/python -m pytest -q tests/manifests

k8s-secrets: ## Make the secret files that an overlay names (OVERLAY=k8s/overlays/production)
	@$(PYTHON) scripts/k8s_secrets.py $(or $(OVERLAY),k8s/overlays/kind)

kind-up: ## A cluster of three nodes on this machine, with everything in it (needs kind, docker or podman, kubectl)
	@$(PYTHON) scripts/kind.py up

kind-demo: ## Kill a worker's pod in the middle of a tool; its turn ends on another node
	@$(PYTHON) scripts/kind_demo.py $(DEMO)

kind-down: ## Remove that cluster
	@$(PYTHON) scripts/kind.py down
