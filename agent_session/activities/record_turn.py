"""The activity `record_turn`: close a turn that did not end by itself, from what the transcript says
(I5). Retried without limit: no turn opens until the one before is closed."""

import asyncio

from agent_session.activities.attempt import Run
from agent_session.activities.model_step import notes_of
from agent_session.activities.watchers import tell_turn_ended
from agent_session.activities.words import words_of
from agent_session.domain.authority import message_is_signed
from agent_session.domain.failures import FailureEnvelope
from agent_session.domain.limits import REPLY_BYTES
from agent_session.domain.replies import FAILED
from agent_session.domain.turns import ClosedTurn, CloseInput
from agent_session.live.events import TURN_ENDED, LiveEvent
from agent_session.operations import Services
from agent_session.telemetry import measure
from agent_session.transcript import lines as L
from agent_session.transcript.reader import reply_of
from agent_session.transcript.recorder import Words
from agent_session.transcript.spool import BadReference


async def close_turn(services: Services, request: CloseInput, run: Run) -> ClosedTurn:
    """Returns the end that the transcript has, which may be an earlier one. Errors: VolumeUnavailable,
    VolumeFault."""
    key = await asyncio.to_thread(services.volume.signing_key, services.settings.mac_key_file)
    words: list[Words] = []
    for message in request.messages:
        if message_is_signed(key, request.key, message):
            try:
                words.append(await asyncio.to_thread(words_of, services, request.key, message))
            except (BadReference, FileNotFoundError):
                continue  # its text is lost; the apology says so
    ended = L.event_line(request.turn, L.ENDED, outcome=request.outcome)
    if request.outcome == FAILED:
        envelope = FailureEnvelope(kind=request.failure or "internal", error_id=request.error_id)
        ended |= {"failure": envelope.kind, "error_id": envelope.error_id, "content": envelope.apology}
    notes = notes_of(request.turn, fresh=request.fresh, chosen=request.chosen, choice=request.choice)
    recorded = await services.record.close(request.key, request.turn, words, ended, run, notes)
    outcome = str(recorded.line.get("outcome", request.outcome))
    begun = LiveEvent(session=request.key, kind=TURN_ENDED, turn=request.turn, n=int(recorded.line.get("n", 0)))
    text = ""
    if recorded.written_before and recorded.line.get("outcome") == "answered":
        found = await asyncio.to_thread(reply_of, services.volume, request.key, request.turn)
        text = found[0] if found else ""
    tell_turn_ended(services.live, begun, recorded.line, text, {})
    if not recorded.written_before:
        model, failure = request.choice or services.model.name, str(recorded.line.get("failure", ""))
        measure.turn_ended(request.key, outcome, model=model, failed=failure)
    fits = len(text.encode("utf-8", "replace")) <= REPLY_BYTES
    return ClosedTurn(
        seq=recorded.seq,
        n=int(recorded.line.get("n", 0)),
        outcome=outcome,
        text=text if fits else "",
        text_ref=not fits,
        failure=str(recorded.line.get("failure", "")),
        error_id=str(recorded.line.get("error_id", "")),
    )
