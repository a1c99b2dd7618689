"""The numbers that bound a session, in one place. Bytes are UTF-8 bytes unless a name says otherwise.

Sources: docs/architecture.md, "Invariants" and "Numbers"; Temporal's own limits per workflow run are
51,200 events, 50 MB, 10,000 signals and 2,000 updates.
"""

from typing import Final

SIGNAL_BYTES: Final = 2 * 1024  #: a signal as encoded; longer text goes to the volume first
MESSAGE_BYTES: Final = 2 * SIGNAL_BYTES  #: what the workflow takes from a signal; more is answered with an apology
KEY_BYTES: Final = 200  #: a session key, NFC
ID_CHARS: Final = 256  #: a message id, a principal, a reply address

BATCH_MESSAGES: Final = 64  #: messages one turn opens with
BATCH_BYTES: Final = 64 * 1024  #: their encoded size

INBOX_BYTES: Final = 160 * 1024  #: pending messages kept in workflow memory; the rest spills (I1 allows 256 KiB)
INBOX_HEAD_BYTES: Final = 80 * 1024  #: the part of it that stands before the spilled files
SPILL_MESSAGES: Final = 64  #: messages a spill file holds
PENDING_MESSAGES: Final = 10_000  #: beyond it a message is refused with an answer that says so
BACKGROUND_MESSAGES: Final = 64  #: heartbeats and system messages held back behind people
ANSWERED_IDS: Final = 1_000  #: answered message ids remembered for dedup and late waiters

REPLY_BYTES: Final = 8 * 1024  #: a reply that rides in an activity result; longer ones go by reference
REPLIES_CARRIED: Final = 20
REPLIES_BYTES: Final = 64 * 1024
PREVIEW_CHARS: Final = 500
OUTBOX_DELIVERIES: Final = 200

TURNS_PER_RUN: Final = 50
UPDATES_PER_RUN: Final = 1_500  #: the server refuses the 2,001st
STATE_BYTES: Final = 512 * 1024
ENVELOPE_BYTES: Final = 2 * 1024  #: a failure as it travels through Temporal

CALLS_PER_STEP: Final = 64
ARGUMENT_BYTES: Final = 1024 * 1024  #: arguments of one tool call
INLINE_RESULT_BYTES: Final = 16 * 1024  #: a tool result in the transcript line; larger ones become artifacts
INLINE_TEXT_BYTES: Final = 64 * 1024  #: a person's words in the transcript line
SPOOL_BYTES: Final = 64 * 1024 * 1024  #: one spooled text or attachment
TAIL_LINES: Final = 1_000  #: lines looked at for ids that were answered before
