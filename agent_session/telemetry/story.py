"""What one session's workflow tells of its messages and turns, without a word in its state or an event of its own.

Deterministic: it reads what comes and goes through the interceptors, and the workflow's clock. Measures go to the
workflow's meter, which keeps still in a replay. What it knows of waiting messages travels over a roll-over in a header.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

from agent_session.domain.ids import scoped_id
from agent_session.domain.turns import ASK
from agent_session.telemetry.headers import CARRIED, MESSAGE, Headers, Raw, mapping, packed, unpacked
from agent_session.telemetry.spans import turn_parent

LATE_MS = 300_000  #: a message that waited longer than tracing backends hold a trace open is linked, not the parent
MESSAGES, MESSAGES_CARRIED, TURNS = 2_000, 200, 8
TURN_ID_CHARS = 18


@dataclass(frozen=True)
class Arrived:
    """A message that was taken in."""

    ms: int
    span: str = ""


@dataclass(frozen=True)
class Turn:
    """A turn as its activities' spans need it."""

    ms: int
    kind: str
    span: str = ""
    parent: str = ""
    links: tuple[str, ...] = ()
    asked: bool = False  #: a person was asked about a call

    def header(self) -> dict[str, Any]:
        found = {"turn": self.span, "parent": self.parent, "links": list(self.links), "ms": self.ms}
        return {name: value for name, value in found.items() if value}

    def carried(self) -> list[Any]:
        return [self.ms, self.kind, self.span, self.parent, list(self.links), self.asked]


class Story:
    """One object a workflow run."""

    def __init__(self, *, traced: bool) -> None:
        self._traced = traced
        self._arrived: dict[str, Arrived] = {}
        self._turns: dict[str, Turn] = {}

    def begins(self, headers: Headers, args: Sequence[Any]) -> None:
        """A run begins: with what the one before it knew, or with the message of a one-message session."""
        told = unpacked(headers, CARRIED)
        for scoped, row in mapping(told.get("messages")).items():
            self._arrived[scoped] = Arrived(int(row[0]), str(row[1]))
        for turn, row in mapping(told.get("turns")).items():
            self._turns[turn] = Turn(int(row[0]), str(row[1]), str(row[2]), str(row[3]), tuple(row[4]), bool(row[5]))
        if not told and args and isinstance(args[0], Mapping):
            inbox = mapping(cast(Raw, args[0]).get("inbox"))
            for message in cast(list[Raw], inbox.get("head") or []):
                self._take(message, headers)

    def received(self, headers: Headers, args: Sequence[Any]) -> None:
        """A message came; one that cannot be read is nobody's."""
        message = _message_of(args)
        if message is not None:
            self._take(message, headers)

    def _take(self, message: Raw, headers: Headers) -> None:
        told = unpacked(headers, MESSAGE)
        sent = told.get("ms")
        ms = sent if isinstance(sent, int) else _now_ms()
        self._arrived.setdefault(_scoped(message), Arrived(ms, str(told.get("span", ""))))
        while len(self._arrived) > MESSAGES:
            del self._arrived[next(iter(self._arrived))]

    @staticmethod
    def skipped(reason: str) -> None:
        """The session does not run the beat that just came."""
        workflow.metric_meter().create_counter("agent_session_heartbeats_skipped").add(1, {"reason": reason})

    def takes_up(self, request: Raw) -> None:
        """A model step begins; with its messages, perhaps a turn."""
        messages = cast(list[Raw], request.get("messages") or [])
        found = [self._arrived.pop(_scoped(one), None) for one in messages]
        turn = str(request.get("turn", ""))
        if turn in self._turns or not messages:
            return
        came = [one for one in found if one is not None] or [Arrived(_now_ms())]
        first = min(came, key=lambda one: one.ms)
        kind, waited_ms = str(messages[0].get("kind", "person")), max(0, _now_ms() - first.ms)
        workflow.metric_meter().create_histogram_float("agent_session_queue_wait_seconds", unit="s").record(
            waited_ms / 1e3, {"kind": kind}
        )
        spans = [one.span for one in came if one.span]
        parent = first.span if waited_ms < LATE_MS else ""
        links = tuple(one for one in spans if one != parent)[:16]
        span = turn_parent(turn, parent) if self._traced else ""
        self._turns[turn] = Turn(first.ms, kind, span, parent, links)
        while len(self._turns) > TURNS:
            del self._turns[next(iter(self._turns))]

    def answered_aside(self, request: Raw) -> None:
        self._arrived.pop(_scoped(mapping(request.get("message"))), None)

    def header_for(self, turn: str) -> dict[str, Any]:
        found = self._turns.get(turn[:TURN_ID_CHARS])
        return found.header() if self._traced and found is not None and found.span else {}

    def answered(self, turn: str, answer: Raw) -> None:
        """A model step is done: whether it asks a person, whose time is not ours."""
        known = self._turns.get(turn)
        if known is not None and any(call.get("verdict") == ASK for call in answer.get("calls") or ()):
            self._turns[turn] = replace(known, asked=True)

    def ended(self, turn: str, outcome: str) -> None:
        known = self._turns.get(turn)
        if known is not None and outcome:
            seconds = max(0, _now_ms() - known.ms) / 1e3
            meter = workflow.metric_meter().create_histogram_float("agent_session_turn_duration_seconds", unit="s")
            asked = "yes" if known.asked else "no"
            meter.record(seconds, {"kind": known.kind, "outcome": outcome, "approval": asked})

    def carried(self) -> Payload | None:
        """For the next run; nothing where nothing is open."""
        workflow.metric_meter().create_counter("agent_session_roll_overs").add(1)
        waiting = list(self._arrived.items())[-MESSAGES_CARRIED:]
        messages = {scoped: [one.ms, one.span] for scoped, one in waiting}
        turns = {name: one.carried() for name, one in self._turns.items()}
        return packed({"messages": messages, "turns": turns}) if messages or turns else None


def _now_ms() -> int:
    return int(workflow.time() * 1000)


def _scoped(message: Raw) -> str:
    return scoped_id(*(str(message.get(name, "")) for name in ("channel", "principal", "id")))


def _message_of(args: Sequence[Any]) -> Raw | None:
    """A dynamic handler's arguments are raw."""
    for one in args:
        inner = cast(list[Any], one)[0] if isinstance(one, list) and one else cast(Any, one)
        if isinstance(inner, RawValue):
            try:
                found: Any = json.loads(inner.payload.data)
            except ValueError:
                return None
            return cast(Raw, found) if isinstance(found, dict) else None
    return None
