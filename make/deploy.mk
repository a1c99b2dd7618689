.PHONY: deploys

deploys: setup ## Rolling deploys: two builds side by side, 20 running sessions (about 2 minutes)
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal tests/deploys --timeout 200
