"""What brings agent-session onto other machines: its container image, and the compose file around it."""
