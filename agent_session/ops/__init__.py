"""Running it as a service: the embedded Temporal server, the supervisor, who owns a data directory."""
