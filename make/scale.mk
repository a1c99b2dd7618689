.PHONY: scale scale-measure scale-validate

scale: setup ## The tables of docs/scaling.md anew: simulate the days (some minutes), then write
	@$(BIN)/python -m bench.scale simulate
	@$(BIN)/python -m bench.scale write

scale-measure: setup ## The figures behind docs/scaling.md anew, on the real system (about 5 minutes; needs strace, redis-server)
	@$(BIN)/python -m bench.scale measure $(SCALE)

scale-validate: setup ## The simulation beside the real system (about 3 minutes)
	@$(BIN)/python -m bench.scale validate
