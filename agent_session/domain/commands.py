"""Slash commands that the session itself answers, without a model call, also while a turn runs.

Pure: what a message means. What it does is decided by the activity `answer_aside` and the workflow.
"""

from agent_session.domain.messages import PERSON, InboundMessage

STATUS, STOP, NEW, MODEL, QUEUE, HELP, ALLOW, DENY = (
    "status", "stop", "new", "model", "queue", "help", "allow", "deny"
)  # fmt: skip
COMMANDS: dict[str, str] = {
    STATUS: "what this session is doing",
    STOP: "stop the running turn",
    NEW: "begin anew: the next turn sees nothing from before",
    MODEL: "show the model, or choose one: /model anthropic:claude-sonnet-4-5",
    QUEUE: "messages that wait",
    ALLOW: "allow (or approve) a call that waits: /allow CODE, or calls like it too: /allow CODE always [PATTERN]",
    DENY: "deny a call that waits: /deny CODE why",
    HELP: "this list",
}

ALIASES = {"approve": ALLOW}  #: other words for the same command


def command_of(message: InboundMessage) -> tuple[str, str] | None:
    """The command's word and what stands behind it, or None for a message that is none."""
    if message.kind != PERSON or not message.text.startswith("/") or message.attachments:
        return None
    word, _, rest = message.text[1:].strip().partition(" ")
    word = ALIASES.get(word, word)
    return (word, rest.strip()) if word in COMMANDS else None


def is_alias(message: InboundMessage) -> bool:
    """Whether a command is said with another word than its own: older workflows did not know those."""
    return message.text[1:].strip().partition(" ")[0] in ALIASES
