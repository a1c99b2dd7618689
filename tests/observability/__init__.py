"""Traces, metrics, health, alerts and dashboard, against the real thing."""
