"""Whether a call may run here and now, checked again right before it does (I10).

Whoever merely reaches Temporal commands nothing: a decision counts only with its signature, from somebody
who may decide, for exactly what would run on this very worker. Anything else is asked about again.
"""

from dataclasses import dataclass

from agent_session.activities.judge import digest_of, where_it_runs
from agent_session.domain.authority import ALLOW, APPROVE_GRANT, decision_is_signed, sign_pattern
from agent_session.domain.patterns import PATTERN_CHARS, AllowedPattern
from agent_session.domain.turns import NOBODY_ANSWERED, RUN, Decision, ToolInput
from agent_session.operations import Services
from agent_session.transcript.lines import Line


@dataclass(frozen=True)
class Permission:
    """`outcome` empty: it may run. Otherwise a result word with `why`; or `asks`, with the digest to ask for."""

    outcome: str = ""
    why: str = ""
    digest: str = ""


def permission(services: Services, request: ToolInput, line: Line) -> Permission:
    """Errors: VolumeUnavailable."""
    name, args = str(line["name"]), str(line["args"])
    why = services.toolbox.why_not(name)
    if why:
        return Permission("refused", f"Not run: {why}.")
    digest = digest_of(services, request.key, name, args)
    if request.decision is None and line.get("verdict") == RUN:
        same = digest == line.get("digest")
        asks = services.toolbox.why_ask(name, args, None)  # the grants were checked when it was judged
        return Permission("asks", asks, digest) if asks and not (same and line.get("allowed_by")) else Permission()
    return _by_decision(services, request, str(line["id"]), digest, request.digest or str(line.get("digest")))


def _by_decision(services: Services, request: ToolInput, call: str, here: str, asked: str) -> Permission:
    given = request.decision
    if given is None:
        return Permission("denied", "Not run: nobody who may allow it has done so.")
    if _is_signed(services, request.key, call, here, given):
        if APPROVE_GRANT not in given.grants and given.decision == ALLOW:
            return Permission("denied", f"Not run: {given.principal} may not allow it.")
        if given.decision == ALLOW:
            return Permission()
        return Permission("denied", f"A person did not allow this call. {given.reason}".strip())
    if given.decision != ALLOW and _is_signed(services, request.key, call, asked, given):
        return Permission("denied", f"A person did not allow this call. {given.reason}".strip())
    if given.decision == ALLOW and _is_signed(services, request.key, call, asked, given):
        return Permission("asks", "what would run on this worker differs from what was allowed", here)
    known = given.reason if given.reason == NOBODY_ANSWERED else ""  # other unsigned words are nobody's
    return Permission("denied", f"Not run: nobody who may allow it has done so. {known}".strip())


def _is_signed(services: Services, key: str, call: str, digest: str, given: Decision) -> bool:
    secret = services.volume.signing_key(services.settings.mac_key_file)
    return decision_is_signed(secret, key, call, digest, given)


def pattern_allowed(services: Services, request: ToolInput, line: Line, principal: str) -> AllowedPattern | None:
    """What the decision allows beyond this call, signed by this worker; None when it does not, or when its
    pattern does not even cover this call. `principal`: whose words opened the turn."""
    given, name = request.decision, str(line["name"])
    if given is None or not given.pattern or len(given.pattern) > PATTERN_CHARS:
        return None
    if not services.toolbox.matches(name, str(line["args"]), given.pattern):
        return None
    here = where_it_runs(services, request.key)
    allowed = AllowedPattern(tool=name, pattern=given.pattern, principal=principal, confinement=here)
    return sign_pattern(services.volume.signing_key(services.settings.mac_key_file), request.key, allowed)
