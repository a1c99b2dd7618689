"""Failed attempts to come in, by address: a few a minute are answered 401, more 429. A right token is never held
up: whoever shares the address must not be locked out."""

import time

PER_MINUTE = 20
ADDRESSES = 4_096


class FailedAttempts:
    """Of the last minute."""

    def __init__(self) -> None:
        self._failed: dict[str, list[float]] = {}

    def note(self, address: str) -> int:
        """One more; returns after how many seconds the address may fail again, 0 while it may."""
        now = time.monotonic()
        recent = [at for at in self._failed.pop(address, ()) if now - at < 60]
        wait = 0 if len(recent) < PER_MINUTE else max(1, round(60 - (now - recent[0])))
        if not wait:
            recent.append(now)
        self._failed[address] = recent
        while len(self._failed) > ADDRESSES:
            del self._failed[next(iter(self._failed))]
        return wait
