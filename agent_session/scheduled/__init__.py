"""What Temporal Schedules set going: heartbeats and scheduled messages."""
