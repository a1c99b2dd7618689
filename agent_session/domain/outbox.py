"""Replies on their way to a channel: references only, one in flight per place, oldest first.

Pure. The main loop never waits for one: a channel that is down holds up nobody.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from agent_session.domain.limits import OUTBOX_DELIVERIES


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One reply to one place. The channel looks the reply id up after a crash, so it posts once."""

    reply: str  #: the turn's id
    address: str  #: `<channel>:<place>`
    mac: str = ""  #: signs the address (I10)
    outcome: str = "answered"
    failure: str = ""  #: class word, so that an apology needs no volume (I6)
    error_id: str = ""
    text_ref: str = ""  #: words of their own in the spool, not a turn's reply
    files_ref: str = ""  #: the list of files that go with them, in the spool
    unless_ok: bool = False  #: a heartbeat's reply: HEARTBEAT_OK is not posted

    @property
    def channel(self) -> str:
        return self.address.partition(":")[0]


class Outbox:
    """Deliveries in order."""

    def __init__(self, carried: Iterable[Delivery] = (), dropped: int = 0) -> None:
        self._waiting: list[Delivery] = list(carried)
        self._in_flight: dict[str, Delivery] = {}
        self.dropped = dropped  #: given up because a channel stayed away too long

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, delivery: Delivery) -> None:
        self._waiting.append(delivery)
        if len(self._waiting) > OUTBOX_DELIVERIES:
            oldest = next(one for one in self._waiting if one not in self._in_flight.values())
            self._waiting.remove(oldest)
            self.dropped += 1

    def startable(self) -> list[Delivery]:
        """The oldest of each place that has none in flight; they count as in flight from now on."""
        started: list[Delivery] = []
        for delivery in self._waiting:
            if delivery.address not in self._in_flight:
                self._in_flight[delivery.address] = delivery
                started.append(delivery)
        return started

    def delivered(self, delivery: Delivery) -> None:
        self._in_flight.pop(delivery.address, None)
        self._waiting.remove(delivery)

    def abandoned(self, delivery: Delivery) -> None:
        """Its attempt was cancelled before it began: it stays first in line."""
        self._in_flight.pop(delivery.address, None)

    def carried(self) -> tuple[Delivery, ...]:
        return tuple(self._waiting)
