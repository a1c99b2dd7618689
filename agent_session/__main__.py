"""`python -m agent_session` is the command `agent-session`."""

from agent_session.cli.main import main

main()
