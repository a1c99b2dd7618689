"""Server-sent events as our gateway writes them, from bytes to events. Pure.

Lines end with LF or CRLF. What is no field we know is left out, as the standard has it; comments are handed on.
"""

from dataclasses import dataclass

LONGEST_BYTES = 80 * 1024 * 1024  #: of one event; a transcript's line is smaller


COMMENT = ":"  #: the kind of a comment, which is no event


@dataclass(frozen=True)
class ServerEvent:
    kind: str
    data: bytes
    id: str = ""


class EventParser:
    """Of one stream, whose pieces may be cut anywhere."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._searched = 0
        self._kind, self._id = "", ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """The events that this piece ends. Errors: ValueError for one that is too long to be ours."""
        self._rest += piece
        found: list[ServerEvent] = []
        start = 0
        while (end := self._rest.find(b"\n", max(start, self._searched))) >= 0:
            line = bytes(self._rest[start:end]).removesuffix(b"\r")
            start = end + 1
            if line.startswith(b":"):
                found.append(ServerEvent(COMMENT, line[1:].strip()))
            elif line:
                self._field(line)
            elif (event := self._event()) is not None:
                found.append(event)
        del self._rest[:start]
        self._searched = len(self._rest)
        if self._size + self._searched > LONGEST_BYTES:
            raise ValueError(f"the gateway sent an event of more than {LONGEST_BYTES >> 20} MiB")
        return found

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
        elif name == b"event":
            self._kind = value.decode("utf-8", "replace")
        elif name == b"id":
            self._id = value.decode("utf-8", "replace")

    def _event(self) -> ServerEvent | None:
        """At an empty line; None where there was no data."""
        event = ServerEvent(self._kind, b"\n".join(self._data), self._id) if self._data else None
        self._kind, self._id, self._data, self._size = "", "", [], 0
        return event
