"""Ids of responses: each names its session and its message, and is signed for the token that it was made for.

Pure but for the volume's key. Nobody else can use one, nor learn whether it was ever given (I10).
"""

import base64
import binascii
import hashlib
import hmac
from typing import cast

import orjson

from agent_session.gateway.errors import Problem
from agent_session.gateway.openai_names import Place
from agent_session.gateway.route import Call
from agent_session.gateway.state import Gateway

PREFIX = "resp_"
MAC_BYTES = 16
FIELD = "previous_response_id"


def response_id(gateway: Gateway, call: Call, place: Place) -> str:
    """Errors: VolumeUnavailable."""
    said = orjson.dumps([place.key, place.id])
    return PREFIX + base64.urlsafe_b64encode(_mac(gateway, call, said) + said).decode().rstrip("=")


def session_of(gateway: Gateway, call: Call, id: str) -> str:
    """The session of an answer that this token was given, and still reaches. Errors: Problem 404,
    VolumeUnavailable."""
    unknown = Problem(404, "no_such_response", f"{FIELD}: this token was given no response of that id", FIELD)
    text = id.removeprefix(PREFIX)
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise unknown from None
    mac, said = raw[:MAC_BYTES], raw[MAC_BYTES:]
    if not id.startswith(PREFIX) or not hmac.compare_digest(mac, _mac(gateway, call, said)):
        raise unknown
    key = cast(list[str], orjson.loads(said))[0]
    if not call.access.reaches(key):
        raise unknown
    return key


def _mac(gateway: Gateway, call: Call, said: bytes) -> bytes:
    secret = gateway.volume.signing_key(gateway.settings.mac_key_file)
    signed = orjson.dumps(["response", call.access.principal]) + said
    return hmac.new(secret, signed, hashlib.sha256).digest()[:MAC_BYTES]
