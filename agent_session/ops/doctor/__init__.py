"""What `agent-session doctor` looks at: each check says in a sentence what it found and what to do."""
