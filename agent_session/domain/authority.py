"""Authority comes from authentication, never from text (I10).

A channel that has authenticated somebody signs what they said with the key of the data directory.
Activities check the signature before a turn opens and before a tool has an effect: who can merely
reach Temporal, and does not hold the key, commands nothing. HMAC-SHA256, cut to 16 bytes.
"""

import hashlib
import hmac
import json
from dataclasses import replace

from agent_session.domain.messages import InboundMessage
from agent_session.domain.patterns import AllowedPattern
from agent_session.domain.turns import Decision

ALLOW, DENY = "allow", "deny"
APPROVE_GRANT, SHELL_GRANT = "approve", "shell"


def sign_message(key: bytes, session: str, message: InboundMessage) -> InboundMessage:
    """The message with `mac`, and `reply_mac` where it names a place."""
    place = sign_place(key, session, message.reply_address) if message.reply_address else ""
    placed = replace(message, reply_mac=place)
    return replace(placed, mac=_message_mac(key, session, placed))


def message_is_signed(key: bytes, session: str, message: InboundMessage) -> bool:
    return hmac.compare_digest(message.mac, _message_mac(key, session, message))


def sign_place(key: bytes, session: str, address: str) -> str:
    return _mac(key, "place", session, address)


def place_is_signed(key: bytes, session: str, address: str, mac: str) -> bool:
    return hmac.compare_digest(mac, sign_place(key, session, address))


def sign_decision(key: bytes, session: str, call: str, digest: str, decision: Decision) -> str:
    """A person's answer on one tool call, bound to what exactly would run (`digest`)."""
    what = (decision.decision, decision.principal, list(decision.grants))
    more = (decision.pattern, decision.reason) if decision.pattern or decision.reason else ()
    return _mac(key, "decision", session, call, digest, *what, *more)


def decision_is_signed(key: bytes, session: str, call: str, digest: str, decision: Decision) -> bool:
    return hmac.compare_digest(decision.mac, sign_decision(key, session, call, digest, decision))


def sign_pattern(key: bytes, session: str, allowed: AllowedPattern) -> AllowedPattern:
    """A worker that has checked the decision says that calls like this may run."""
    what = (allowed.tool, allowed.pattern, allowed.principal, allowed.confinement)
    return replace(allowed, mac=_mac(key, "allowed", session, *what))


def pattern_is_signed(key: bytes, session: str, allowed: AllowedPattern) -> bool:
    return hmac.compare_digest(allowed.mac, sign_pattern(key, session, allowed).mac)


def sign_stored(key: bytes, *parts: object) -> str:
    """Of what stands on the volume: first what it is, then whose, as far as its content does not say so."""
    return _mac(key, *parts)


def _message_mac(key: bytes, session: str, message: InboundMessage) -> str:
    """Mode and kind are left out: they carry no authority, and an old worker reads new words as default."""
    return _mac(
        key,
        "message",
        session,
        message.id,
        message.channel,
        message.principal,
        list(message.grants),
        message.text,
        message.text_ref,
        message.reply_address,
        list(message.attachments),
    )


def _mac(key: bytes, *parts: object) -> str:
    return hmac.new(key, json.dumps(parts, sort_keys=True).encode(), hashlib.sha256).hexdigest()[:32]
