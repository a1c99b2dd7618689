"""The gateway: HTTP in front of `SessionClient`."""
