"""What a typed line means: a message, a steering word, a command of the terminal or of the session. Pure."""

import re
from dataclasses import dataclass

MESSAGE, STEER, SESSION, UNKNOWN, WRONG, NOTHING = "message", "steer", "session", "unknown", "wrong", "nothing"
SESSIONS, SWITCH, EXPAND, ATTACH, QUIT, HELP = "/sessions", "/switch", "/expand", "/attach", "/quit", "/help"

OF_SESSION = {
    "/status": "what the session is doing",
    "/stop": "stop the running turn",
    "/new": "forget the talk so far",
    "/model": "show or choose the model",
    "/queue": "what waits, and how it is taken",
    "/allow": "allow a call that waits",
    "/deny": "deny a call that waits",
}
OF_TERMINAL = {
    HELP: "this list",
    SESSIONS: "list the sessions",
    SWITCH: "KEY: talk to another session",
    EXPAND: "[N]: what the last (the Nth last) tool call was given and gave",
    ATTACH: "PATH: send a file with the next message",
    QUIT: "leave (also /exit, Ctrl-D)",
}
KEYS = {
    "!words": "steer the running turn; other words wait for the next one",
    "Alt-Enter": "a new line",
    "Tab, Up": "complete; earlier lines",
    "Ctrl-C": "cancel the turn, or clear the line; twice: leave",
}
WORD = re.compile(r"/[a-z]+\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Typed:
    kind: str
    text: str = ""
    number: int = 0


def parse(line: str) -> Typed:
    """A path such as /etc/hosts at the beginning is no command: those are one word without another slash."""
    text = line.strip()
    if not text:
        return Typed(NOTHING)
    if text.startswith("!"):
        steering = text[1:].strip()
        return Typed(STEER, steering) if steering else Typed(NOTHING)
    word, _, rest = text.partition(" ")
    if not WORD.match(word):
        return Typed(MESSAGE, line.strip("\n"))
    word, rest = word.lower(), rest.strip()
    if word == "/exit":
        return Typed(QUIT)
    if word in OF_SESSION:
        return Typed(SESSION, text)
    if word not in OF_TERMINAL:
        return Typed(UNKNOWN, f"there is no command {word}; /help lists them")
    if word in (SWITCH, ATTACH) and not rest:
        return Typed(WRONG, f"{word} needs a {'session' if word == SWITCH else 'path'}: {word} {OF_TERMINAL[word]}")
    if word == EXPAND:
        number = int(rest) if rest.isdecimal() else 0 if rest else 1
        return Typed(EXPAND, number=number) if number else Typed(WRONG, "/expand takes a number: 1 is the last call")
    return Typed(word, rest)


def help_lines() -> list[str]:
    return [f"  {word:<10} {what}" for word, what in {**OF_TERMINAL, **OF_SESSION, **KEYS}.items()]
