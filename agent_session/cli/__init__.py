"""The `agent-session` command: wiring only. Each command is one client call and one print."""
