"""What a session is doing, as the query `status` answers it."""

from dataclasses import dataclass

IDLE, RUNNING, WAITING_APPROVAL, CLOSING_TURN = "idle", "running", "waiting approval", "closing turn"


@dataclass(frozen=True, kw_only=True)
class RunningTool:
    call: str
    tool: str
    state: str = "running"  #: running, or asks when it waits for a person
    since_s: int = 0  #: seconds since the epoch
    digest: str = ""  #: what an approval would be bound to


@dataclass(frozen=True, kw_only=True)
class Status:
    """All times are seconds since the epoch, 0 for never."""

    key: str
    state: str = IDLE
    turn: str = ""
    n: int = 0
    step: int = 0
    since_s: int = 0
    tools: tuple[RunningTool, ...] = ()
    queue: int = 0
    deliveries: int = 0
    deliveries_dropped: int = 0
    turns_in_run: int = 0
    turns: int = 0
    roll_overs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_microusd: int = 0
    last_reply: str = ""
    last_outcome: str = ""
    last_error: str = ""
    last_error_id: str = ""
    last_error_s: int = 0
    beats: int = 0  #: heartbeats that ran
    beat_outcome: str = ""  #: how the last one ended: quiet (it said HEARTBEAT_OK), answered, interrupted …
    beat_s: int = 0
    beats_skipped: int = 0
    beat_skip: str = ""  #: why the last one was skipped: a word of `domain.beats.SKIPS`
    beat_skip_s: int = 0
    beat_tokens: int = 0  #: that background turns used in this UTC day
    model: str = ""
    choice: str = ""  #: the model that a person chose for this session; empty: the configured one
    shell: str = ""  #: how shell commands are confined
    allowed: tuple[str, ...] = ()  #: patterns that a person allowed for this session
    build_id: str = ""
    run_id: str = ""
    closing: bool = False
    answered_by: str = "worker"  #: server, when no worker answers and only Temporal's own record is known
