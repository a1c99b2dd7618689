"""What we count, in one place: docs/observability.md says what each means, and a test holds the two together.

One registry a process, served by `telemetry.listen` or the gateway, and exported over OTLP where an endpoint is set;
Temporal's own metrics join it (`core_metrics.py`). No label may name a session, a person, a token or anything that
was said; names that people choose are bounded.

Those that the workflow records (`FROM_WORKFLOWS`) come through Temporal's meter, which keeps still in a replay.
"""

from weakref import WeakSet

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

REGISTRY = CollectorRegistry()
FURTHER: "WeakSet[CollectorRegistry]" = WeakSet()  #: this process's others: each gateway counts its requests apart
ProcessCollector(registry=REGISTRY)

QUICK_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
LONG_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
NAMES_KEPT = 50  #: of a label's values that people chose; the rest count as one
OTHER = "(other)"


def _histogram(name: str, about: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
    return Histogram(f"agent_session_{name}", about, labels, buckets=buckets, registry=REGISTRY)


def _counter(name: str, about: str, labels: tuple[str, ...] = ()) -> Counter:
    return Counter(f"agent_session_{name}", about, labels, registry=REGISTRY)


def _gauge(name: str, about: str, labels: tuple[str, ...] = ()) -> Gauge:
    return Gauge(f"agent_session_{name}", about, labels, registry=REGISTRY)


turn_duration = _histogram(
    "turn_duration_seconds", "From a message taken in to the end of its turn.", ("kind", "outcome", "approval"), LONG_S
)
queue_wait = _histogram(
    "queue_wait_seconds", "From a message taken in to the turn that takes it up.", ("kind",), LONG_S
)
first_token = _histogram(
    "time_to_first_token_seconds", "From a request to a model to the first words of its answer.", ("model",), QUICK_S
)
model_request = _histogram("model_request_duration_seconds", "One request to a model.", ("model", "outcome"), LONG_S)
tokens = _counter("tokens", "Tokens that models took in and gave.", ("model", "type"))
cost = _counter("cost_usd", "Dollars, where the price is known.", ("model",))
tool_duration = _histogram("tool_duration_seconds", "One tool call.", ("tool", "outcome"), LONG_S)
approvals_asked = _counter("approvals_asked", "Calls that a person was asked about.", ("tool",))
approvals_decided = _counter("approvals_decided", "What people decided on them.", ("tool", "decision"))
roll_overs = _counter("roll_overs", "Sessions that continued as new.")
beats_skipped = _counter("heartbeats_skipped", "Heartbeats that did not run.", ("reason",))
messages = _counter("messages", "Messages that this process handed to sessions.", ("channel", "kind"))
delivery = _histogram("delivery_duration_seconds", "One attempt to post a reply.", ("channel", "outcome"), QUICK_S)
delivery_wait = _histogram(
    "delivery_wait_seconds", "From a reply that is due to the post that went through.", ("channel",), LONG_S
)
attempts_failed = _counter("attempts_failed", "Attempts at a step that failed.", ("activity", "kind"))
oldest_step = _gauge("oldest_step_seconds", "Age of the oldest step under way on this worker.", ("activity",))
backlog_tasks = _gauge("backlog_tasks", "Tasks that nobody has taken yet.", ("queue",))
backlog_age = _gauge("backlog_age_seconds", "Age of the oldest task that nobody has taken yet.", ("queue",))
sessions = _gauge("sessions", "Live sessions, by what they need from a person.", ("needs",))
needs_oldest = _gauge("needs_oldest_seconds", "How long the longest of them has been seen to wait.", ("needs",))
ready = _gauge("ready", "Whether a part of what a gateway needs is there.", ("part",))
probe_success = _gauge("probe_success", "Whether the channel's last synthetic probe went through.", ("channel",))
probe_duration = _gauge("probe_duration_seconds", "How long the channel's last synthetic probe took.", ("channel",))
probe_time = _gauge("probe_timestamp_seconds", "When the channel was probed last, since the epoch.", ("channel",))
starts = _counter("process_starts", "Starts of this process, over restarts of its container.", ("role",))
crashes = _counter("process_crashes", "Starts after an end that was not a clean one.", ("role",))
crashes_recent = _gauge("process_crashes_recent", "Unclean ends in the last 5 minutes.", ("role",))
build_info = _gauge("build_info", "Always 1.", ("role", "version", "build_id"))

#: recorded inside workflows, under these names without their unit's suffix being added
FROM_WORKFLOWS = {
    "agent_session_turn_duration_seconds": turn_duration,
    "agent_session_queue_wait_seconds": queue_wait,
    "agent_session_roll_overs": roll_overs,
    "agent_session_heartbeats_skipped": beats_skipped,
}

_known: dict[str, set[str]] = {}


def bounded(label: str, name: str) -> str:
    """A label's value that people had a hand in, such as a model that they chose: the first 50 of each label, then one
    for all."""
    known = _known.setdefault(label, set())
    if name not in known:
        if len(known) >= NAMES_KEPT:
            return OTHER
        known.add(name)
    return name
