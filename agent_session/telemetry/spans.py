"""Traces: message -> turn -> model, tool -> delivery, with OpenTelemetry's conventions for generative AI.

A turn is a span of its own although it runs in several processes: its ids follow from the turn's id, its children
name it before it is written, and whoever ends the turn writes it. Must not hold content: no words, no arguments, no
names of people. A session is a digest, the same that ends the name of its folder on the volume.

Off, and nothing of OpenTelemetry is loaded, until `set_up` finds an endpoint.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from agent_session.settings import BadSettings, Settings

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, SpanContext, Tracer

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
EXPORT_TIMEOUT_S = 5
PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
Attributes = Mapping[str, str | int | float | Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class TurnContext:
    """A turn's span, as its steps know it: W3C trace parents, the turn's own first."""

    turn: str
    parent: str = ""  #: the span of the message that opened it; empty: it begins a trace
    links: tuple[str, ...] = ()  #: of other messages that it answers
    began_ms: int = 0  #: when the first of them was taken in


CURRENT: ContextVar[TurnContext | None] = ContextVar("turn", default=None)  #: of the activity that runs here
_span_id: ContextVar[int] = ContextVar("span_id", default=0)
_trace_id: ContextVar[int] = ContextVar("trace_id", default=0)


class Tracing:
    """The process's exporter and tracer."""

    def __init__(self, endpoint: str, provider: TracerProvider, tracer: Tracer) -> None:
        self.endpoint, self.provider, self.tracer = endpoint, provider, tracer


_one: Tracing | None = None


def endpoint_of(settings: Settings) -> str:
    """Where OTLP goes, without the path; empty: nowhere."""
    return (settings.telemetry.otlp_endpoint or os.environ.get(ENDPOINT, "")).rstrip("/")


def set_up(settings: Settings) -> bool:
    """Trace in this process, when an endpoint is configured. Returns whether it does. Errors: BadSettings."""
    global _one
    endpoint = endpoint_of(settings)
    if not endpoint:
        return False
    if _one is not None and _one.endpoint == endpoint:
        return True
    try:
        _one = _made(endpoint)
    except ImportError:
        if not settings.telemetry.otlp_endpoint:
            logging.getLogger("agent_session.telemetry").warning(
                f"{ENDPOINT} is set, but the extra otel is not installed: nothing is traced"
            )
            return False
        raise BadSettings(
            "telemetry.otlp_endpoint is set, but its libraries are not installed: pip install 'agent-session[otel]'"
        ) from None
    return True


def _made(endpoint: str) -> Tracing:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """Random, unless the span is one whose ids others know already."""

        def generate_span_id(self) -> int:
            return _span_id.get() or super().generate_span_id()

        def generate_trace_id(self) -> int:
            return _trace_id.get() or super().generate_trace_id()

    resource = Resource.create({"service.name": "agent-session", "service.version": our_version()})
    provider = TracerProvider(resource=resource, id_generator=Ids(), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return Tracing(endpoint, provider, provider.get_tracer("agent_session", our_version()))


def our_version() -> str:
    """Of the installed package."""
    return version("agent-session")


def digest(*parts: str, digits: int) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:digits]


def conversation_of(key: str) -> str:
    """A session, without saying its name: the first digits of the digest that ends its folder's name."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def turn_parent(turn: str, parent: str) -> str:
    """The trace parent that a turn's children name: ids that follow from its id, in the trace of `parent`."""
    found = PARENT.fullmatch(parent)
    trace, flags = (found[1], found[3]) if found else (digest("trace", turn, digits=32), "01")
    return f"00-{trace}-{digest('span', turn, digits=16)}-{flags}"


def _span_context(parent: str) -> SpanContext | None:
    from opentelemetry.trace import SpanContext, TraceFlags

    found = PARENT.fullmatch(parent)
    if found is None:
        return None
    return SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=TraceFlags(int(found[3], 16)))


def _context(parent: str) -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    found = _span_context(parent)
    return set_span_in_context(NonRecordingSpan(found), Context()) if found is not None else Context()


def _links(parents: Sequence[str]) -> list[Any]:
    from opentelemetry.trace import Link

    return [Link(found) for parent in parents if (found := _span_context(parent)) is not None]


def parent_of(span: Span) -> str:
    """W3C's `traceparent` of a span."""
    found = span.get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags):02x}"


@contextmanager
def span(
    name: str,
    attributes: Attributes,
    *,
    kind: str = "INTERNAL",
    parent: str | None = None,
    links: Sequence[str] = (),
) -> Generator[Span]:
    """A span around what is done inside; only where `set_up` said yes. `parent` None: the one that is under way
    here. What goes wrong is noted by its type alone."""
    from opentelemetry.trace import SpanKind, Status, StatusCode

    assert _one is not None
    begun = _one.tracer.start_as_current_span(
        name,
        context=None if parent is None else _context(parent),
        kind=SpanKind[kind],
        attributes=attributes,
        links=_links(links),
        record_exception=False,
        set_status_on_exception=False,
    )
    with begun as current:
        try:
            yield current
        except BaseException as error:
            named = getattr(error, "kind", "") or getattr(error, "type", "") or type(error).__name__
            current.set_attribute("error.type", str(named))
            current.set_status(Status(StatusCode.ERROR))
            raise


@contextmanager
def continuing(parent: str) -> Generator[None]:
    """What is done inside goes on with a caller's trace, where this process traces and `parent` is one of W3C's."""
    if _one is None or not PARENT.fullmatch(parent):
        yield
        return
    from opentelemetry.context import attach, detach

    token = attach(_context(parent))
    try:
        yield
    finally:
        detach(token)


def turn_span(context: TurnContext, end_ms: int, attributes: Attributes, *, failed: str = "") -> None:
    """Write the span of a turn that has ended. `failed`: the class word of its failure."""
    from opentelemetry.trace import Status, StatusCode

    found = PARENT.fullmatch(context.turn)
    if _one is None or found is None:
        return
    tokens = _trace_id.set(int(found[1], 16)), _span_id.set(int(found[2], 16))
    try:
        begun = _one.tracer.start_span(
            "invoke_agent agent-session",
            context=_context(context.parent),
            attributes=attributes,
            links=_links(context.links),
            start_time=context.began_ms * 1_000_000,
        )
    finally:
        _trace_id.reset(tokens[0])
        _span_id.reset(tokens[1])
    if failed:
        begun.set_attribute("error.type", failed)
        begun.set_status(Status(StatusCode.ERROR))
    begun.end(max(end_ms, context.began_ms) * 1_000_000)
