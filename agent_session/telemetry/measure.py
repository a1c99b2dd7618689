"""What activities measure where it happens: a request to a model, a tool call, a delivery. Each is counted, and is a
span where its turn is traced. Never the words.
"""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

from agent_session.domain.turns import NOBODY_ANSWERED, Decision
from agent_session.models.base import ModelAnswer, ModelFault
from agent_session.telemetry import metrics, spans

#: what OpenTelemetry calls the providers that pydantic-ai calls otherwise
PROVIDERS: Mapping[str, str] = {
    "openai-chat": "openai",
    "openai-responses": "openai",
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "google": "gcp.gemini",
    "google-gla": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "grok": "x_ai",
    "xai": "x_ai",
}


class ModelCall:
    """One request, while it runs."""

    def __init__(self, model: str) -> None:
        self.label, self._began = metrics.bounded("model", model), time.monotonic()
        self.first_s = 0.0  #: to the first words; 0: none came
        self.answer: ModelAnswer | None = None

    def hearing(self, on_text: Callable[[str], None]) -> Callable[[str], None]:
        """As `on_text`, noting when the first words come."""

        def heard(text: str) -> None:
            if not self.first_s and text:
                self.first_s = time.monotonic() - self._began
                metrics.first_token.labels(self.label).observe(self.first_s)
            on_text(text)

        return heard

    def ended(self, outcome: str) -> None:
        metrics.model_request.labels(self.label, outcome).observe(time.monotonic() - self._began)
        answer = self.answer
        if answer is None:
            return
        for kind in ("input", "output", "cached"):
            if count := int(getattr(answer, f"{kind}_tokens")):
                metrics.tokens.labels(self.label, kind).inc(count)
        metrics.cost.labels(self.label).inc(answer.cost_microusd / 1e6)  # 0, too: the series is there


@contextmanager
def model_call(model: str, max_tokens: int) -> Generator[ModelCall]:
    """Around one request; `answer` is set where there is one."""
    call, outcome = ModelCall(model), "cancelled"
    try:
        if spans.CURRENT.get() is None:
            yield call
        else:
            with spans.span(f"chat {call.label}", _asked(model, max_tokens), kind="CLIENT") as span:
                yield call
                for name, value in _answered(call).items():
                    span.set_attribute(name, value)
        outcome = "ok"
    except ModelFault as fault:
        outcome = fault.kind
        raise
    except Exception:
        outcome = "internal"
        raise
    finally:
        call.ended(outcome)


def _asked(model: str, max_tokens: int) -> dict[str, str | int]:
    return {
        "gen_ai.operation.name": "chat",
        **_named(model),
        "gen_ai.request.max_tokens": max_tokens,
        "gen_ai.output.type": "text",
    }


def _named(model: str) -> dict[str, str]:
    provider, _, name = model.partition(":")
    return {"gen_ai.provider.name": PROVIDERS.get(provider, provider), "gen_ai.request.model": name or model}


def _answered(call: ModelCall) -> dict[str, str | int | float | list[str]]:
    answer = call.answer
    if answer is None:
        return {}
    found: dict[str, str | int | float | list[str]] = {
        "gen_ai.usage.input_tokens": answer.input_tokens,
        "gen_ai.usage.output_tokens": answer.output_tokens,
    }
    if answer.finish:
        found["gen_ai.response.finish_reasons"] = [answer.finish]
    more = {
        "gen_ai.usage.cache_read.input_tokens": answer.cached_tokens,
        "gen_ai.response.time_to_first_chunk": call.first_s,
        "agent_session.cost_usd": answer.cost_microusd / 1e6,
    }
    return found | {name: value for name, value in more.items() if value}


class ToolCall:
    """One call, while it runs; how it ended is set before the end."""

    outcome = "interrupted"


@contextmanager
def tool_call(tool: str, call: str) -> Generator[ToolCall]:
    """The span of a call that runs; `tool_ended` counts it."""
    running = ToolCall()
    if spans.CURRENT.get() is None:
        yield running
        return
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": tool,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": call,
    }
    with spans.span(f"execute_tool {tool}", attributes) as span:
        yield running
        span.set_attribute("agent_session.outcome", running.outcome)
        if running.outcome != "ok":
            span.set_attribute("error.type", running.outcome)


def tool_ended(tool: str, outcome: str, took_s: float) -> None:
    """`tool`: of the toolbox, or empty for a name that a model made up."""
    metrics.tool_duration.labels(metrics.bounded("tool", tool) if tool else metrics.OTHER, outcome).observe(took_s)


def asked(tool: str) -> None:
    """A person is asked about a call; `tool` is one of the toolbox."""
    metrics.approvals_asked.labels(metrics.bounded("tool", tool)).inc()


def decided(tool: str, given: Decision) -> None:
    """What a person, or nobody in time, said on it."""
    expired = given.reason == NOBODY_ANSWERED and not given.mac
    metrics.approvals_decided.labels(metrics.bounded("tool", tool), "expired" if expired else given.decision).inc()


class Posting:
    """One attempt to deliver, while it runs."""

    outcome = "failed"


@contextmanager
def posting(channel: str, kind: str, due_s: float) -> Generator[Posting]:
    """Around one attempt. `due_s`: when the reply was due, since the epoch."""
    attempt, began = Posting(), time.monotonic()
    try:
        if spans.CURRENT.get() is None:
            yield attempt
        else:
            attributes = {"agent_session.channel": channel, "agent_session.kind": kind}
            with spans.span(f"deliver {channel}", attributes, kind="PRODUCER"):
                yield attempt
        attempt.outcome = "posted"
        metrics.delivery_wait.labels(channel).observe(max(0.0, time.time() - due_s))
    except ValueError:
        attempt.outcome = "refused"
        raise
    finally:
        metrics.delivery.labels(channel, attempt.outcome).observe(time.monotonic() - began)


def turn_ended(key: str, outcome: str, *, model: str, failed: str = "", spent: Mapping[str, int] | None = None) -> None:
    """Write the turn's span, where it is traced: to be said by whoever recorded the end. `model`: that of the session,
    also where none was asked."""
    turn = spans.CURRENT.get()
    if turn is None:
        return
    used = spent or {}
    attributes: dict[str, str | int] = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "agent-session",
        **_named(model),
        "gen_ai.conversation.id": spans.conversation_of(key),
        "agent_session.outcome": outcome,
    }
    for name in ("input_tokens", "output_tokens"):
        if count := int(used.get(name, 0)):
            attributes[f"gen_ai.usage.{name}"] = count
    spans.turn_span(turn, int(time.time() * 1000), attributes, failed=failed)
