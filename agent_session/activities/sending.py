"""What a tool sends to a place: words and files go to the session's spool, the delivery to the workflow's outbox.

Nothing of them travels through Temporal but their references (I2). The address is signed by who has judged it (I10).
"""

import asyncio
import re
from collections.abc import Sequence

from agent_session.domain.authority import sign_place
from agent_session.domain.messages import Attachment
from agent_session.domain.outbox import Delivery
from agent_session.operations import Services
from agent_session.tools import ToolError
from agent_session.tools.base import NamedFile
from agent_session.transcript import spool

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\x85]")


class Sending:
    """One object a call; `sent` is what its result carries, when it ends well."""

    def __init__(self, services: Services, key: str, turn: str, call: str, sent: list[Delivery]) -> None:
        self._services, self._key, self._turn, self._call, self._sent = services, key, turn, call, sent

    async def __call__(self, address: str, text: str, files: Sequence[NamedFile] = ()) -> None:
        """Errors: ToolError for an address that its channel can never post to; VolumeUnavailable."""
        address = address or (await self._services.record.speaker(self._key, self._turn)).place
        if not address:
            raise ToolError("this turn came from no place that messages can be sent to: answer it, or name an address")
        if self._services.check_address is not None:
            try:
                self._services.check_address(address)
            except ValueError as error:
                raise ToolError(f"nothing was sent: {error}") from None
        self._sent.append(await asyncio.to_thread(self._stored, address, text, files))

    def _stored(self, address: str, text: str, files: Sequence[NamedFile]) -> Delivery:
        secret = self._services.volume.signing_key(self._services.settings.mac_key_file)
        listed = "\n".join(self._attached(one).wire for one in files)
        name = f"{self._call}-{len(self._sent)}" if self._sent else self._call
        return Delivery(
            reply=name,
            address=address,
            mac=sign_place(secret, self._key, address),
            files_ref=self._put(listed.encode("utf-8", "replace")) if listed else "",
            text_ref=self._put(text.encode("utf-8", "replace")),
        )

    def _attached(self, file: NamedFile) -> Attachment:
        name = UNPRINTABLE.sub("_", file.name) or "file"
        return spool.attach(self._services.volume, self._key, file.data, name)

    def _put(self, data: bytes) -> str:
        return spool.put(self._services.volume, self._key, data)
